"""Frames from anywhere: video files, folders of images, globs, arrays, tensors, pictures, iterators.

Whatever the source, a frame is a tensor [3, H, W], RGB, either uint8 or float in [0, 1]. Frames are read one at a time.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex, TypeAlias, get_args

import numpy as np
from PIL import Image
from torch import Tensor

from siammae.errors import VideoError
from siammae.video.damage import Damage, Lost, attempt
from siammae.video.limits import check_regular, local_path
from siammae.video.network import is_address, open_stream, shown
from siammae.video.pages import Pages, several_pages
from siammae.video.past_damage import OnDamage, PastDamage
from siammae.video.pictures import IMAGE_SUFFIXES, as_frame, images_in, natural_order
from siammae.video.sequence import Frames
from siammae.video.videofile import VideoFile

__all__ = ["FrameSource", "Frames", "read_frames"]

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})

FrameSource: TypeAlias = "str | os.PathLike[str] | Frames | Tensor | np.ndarray[Any, Any] | Iterable[Any]"


class Items(Frames):
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

    def past_damage(self) -> Iterator[Tensor | Damage | Lost]:
        for number in range(len(self)):
            yield from attempt(partial(self._frame, number))

    def _pick(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        for number in numbers:
            if number >= len(self):
                raise self._no_frame(len(self), number)
            yield self._frame(number)

    def _frame(self, number: int) -> Tensor:
        return as_frame(self.items[number], f"{self.label}, frame {self.name(number)}")


class Stream(Frames):
    """An iterator, read once."""

    def __init__(self, items: Iterable[Any], label: str, fps: float | None = None) -> None:
        self.items, self.label, self.fps = items, label, fps

    def __len__(self) -> int:
        raise TypeError(f"{self.label} has no length: its frames come only once, and their number is not known before the end")

    def __getitem__(self, index: SupportsIndex | slice) -> NoReturn:
        raise self._only_once()

    def at(self, indices: Iterable[SupportsIndex]) -> NoReturn:
        raise self._only_once()

    def backwards(self, stop: int) -> NoReturn:
        raise self._only_once()

    def past_damage(self) -> Iterator[Tensor | Damage | Lost]:
        for i, item in enumerate(self.items):
            yield from attempt(partial(as_frame, item, f"{self.label}, frame {i}"))

    def _read(self) -> Iterator[Tensor]:
        return (as_frame(item, f"{self.label}, frame {i}") for i, item in enumerate(self.items))

    def _pick(self, numbers: Sequence[int]) -> NoReturn:
        raise self._only_once()

    def _only_once(self) -> ValueError:
        return ValueError(
            f"{self.label} can be read forwards only, and once; to read frames by number or backwards, pass a file, a folder, "
            "a list or an array"
        )


def read_frames(source: FrameSource, *, on_damage: OnDamage = "error", allow_network: bool = False) -> Frames:
    """Return a lazily read sequence of frames from any source.

    Args:
        source: a video file; a picture file of several pages (TIFF stack, animated PNG or WebP); a folder of images; a glob
            such as "shots/*.jpg" (both in natural order); a list of paths, arrays, tensors or PIL images in any mix; an
            array [T, H, W, 3], or grey [T, H, W, 1] or [T, H, W]; a tensor [T, 3, H, W], or grey [T, 1, H, W] or
            [T, H, W]; any iterable of such frames. Colours are RGB (reverse what OpenCV reads with `frame[..., ::-1]`: an
            array cannot tell that it is BGR). Values are uint8, uint16 or floats in [0, 1]; of 16 bits the upper 8 are
            taken, whatever the source.
        on_damage: "error" raises VideoError at the first frame that cannot be read. "skip" leaves such frames out, and
            "repeat" puts the last whole frame in their place; both warn, go on with the next key frame, and keep the
            numbers of frames (`Frames.number`). A video that is cut off ends with its last whole frame.
        allow_network: take the address of a camera or a video too: rtsp, rtsps, rtmp, rtmps, srt, udp, tcp, http or https
            (HLS too). Its frames come once, forwards, from now on; `on_damage` is "error". Off, so that a program that
            takes names from others opens no connection.

    Raises:
        FileNotFoundError: no such file or folder, or a glob that matches nothing.
        VideoError: a file that is not a video or picture, or is damaged; an empty folder; frames of different sizes. Damage
            inside a video is reported when the frame is reached, after all the frames before it.
        ValueError: an array of another shape, type or range.
    """
    if on_damage not in get_args(OnDamage):
        raise ValueError(f"on_damage is {on_damage!r}; expected one of {', '.join(get_args(OnDamage))}")
    if allow_network and isinstance(source, str) and is_address(source):
        if on_damage != "error":
            raise ValueError(f"on_damage is {on_damage!r}, but {shown(source)} is a stream, which ends where it breaks off")
        stream, fps = open_stream(source)
        return Stream(stream, shown(source), fps)
    frames = _sequence(source)
    return frames if on_damage in ("error", frames.on_damage) else PastDamage(frames, on_damage)


def _sequence(source: FrameSource) -> Frames:
    if isinstance(source, Frames):
        return source
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fspath(source))
    if isinstance(source, bytes | bytearray | memoryview | Mapping):
        raise ValueError(f"frames are a {type(source).__name__}; expected a path, an array, a tensor or an iterable of frames")
    if isinstance(source, Image.Image):
        raise ValueError("one picture is no sequence of frames; pass a list: [picture]")
    if isinstance(source, np.ndarray | Tensor):
        if source.ndim not in (3, 4) or (source.ndim == 3 and 3 in (source.shape[0], source.shape[2])):
            array = isinstance(source, np.ndarray)
            expected, grey = ("[T, H, W, 3]", "frames[..., None]") if array else ("[T, 3, H, W]", "frames[:, None]")
            remedy = f"; put a single picture into a list: [picture]; give grey frames an axis: {grey}"
            raise ValueError(f"frames have shape {list(source.shape)}; expected {expected}{remedy if source.ndim == 3 else ''}")
        return Items(source, "the sequence")
    if isinstance(source, Sequence):
        if source and _is_video(source[0]):
            raise ValueError(
                "the list holds videos; expected frames. Pass one video, or the list to siammae.features.iter_features or "
                "siammae.propagation.iter_labels, which take several"
            )
        return Items(source, "the sequence")
    if isinstance(source, Iterable):
        return Stream(source, "the sequence")
    raise ValueError(f"frames are a {type(source).__name__}; expected a path, an array, a tensor or an iterable of frames")


def _is_video(item: Any) -> bool:
    """Tell if an item of a list is a video of its own: frames, an array of four axes, a folder, or a file PyAV should read."""
    if isinstance(item, str | os.PathLike):
        text = os.fspath(item)
        return os.path.isdir(text) or (os.path.isfile(text) and Path(text).suffix.lower() in VIDEO_SUFFIXES)
    return isinstance(item, Frames) or (isinstance(item, np.ndarray | Tensor) and item.ndim == 4)


def _from_path(text: str) -> Frames:
    text = local_path(text)
    path = Path(text)
    if os.path.isdir(text):  # os.path's questions, unlike pathlib's, are answered for names that no file can have
        images = images_in(path)
        if not images:
            raise VideoError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return Items(images, str(path))
    check_regular(text)
    if os.path.isfile(text):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            return VideoFile(path)
        return Pages(path) if several_pages(path) else Items([path], str(path))
    if glob.has_magic(text):
        matches = sorted((Path(match) for match in glob.glob(text)), key=natural_order)
        if not matches:
            raise FileNotFoundError(f"no file matches {text}")
        return Items(matches, text)
    raise FileNotFoundError(f"no such video file or folder of images: {text}")
