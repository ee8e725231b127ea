"""A queue for propagation: one runs at a time, the others know their places."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turns:
    """A queue, first come first served."""

    def __init__(self) -> None:
        self._queue: list[object] = []
        self._moved = threading.Condition()

    @contextmanager
    def turn(self, stopped: threading.Event, tell: Callable[[int], None]) -> Iterator[bool]:
        """Wait for one's turn and hold it; yields False if `stopped` was set before the turn came.

        `tell` is called with the number of those ahead whenever it changes. Call `wake` after setting `stopped`.
        """
        ticket, last = object(), None
        with self._moved:
            self._queue.append(ticket)
            try:
                while (place := self._queue.index(ticket)) and not stopped.is_set():
                    if place != last:
                        last = place
                        tell(place)
                    self._moved.wait()
            except BaseException:
                self._leave(ticket)
                raise
        try:
            tell(0)
            yield not stopped.is_set()
        finally:
            with self._moved:
                self._leave(ticket)

    def wake(self) -> None:
        """Let those who wait see that they were stopped."""
        with self._moved:
            self._moved.notify_all()

    def _leave(self, ticket: object) -> None:
        self._queue.remove(ticket)
        self._moved.notify_all()
