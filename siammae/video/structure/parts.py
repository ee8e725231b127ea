"""The parts of a container in the order in which they lie in a file, walked only as far as asked."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from siammae.video.structure import chunks, matroska, pages
from siammae.video.structure.file import CUT, Broken, File

__all__ = ["CUT", "Broken", "Structure"]

WALKS: dict[str, Callable[[File], Iterator[int]]] = {
    "asf": chunks.asf,
    "avi": chunks.avi,
    "flv": chunks.flv,
    "gif": pages.gif,
    "matroska": matroska.matroska,
    "mov": chunks.fragmented_mp4,
    "mpegts": pages.mpegts,
    "mxf": chunks.mxf,
    "ogg": pages.ogg,
    "yuv4mpegpipe": pages.y4m,
}  # by FFmpeg's name of the format


class Structure:
    """The structure of one file, if its format has one that can be followed.

    Args:
        source: path of the file, or its bytes.
        formats: FFmpeg's names of its format.
    """

    def __init__(self, source: Path | bytes, formats: set[str]) -> None:
        walk = next((WALKS[name] for name in sorted(formats & set(WALKS))), None)
        self._stream: BinaryIO | None = None
        self._before = self._reached = 0  # ends of the last two parts
        self._sound = 0  # what lies before this byte is whole
        self._ends: Iterator[int] = iter(())
        self._broken: Broken | None = None
        self._done = walk is None
        if walk is not None:
            self._stream = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            self._ends = walk(File(self._stream))

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def broken_before(self, end: float) -> Broken | None:
        """Return how the file is broken before its byte `end`, or None if it is whole up to there.

        Where the parts stop to make sense, the last one that did is damaged too: the harm begins somewhere in it.
        """
        while not self._done and self._before < end:  # one part further, to know that the last one is sound
            try:
                self._before, self._reached = self._reached, next(self._ends)
            except StopIteration:
                self._done = True
            except Broken as broken:
                self._broken, self._done = broken, True
                self._sound = broken.position if broken.reason == CUT else self._before
        return self._broken if self._broken is not None and self._sound < end else None
