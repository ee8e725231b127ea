"""Video files as sequences of frames."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from siammae.video.damage import Damage, Lost
from siammae.video.decode import VideoDecoder
from siammae.video.index import IndexMismatch, VideoIndex
from siammae.video.pixels import as_pixels, as_rgb
from siammae.video.sequence import REVERSED_WINDOW, Frames

Pixels = TypeVar("Pixels")

FIRST_INDEXED = 1024  # frames whose times are listed when the first one is read by number


class VideoFile(Frames):
    """A file that PyAV decodes."""

    def __init__(self, path: Path) -> None:
        self.path, self.label = path, str(path)
        with VideoDecoder(path) as decoder:
            self.fps, self.length = decoder.fps, decoder.length
        self._window = REVERSED_WINDOW
        self._index: VideoIndex | None = VideoIndex([], [], complete=False)  # grows on demand; None: the file allows none
        self._count: int | None = None
        self._aspect: Fraction | None = None

    @property
    def pixel_aspect(self) -> Fraction:
        if self._aspect is None:
            with VideoDecoder(self.path) as decoder:
                self._aspect = decoder.pixel_aspect()
        return self._aspect

    def __len__(self) -> int:
        if self._count is None:
            index = self._indexed(None)
            with VideoDecoder(self.path) as decoder:
                self._count = len(index.times) if index is not None and index.complete else sum(1 for _ in decoder.frames())
        return self._count

    def _indexed(self, number: int | None) -> VideoIndex | None:
        """Return an index that reaches to frame `number` or the last one, or None if the file allows none."""
        index = self._index
        if index is not None and not index.complete and (number is None or number >= len(index.times)):
            with VideoDecoder(self.path) as decoder:
                self._index = decoder.index(None if number is None else max(2 * number, FIRST_INDEXED))
        return self._index

    def _read(self) -> Iterator[Tensor]:
        with VideoDecoder(self.path) as decoder:
            yield from map(as_rgb, decoder.frames())

    def past_damage(self) -> Iterator[Tensor | Damage | Lost]:
        with VideoDecoder(self.path) as decoder:
            for item in decoder.frames_past_damage():
                yield item if isinstance(item, Damage | Lost) else as_rgb(item)

    def pictures(self, numbers: Sequence[int], most: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames of these numbers, which ascend, as [H, W, 3], reduced to at most `most` pixels a side.

        Reducing a frame before it becomes RGB takes a tenth of the time that it takes afterwards.
        """
        return self._decoded(numbers, lambda frame: as_pixels(frame, min(1, most / max(frame.width, frame.height))))

    def _pick(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        return self._decoded(numbers, as_rgb)

    def _decoded(self, numbers: Sequence[int], convert: Callable[[Any], Pixels]) -> Iterator[Pixels]:
        """Yield the frames of these numbers, which ascend, as `convert` turns PyAV's frames."""
        if not numbers:
            return
        index, done = self._indexed(numbers[-1]), 0
        with VideoDecoder(self.path) as decoder:
            if index is not None:
                try:
                    within = numbers[: bisect_left(numbers, len(index.times))]
                    for frame in decoder.frames_at(within, index):
                        yield convert(frame)
                        done += 1
                    if done == len(numbers):
                        return
                    if index.complete:
                        raise self._no_frame(len(index.times), numbers[-1])
                except IndexMismatch:
                    self._index = self._count = None
            wanted, count = set(numbers[done:]), 0
            for count, frame in enumerate(decoder.frames(), 1):
                if count - 1 in wanted:
                    yield convert(frame)
                if count > numbers[-1]:
                    return
            raise self._no_frame(count, numbers[-1])
