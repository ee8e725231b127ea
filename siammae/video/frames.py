"""Frames from anywhere: video files, folders of images, globs, arrays, tensors, pictures, iterators.

Whatever the source, a frame is a tensor [3, H, W], RGB, either uint8 or float in [0, 1]. Frames are read one at a time.
"""

import glob
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from siammae.errors import VideoError
from siammae.video.decode import as_rgb, decode, rate_and_length
from siammae.video.limits import check_regular
from siammae.video.pictures import IMAGE_SUFFIXES, as_frame, images_in, natural_order

FrameSource: TypeAlias = "str | os.PathLike[str] | Frames | Tensor | np.ndarray[Any, Any] | Iterable[Any]"
REVERSED_WINDOW = 32  # decoded frames of a video file that are held at once while it is read backwards


class Frames(ABC):
    """A sequence of frames, read lazily; iterating yields tensors [3, H, W].

    Attributes:
        label: how messages call the source.
        length: number of frames, or None where only reading to the end would tell.
        fps: frames per second of a video file, else None.
        names: file name without suffix of each frame of a folder, glob or list of paths, else None.
        folder: that holds the first of these files, else None.
    """

    label: str
    length: int | None = None
    fps: float | None = None
    names: list[str] | None = None
    folder: Path | None = None

    @abstractmethod
    def _read(self) -> Iterator[Tensor]:
        """The frames from the first on, each [3, H, W]."""

    def __iter__(self) -> Iterator[Tensor]:
        size = None
        for index, frame in enumerate(self._read()):
            size = size or frame.shape[1:]
            if frame.shape[1:] != size:
                raise VideoError(
                    f"{self.label}: frame {self.name(index)} is {_size(frame.shape[1:])} pixels but the frames before it "
                    f"are {_size(size)}; all frames of a sequence must have one size"
                )
            yield frame
        if size is None:
            raise VideoError(f"{self.label} holds no frames")

    def name(self, index: int) -> str:
        """What frame `index` is called in file names: its own file's name, else its number in five digits."""
        return self.names[index] if self.names is not None else f"{index:05d}"

    def backwards(self, stop: int) -> Iterator[Tensor]:
        """Frames stop - 1, stop - 2, ..., 0; ValueError where frames come only once."""
        raise ValueError(
            f"{self.label} can be read forwards only; to start from a middle frame pass a file, a folder, a list or an array"
        )


class _Items(Frames):
    """Paths, arrays, tensors or pictures that can be taken by index."""

    def __init__(self, items: Sequence[Any] | Tensor | np.ndarray[Any, Any], label: str) -> None:
        self.items, self.label, self.length = items, label, len(items)
        if self.length and all(isinstance(item, str | os.PathLike) for item in items):
            stems = [Path(item).stem for item in items]
            self.names = stems if len(set(stems)) == len(stems) else None
            self.folder = Path(str(items[0])).parent

    def _read(self) -> Iterator[Tensor]:
        return (as_frame(item, f"{self.label}, frame {self.name(i)}") for i, item in enumerate(self.items))

    def backwards(self, stop: int) -> Iterator[Tensor]:
        return (as_frame(self.items[i], f"{self.label}, frame {self.name(i)}") for i in range(stop - 1, -1, -1))


class _Stream(Frames):
    """An iterator, read once."""

    def __init__(self, items: Iterable[Any], label: str) -> None:
        self.items, self.label = items, label

    def _read(self) -> Iterator[Tensor]:
        return (as_frame(item, f"{self.label}, frame {i}") for i, item in enumerate(self.items))


class _VideoFile(Frames):
    """A file that PyAV decodes."""

    def __init__(self, path: Path) -> None:
        self.path, self.label = path, str(path)
        self.fps, self.length = rate_and_length(path)

    def _read(self) -> Iterator[Tensor]:
        return map(as_rgb, decode(self.path))

    def backwards(self, stop: int) -> Iterator[Tensor]:
        for end in range(stop, 0, -REVERSED_WINDOW):
            start = max(end - REVERSED_WINDOW, 0)
            window, index = [], -1
            for index, frame in enumerate(decode(self.path)):
                if index == end:
                    break
                if index >= start:
                    window.append(as_rgb(frame))
            if len(window) < end - start:
                raise VideoError(f"{self.path} holds only {index + 1} frames; frame {stop} was asked for")
            yield from reversed(window)


def read_frames(source: FrameSource) -> Frames:
    """A lazily read sequence of frames from any source.

    Args:
        source: a video file; a folder of images (in natural order of their names); a glob such as "shots/*.jpg"; a list of
            paths, arrays, tensors or PIL images in any mix; a uint8 or float array [T, H, W, 3]; a uint8 or float tensor
            [T, 3, H, W]; any iterable of such frames. Colours are RGB (an array cannot tell if it is BGR: reverse what
            OpenCV reads with `frame[..., ::-1]`); floats lie in [0, 1].

    Raises:
        FileNotFoundError: no such file or folder, or a glob that matches nothing.
        VideoError: a file that is not a video or picture, or is damaged; an empty folder; frames of different sizes. Damage
            inside a video is raised when the frame is reached, after all the frames before it.
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
