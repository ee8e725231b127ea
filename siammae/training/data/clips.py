"""Clips: frames of one video file, one folder of frames or one image, at asked-for times.

Everything here reads one source and knows nothing of batches. Times are in seconds from the first frame, so that a
frame gap means the same motion whatever the rate of the file.

Letters: H x W pixels.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from siammae import video
from siammae.errors import VideoError
from siammae.video.decode import open_video
from siammae.video.pictures import images_in

Frame = NDArray[np.uint8]  # [H, W, 3], RGB
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


class UnusableClip(ValueError):
    """A source that gives no training sample: corrupt, empty or too short. The message says which and why."""


class VideoClip:
    """A video file, decoded at random access: seek to the key frame before a time, decode forward to it.

    Args:
        source: path of the file, or the bytes of one.
        name: what errors call it; by default the path.

    Raises:
        UnusableClip: the file is no video or says no length.
    """

    def __init__(self, source: str | Path | bytes, name: str | None = None) -> None:
        self.name = name or (str(source) if not isinstance(source, bytes) else "video in memory")
        try:
            self._container = open_video(BytesIO(source) if isinstance(source, bytes) else Path(source), self.name)
        except VideoError as error:
            raise UnusableClip(f"{self.name}: not a readable video ({error})") from error
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1  # loader workers are the parallelism
        self._base = self._stream.time_base or Fraction(1, 90_000)
        self._start = self._stream.start_time or 0
        self._frame_seconds = float(1 / (self._stream.average_rate or Fraction(30)))
        if self._stream.duration:
            length = float(self._stream.duration * self._base)
        elif self._container.duration:
            length = self._container.duration / av.time_base
        else:
            self.close()
            raise UnusableClip(f"{self.name}: the file does not say how long it is")
        self.seconds = max(0.0, length - self._frame_seconds)  # time of the last frame

    def __enter__(self) -> "VideoClip":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def read(self, times: Sequence[float]) -> list[Frame]:
        """The frame shown at each of `times` (ascending, seconds), as RGB arrays [H, W, 3].

        Raises:
            UnusableClip: the file cannot be decoded at one of the times.
        """
        try:
            return [self._read_at(time) for time in times]
        except av.FFmpegError as error:
            raise UnusableClip(f"{self.name}: cannot be decoded ({error})") from error

    def _read_at(self, time: float) -> Frame:
        target = self._start + round(time / float(self._base))
        self._container.seek(target, stream=self._stream, backward=True)
        last: av.VideoFrame | None = None
        for frame in self._container.decode(self._stream):
            if last is not None and (frame.pts or 0) > target:
                break
            last = frame
        if last is None:
            raise UnusableClip(f"{self.name}: no frame at {time:.2f} s")
        return _rgb(last)

    def every(self, interval: float, short_side: int) -> Iterator[Frame]:
        """Frames `interval` seconds apart from the first on, scaled down to `short_side` pixels if they are larger.

        Raises:
            UnusableClip: the file cannot be decoded to its end.
        """
        due = 0.0
        try:
            for frame in self._container.decode(self._stream):
                time = float(((frame.pts or 0) - self._start) * self._base)
                if time + self._frame_seconds / 2 < due:
                    continue
                due += interval * max(1, int((time - due) / interval) + 1)
                scale = min(1.0, short_side / min(frame.width, frame.height))
                yield _rgb(frame, round(frame.width * scale), round(frame.height * scale))
        except av.FFmpegError as error:
            raise UnusableClip(f"{self.name}: cannot be decoded ({error})") from error


def _rgb(frame: av.VideoFrame, width: int | None = None, height: int | None = None) -> Frame:
    """A decoded frame as RGB [H, W, 3], scaled by area averaging if a size is given."""
    return np.asarray(frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA"), dtype=np.uint8)


def read_image(source: str | Path | bytes, name: str | None = None) -> Frame:
    """One image as RGB [H, W, 3].

    Raises:
        UnusableClip: it is no readable image.
    """
    label = name or ("image in memory" if isinstance(source, bytes) else str(source))
    try:
        return np.asarray(video.read_image(BytesIO(source) if isinstance(source, bytes) else source, label).convert("RGB"))
    except (OSError, ValueError) as error:
        raise UnusableClip(f"{label}: not a readable image ({error})") from error


class FolderClip:
    """A folder of frames in the order of their names, taken at `fps` frames per second.

    Raises:
        UnusableClip: the folder holds no image.
    """

    def __init__(self, folder: str | Path, fps: float) -> None:
        self.name = str(folder)
        self._files: list[Any] = images_in(Path(folder))
        if not self._files:
            raise UnusableClip(f"{self.name}: no image in this folder")
        self._fps = fps
        self.seconds = (len(self._files) - 1) / fps

    def __enter__(self) -> "FolderClip":
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def read(self, times: Sequence[float]) -> list[Frame]:
        """The frame shown at each of `times`, as RGB arrays [H, W, 3]."""
        last = len(self._files) - 1
        return [read_image(self._files[min(last, int(time * self._fps + 1e-6))]) for time in times]


class FramesClip:
    """The encoded frames of one tar sample, at `fps` frames per second."""

    def __init__(self, name: str, frames: Sequence[bytes], fps: float) -> None:
        self.name, self._frames, self._fps = name, frames, fps
        self.seconds = (len(frames) - 1) / fps

    def __enter__(self) -> "FramesClip":
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def read(self, times: Sequence[float]) -> list[Frame]:
        """The frame shown at each of `times`, as RGB arrays [H, W, 3]."""
        last = len(self._frames) - 1
        return [read_image(self._frames[min(last, int(time * self._fps + 1e-6))], self.name) for time in times]
