"""A file read at positions, and the error for a structure that breaks."""

from typing import BinaryIO

CUT = "the file ends too early"


class Broken(Exception):
    """A structure that cannot be followed past a position.

    Attributes:
        position: byte from which on parts are missing or no longer make sense.
        reason: what is wrong there.
    """

    def __init__(self, position: int, reason: str | None = None) -> None:
        self.position, self.reason = position, reason or f"the file's structure is broken at byte {position}"
        super().__init__(self.reason)


class File:
    """A file with its size, read at positions."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = stream.seek(0, 2)

    def read(self, position: int, count: int) -> bytes:
        """Return `count` bytes, or fewer at the end of the file."""
        self._stream.seek(position)
        return self._stream.read(count)

    def number(self, position: int, count: int, order: str = "big") -> int:
        """Return the number that `count` bytes hold."""
        return int.from_bytes(self.read(position, count), "little" if order == "little" else "big")
