"""Frames from anywhere: video files, folders of images, globs, arrays, tensors, pictures, iterators.

Whatever the source, a frame is a tensor [3, H, W], RGB, either uint8 or float in [0, 1]. Frames are read one at a time.
"""

import glob
import operator
import os
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex, TypeAlias, overload

import numpy as np
from PIL import Image
from torch import Tensor

from siammae.errors import FrameIndexError, VideoError
from siammae.video.decode import IndexMismatch, VideoDecoder, VideoIndex, as_rgb
from siammae.video.limits import check_regular
from siammae.video.pictures import IMAGE_SUFFIXES, as_frame, images_in, natural_order

FrameSource: TypeAlias = "str | os.PathLike[str] | Frames | Tensor | np.ndarray[Any, Any] | Iterable[Any]"
REVERSED_WINDOW = 32  # decoded frames of a video file that are held at once while it is read backwards
FIRST_INDEXED = 1024  # frames whose times are listed when the first one is read by number


class Frames(ABC):
    """A sequence of frames, read lazily; iterating yields tensors [3, H, W].

    All but one-pass iterators also give frames by number: `frames[i]`, `frames[-1]`, `frames.at([3, 5])`, `len(frames)`;
    and `frames[10:50]`, itself such a sequence, of which nothing is read until it is used.

    Attributes:
        label: name of the source in messages.
        length: number of frames, or None where only reading to the end would tell.
        fps: frames per second of a video file, else None.
        names: file name without suffix of each frame of a folder, glob or list of paths, else None.
        folder: folder of the first of these files, else None.
    """

    label: str
    length: int | None = None
    fps: float | None = None
    names: list[str] | None = None
    folder: Path | None = None
    _window = 1  # frames that are held at once while the sequence is read backwards

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
            return _Part(self, range(len(self))[index])
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

    def name(self, index: int) -> str:
        """Return what frame `index` is called in file names: its own file's name, else its number in five digits."""
        return self.names[index] if self.names is not None else f"{index:05d}"

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


