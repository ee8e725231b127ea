"""Clips: frames of a video file, a folder or a tar sample at given times, and single images.

Everything here reads one source and does not know about batches. Times are in seconds from the first frame, so that a
frame gap means the same motion at any rate of the file.

Letters: H x W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siammae import video
from siammae.errors import VideoError
from siammae.video.decode import VideoDecoder
from siammae.video.pictures import images_in, open_picture
from siammae.video.pixels import as_pixels

Frame = NDArray[np.uint8]  # [H, W, 3], RGB


class UnusableClip(ValueError):
    """A source that gives no training sample: corrupt, empty or too short. The message says which and why."""


class VideoClip:
    """A video file read by time, upright, in one pass from the last key frame before the first time.

    Args:
        source: path of the file, or the bytes of one.
        name: its name in errors; by default the path.

    Raises:
        UnusableClip: the file is no video or says no length.
    """

    def __init__(self, source: str | Path | bytes, name: str | None = None) -> None:
        self.name = name or (str(source) if not isinstance(source, bytes) else "video in memory")
        try:  # one thread: loader workers are the parallelism
            self._video = VideoDecoder(source if isinstance(source, bytes) else Path(source), self.name, threads=1)
        except VideoError as error:
            raise UnusableClip(f"{self.name}: not a readable video ({error})") from error
        if self._video.duration is None:
            self.close()
            raise UnusableClip(f"{self.name}: the file does not say how long it is")
        self.seconds = max(0.0, self._video.duration - 1 / self._video.fps)  # time of the last frame
        self.fps = self._video.fps  # frames per second on average
        self.size: tuple[int, int] | None = self._video.size  # what the header says; frames decide

    def __enter__(self) -> "VideoClip":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._video.close()

    def read(self, times: Sequence[float]) -> list[Frame]:
        """Read the frame shown at each of `times` (seconds, in any order), as RGB arrays [H, W, 3].

        Raises:
            UnusableClip: the file cannot be decoded at one of the times.
        """
        order = sorted(set(times))
        try:
            frames = dict(zip(order, map(as_pixels, self._video.frames_shown_at(order)), strict=True))
            return [frames[time] for time in times]
        except VideoError as error:
            raise UnusableClip(str(error)) from error

    def every(self, interval: float, short_side: int) -> Iterator[Frame]:
        """Yield frames `interval` seconds apart from the first on, scaled down to `short_side` pixels if they are larger.

        Raises:
            UnusableClip: the file cannot be decoded to its end.
        """
        due = 0.0
        try:
            for frame in self._video.frames():
                time = self._video.seconds(frame.pts)
                if time + 0.5 / self._video.fps < due:
                    continue
                due += interval * max(1, int((time - due) / interval) + 1)
                yield as_pixels(frame, min(1.0, short_side / min(frame.width, frame.height)))
        except VideoError as error:
            raise UnusableClip(str(error)) from error


def read_image(source: str | Path | bytes, name: str | None = None) -> Frame:
    """Read one image as RGB [H, W, 3].

    Raises:
        UnusableClip: it is no readable image.
    """
    label = name or ("image in memory" if isinstance(source, bytes) else str(source))
    try:
        return np.array(video.read_image(BytesIO(source) if isinstance(source, bytes) else source, label).convert("RGB"))
    except (OSError, ValueError) as error:
        raise UnusableClip(f"{label}: not a readable image ({error})") from error


class FramesClip:
    """Encoded frames in order, of a folder or a tar sample, taken at `fps` frames per second.

    Args:
        name: the clip's name in errors.
        frames: paths of images, or their bytes.
        fps: frames per second.
    """

    def __init__(self, name: str, frames: Sequence[Path | bytes], fps: float) -> None:
        self.name, self._frames, self._fps = name, frames, fps
        self.seconds = (len(frames) - 1) / fps
        self.size: tuple[int, int] | None = None
        first = BytesIO(frames[0]) if isinstance(frames[0], bytes) else frames[0]
        with suppress(OSError, ValueError), open_picture(first, name) as picture:
            self.size = picture.height, picture.width  # what the header says; frames decide

    def __enter__(self) -> "FramesClip":
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def read(self, times: Sequence[float]) -> list[Frame]:
        """Read the frame shown at each of `times`, as RGB arrays [H, W, 3].

        Raises:
            UnusableClip: a frame is no readable image.
        """
        last = len(self._frames) - 1
        shown = [self._frames[min(last, int(time * self._fps + 1e-6))] for time in times]
        return [read_image(frame, self.name if isinstance(frame, bytes) else None) for frame in shown]


def folder_clip(folder: Path, fps: float) -> FramesClip:
    """Open a folder of frames in the natural order of their names; UnusableClip if it holds none."""
    frames = images_in(folder)
    if not frames:
        raise UnusableClip(f"{folder}: no image in this folder")
    return FramesClip(str(folder), frames, fps)
