"""Requests to stop: a scheduler's SIGTERM or a Ctrl-C, read between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests() -> Iterator[list[str]]:
    """Yield a list that receives a signal's name when SIGTERM or SIGINT arrives; the process does not end."""
    received: list[str] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C ends the process at once
        received.append(signal.Signals(number).name)

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
