"""Sequences of frames: what all sources have in common, and parts of them."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import SupportsIndex, overload

from torch import Tensor

from siammae.errors import FrameIndexError, VideoError
from siammae.video.damage import Damage, Lost

REVERSED_WINDOW = 32  # decoded frames of a file that are held at once while it is read backwards


class Frames(ABC):
    """A sequence of frames, read lazily; iterating yields tensors [3, H, W].

    All but one-pass iterators also give frames by number: `frames[i]`, `frames[-1]`, `frames.at([3, 5])`, `len(frames)`;
    and `frames[10:50]`, itself such a sequence, of which nothing is read until it is used.

    Attributes:
        label: name of the source in messages.
        length: number of frames, or None where only reading to the end would tell.
        fps: frames per second of a video file or animated picture, else None.
        pixel_aspect: width of a pixel divided by its height; 1 where the source does not say. Frames are not stretched.
        names: file name without suffix of each frame of a folder, glob or list of paths, else None.
        folder: folder of the first of these files, else None.
        on_damage: what becomes of damaged frames; see `read_frames`.
    """

    label: str
    length: int | None = None
    fps: float | None = None
    names: list[str] | None = None
    folder: Path | None = None
    on_damage: str = "error"
    _window = 1  # frames that are held at once while the sequence is read backwards

    @property
    def pixel_aspect(self) -> Fraction:
        return Fraction(1)

    @abstractmethod
    def _read(self) -> Iterator[Tensor]:
        """Yield the frames from the first on, each [3, H, W]."""

    @abstractmethod
    def _pick(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        """Yield the frames of these numbers, which ascend from 0 or more; FrameIndexError past the last frame."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames, for a video file after reading its packets; TypeError for one-pass iterators."""

    def __bool__(self) -> bool:
        return True  # and not `len`, which may have to read the file

    def __iter__(self) -> Iterator[Tensor]:
        frame = None
        for frame in self._checked(enumerate(self._read())):
            yield frame
        if frame is None:
            raise VideoError(f"{self.label} holds no frames")

    @overload
    def __getitem__(self, index: SupportsIndex) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> "Frames": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Tensor | Frames":
        """Return one frame [3, H, W] by its number, or a lazily read part of the sequence by a slice.

        A negative number counts from the end. A loop over numbers decodes a video from a key frame for each of them; `at`
        and slices decode every frame once.
        """
        if isinstance(index, slice):
            return Part(self, range(len(self))[index])
        return self.at([index])[0]

    def at(self, indices: Iterable[SupportsIndex]) -> list[Tensor]:
        """Read the frames [3, H, W] of these numbers, in the given order; a negative number counts from the end.

        In a video file, reading begins at the last key frame before a frame.

        Raises:
            FrameIndexError: the sequence has no frame of this number; it is an IndexError and a VideoError.
            VideoError: a frame cannot be read.
            ValueError: frames come only once.
        """
        numbers = [operator.index(index) for index in indices]
        if min(numbers, default=0) < 0:
            count = len(self)
            for place, number in enumerate(numbers):
                if number < -count:
                    raise self._no_frame(count, number)
                numbers[place] = number % count if number < 0 else number
        distinct = sorted(set(numbers))
        frames = dict(zip(distinct, self._checked(zip(distinct, self._pick(distinct), strict=True)), strict=True))
        return [frames[number] for number in numbers]

    def backwards(self, stop: int) -> Iterator[Tensor]:
        """Yield frames stop - 1, stop - 2, ..., 0; ValueError where frames come only once."""
        numbers = range(stop - 1, -1, -1)
        return self._checked(zip(numbers, self._sweep(numbers), strict=True))

    def number(self, index: int) -> int:
        """Return the number of frame `index` in the source: another one only where damaged frames are skipped."""
        return index

    def name(self, index: int) -> str:
        """Return what frame `index` is called in file names: its own file's name, else its number in five digits."""
        return self.names[index] if self.names is not None else f"{index:05d}"

    def past_damage(self) -> Iterator[Tensor | Damage | Lost]:
        """Yield the frames, and at damage a Damage, followed by a Lost with the number of frames that cannot be read."""
        raise ValueError(f"{self.label}: on_damage belongs to the reading of a source; {type(self).__name__} is part of one")

    def _sweep(self, numbers: range) -> Iterator[Tensor]:
        """Yield the frames of numbers that ascend or descend."""
        if numbers.step > 0:
            yield from self._pick(numbers)
            return
        for start in range(0, len(numbers), self._window):
            yield from reversed(list(self._pick(numbers[start : start + self._window][::-1])))

    def _checked(self, frames: Iterable[tuple[int, Tensor]]) -> Iterator[Tensor]:
        """Yield the frames of pairs (number, frame); VideoError where their sizes differ."""
        size = None
        for index, frame in frames:
            size = size or frame.shape[1:]
            if frame.shape[1:] != size:
                raise VideoError(
                    f"{self.label}: frame {self.name(index)} is {_size(frame.shape[1:])} pixels but the frames before it "
                    f"are {_size(size)}; all frames of a sequence must have one size"
                )
            yield frame

    def _no_frame(self, count: int, number: int) -> FrameIndexError:
        return FrameIndexError(f"{self.label} holds only {count} frames; frame {number} was asked for")


class Part(Frames):
    """The frames of a sequence that a slice names."""

    def __init__(self, source: Frames, numbers: range) -> None:
        self.source, self.numbers, self.label, self.length = source, numbers, source.label, len(numbers)
        self.fps = source.fps and source.fps / abs(numbers.step)
        self.names = source.names and [source.names[number] for number in numbers]
        self.folder, self.on_damage, self._window = source.folder, source.on_damage, source._window

    @property
    def pixel_aspect(self) -> Fraction:
        return self.source.pixel_aspect

    def __len__(self) -> int:
        return len(self.numbers)

    def _read(self) -> Iterator[Tensor]:
        return self.source._sweep(self.numbers)

    def _pick(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        if numbers and numbers[-1] >= len(self):
            raise self._no_frame(len(self), numbers[-1])
        chosen = [self.numbers[number] for number in numbers]
        if self.numbers.step > 0:
            return self.source._pick(chosen)
        return reversed(list(self.source._pick(chosen[::-1])))


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"
