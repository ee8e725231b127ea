"""A propagation in the background: it waits for its turn, runs, and can be stopped at any time."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Literal

from siammae.app.turns import Turns

State = Literal["queued", "running", "done", "stopped", "failed"]


class SessionEnded(LookupError):
    """An error raised by a session that was closed."""


class Job:
    """One propagation in a thread of its own.

    Args:
        steps: the propagation: calls its argument with the number of labels to come, then yields each frame's number when
            it is done.
        turns: queue to wait in.
    """

    def __init__(self, steps: Callable[[Callable[[int], None]], Generator[int, None, None]], turns: Turns) -> None:
        self._steps, self._turns = steps, turns
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="propagate", daemon=True)
        self.state: State = "queued"
        self.ahead, self.done, self.total = 0, 0, 0
        self.frame: int | None = None
        self.message = ""
        self.seconds = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the present frame, or leave the queue."""
        self._stop.set()
        self._turns.wake()

    def wait(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")

    def status(self) -> dict[str, Any]:
        """Return the state as plain values for the page."""
        return {
            "state": self.state,
            "ahead": self.ahead,
            "done": self.done,
            "total": self.total,
            "frame": self.frame,
            "seconds": round(self.seconds, 2),
            "message": self.message,
        }

    def _run(self) -> None:
        try:
            with self._turns.turn(self._stop, self._tell) as is_on:
                self.state = self._work() if is_on else "stopped"
        except SessionEnded:
            self.state = "stopped"
        except (ValueError, OSError) as error:
            self.message, self.state = str(error), "failed"
        except BaseException:
            self.message, self.state = "propagation failed; the terminal of the app says why", "failed"
            raise

    def _tell(self, ahead: int) -> None:
        self.ahead = ahead

    def _expect(self, total: int) -> None:
        self.total = total

    def _work(self) -> State:
        self.state, started = "running", time.monotonic()
        with closing(self._steps(self._expect)) as steps:
            for index in steps:
                self.done, self.frame, self.seconds = self.done + 1, index, time.monotonic() - started
                if self._stop.is_set() and self.done < self.total:
                    return "stopped"
        return "done"