class _Items(Frames):
    """Paths, arrays, tensors or pictures that can be taken by index."""

    def __init__(self, items: Sequence[Any] | Tensor | np.ndarray[Any, Any], label: str) -> None:
        self.items, self.label, self.length = items, label, len(items)
        if self.length and all(isinstance(item, str | os.PathLike) for item in items):
            stems = [Path(item).stem for item in items]
            self.names = stems if len(set(stems)) == len(stems) else None
            self.folder = Path(str(items[0])).parent

    def __len__(self) -> int:
        return len(self.items)

    def _read(self) -> Iterator[Tensor]:
        return self._pick(range(len(self)))

    def _pick(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        for number in numbers:
            if number >= len(self):
                raise self._no_frame(len(self), number)
            yield as_frame(self.items[number], f"{self.label}, frame {self.name(number)}")


class _Part(Frames):
    """The frames of a sequence that a slice names."""

    def __init__(self, source: Frames, numbers: range) -> None:
        self.source, self.numbers, self.label, self.length = source, numbers, source.label, len(numbers)
        self.fps = source.fps and source.fps / abs(numbers.step)
        self.names = source.names and [source.names[number] for number in numbers]
        self.folder, self._window = source.folder, source._window

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


class _Stream(Frames):
    """An iterator, read once."""

    def __init__(self, items: Iterable[Any], label: str) -> None:
        self.items, self.label = items, label

    def __len__(self) -> int:
        raise TypeError(f"{self.label} has no length: its frames come only once, and their number is not known before the end")

    def __getitem__(self, index: SupportsIndex | slice) -> NoReturn:
        raise self._only_once()

    def at(self, indices: Iterable[SupportsIndex]) -> NoReturn:
        raise self._only_once()

    def backwards(self, stop: int) -> NoReturn:
        raise self._only_once()

    def _read(self) -> Iterator[Tensor]:
        return (as_frame(item, f"{self.label}, frame {i}") for i, item in enumerate(self.items))

    def _pick(self, numbers: Sequence[int]) -> NoReturn:
        raise self._only_once()

    def _only_once(self) -> ValueError:
        return ValueError(
            f"{self.label} can be read forwards only, and once; to read frames by number or backwards, pass a file, a folder, "
            "a list or an array"
        )


class _VideoFile(Frames):
    """A file that PyAV decodes."""

    def __init__(self, path: Path) -> None:
        self.path, self.label = path, str(path)
        with VideoDecoder(path) as decoder:
            self.fps, self.length = decoder.fps, decoder.length
        self._window = REVERSED_WINDOW
        self._index: VideoIndex | None = VideoIndex([], [], complete=False)  # grows on demand; None: the file allows none
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            index = self._indexed(None)
            with VideoDecoder(self.path) as decoder:
                self._count = len(index.times) if index is not None else sum(1 for _ in decoder.frames())
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

    def _pick(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        if not numbers:
            return
        index, done = self._indexed(numbers[-1]), 0
        with VideoDecoder(self.path) as decoder:
            if index is not None:
                try:
                    within = numbers[: bisect_left(numbers, len(index.times))]
                    for frame in decoder.frames_at(within, index):
                        yield as_rgb(frame)
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
                    yield as_rgb(frame)
                if count > numbers[-1]:
                    return
            raise self._no_frame(count, numbers[-1])


def read_frames(source: FrameSource) -> Frames:
    """Return a lazily read sequence of frames from any source.

    Args:
        source: a video file; a folder of images (in natural order of their names); a glob such as "shots/*.jpg"; a list of
            paths, arrays, tensors or PIL images in any mix; a uint8 or float array [T, H, W, 3]; a uint8 or float tensor
            [T, 3, H, W]; any iterable of such frames. Colours are RGB (reverse what OpenCV reads with
            `frame[..., ::-1]`: an array cannot tell that it is BGR); floats lie in [0, 1].

    Raises:
        FileNotFoundError: no such file or folder, or a glob that matches nothing.
        VideoError: a file that is not a video or picture, or is damaged; an empty folder; frames of different sizes. Damage
            inside a video is reported when the frame is reached, after all the frames before it.
        ValueError: an array of another shape, type or range.
    """
    if isinstance(source, Frames):
        return source
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fspath(source))
    if isinstance(source, Image.Image):
        raise ValueError("one picture is no sequence of frames; pass a list: [picture]")
    if isinstance(source, np.ndarray | Tensor):
        if source.ndim != 4:
            expected = "[T, H, W, 3]" if isinstance(source, np.ndarray) else "[T, 3, H, W]"
            remedy = "; put a single picture into a list: [picture]" if source.ndim == 3 else ""
            raise ValueError(f"frames have shape {list(source.shape)}; expected {expected}{remedy}")
        return _Items(source, "the sequence")
    if isinstance(source, Sequence):
        return _Items(source, "the sequence")
    if isinstance(source, Iterable):
        return _Stream(source, "the sequence")
    raise ValueError(f"frames are a {type(source).__name__}; expected a path, an array, a tensor or an iterable of frames")


def _from_path(text: str) -> Frames:
    path = Path(text)
    if os.path.isdir(text):  # os.path's questions, unlike pathlib's, are answered for names that no file can have
        images = images_in(path)
        if not images:
            raise VideoError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return _Items(images, str(path))
    check_regular(text)
    if os.path.isfile(text):
        return _Items([path], str(path)) if path.suffix.lower() in IMAGE_SUFFIXES else _VideoFile(path)
    if glob.has_magic(text):
        matches = sorted((Path(match) for match in glob.glob(text)), key=natural_order)
        if not matches:
            raise FileNotFoundError(f"no file matches {text}")
        return _Items(matches, text)
    raise FileNotFoundError(f"no such video file or folder of images: {text}")


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"
