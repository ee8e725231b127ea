"""Video files read with PyAV, in order, by number and by time: H.264, HEVC, VP9, AV1, GIF and the rest of FFmpeg's formats.

No other file reads videos with PyAV. Frames come upright, and damage is an error. A time without a unit is a presentation time
(pts), in ticks of the stream's time base.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from siammae.errors import VideoError
from siammae.video.limits import check_pixels, check_regular

PLAYLISTS = frozenset({"concat", "dash", "hls"})  # formats that make FFmpeg open other files
TIMED = frozenset({"gif", "matroska", "mov", "mpegts"})  # formats that store the time at which each packet is shown
ONE_BY_ONE = frozenset({"av1", "gif", "h264", "hevc", "mjpeg", "vp9"})  # codecs of which each packet gives one frame
REORDERED = 32  # packets after which no frame comes that is shown earlier; H.264 and HEVC allow 16


class VideoDecoder:
    """A video file, or the bytes of one, opened for reading: one reading at a time, a new one ends the one before.

    Attributes:
        label: name of the video in messages.
        fps: frames per second on average.
        length: number of frames that the header names, or None.
        duration: seconds that the header names, or None.

    Raises:
        VideoError: the file is no video that can be decoded.
    """

    def __init__(self, source: Path | bytes, label: str | None = None, *, threads: int = 0) -> None:
        self._source, self._threads, self.label = source, threads, label or str(source)
        self._open()
        stream = self._stream
        self.fps = float(stream.average_rate or stream.guessed_rate or Fraction(25))
        self.length: int | None = stream.frames or None
        self.duration: float | None = None
        if stream.duration:
            self.duration = float(stream.duration * self._base)
        elif self._container.duration:
            self.duration = self._container.duration / 1e6

    def _open(self) -> None:
        source = BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        self._container = open_video(source, self.label)
        self._stream = self._container.streams.video[0]
        codec = self._stream.codec_context
        codec.thread_type = "SLICE"  # frame threads report damage late, and near the end of a file not at all
        codec.thread_count = self._threads
        if codec.name == "hevc":  # else it conceals damage; h264 with it refuses clips cut from longer ones
            codec.options |= {"err_detect": "explode"}
        self._base = self._stream.time_base or Fraction(1, 90_000)
        self._start = self._stream.start_time or 0
        self._moved = False

    def __enter__(self) -> "VideoDecoder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def frames(self) -> Iterator[Any]:
        """Return PyAV's frames in the order in which they are shown; VideoError at damage, after all the frames before it."""
        if self._moved:
            self.close()
            self._open()
        self._moved = True
        return self._decode(self._container.demux(self._stream), None, None)

    def frame_at(self, seconds: float) -> Any:
        """Return PyAV's frame that is shown at a time, counted from the first frame; after the end, the last frame.

        Raises:
            VideoError: no frame can be decoded there.
        """
        target, shown = self._start + round(seconds / float(self._base)), None
        for frame in self._frames_from(target, None):
            if shown is not None and frame.pts is not None and frame.pts > target:
                break
            shown = frame
        if shown is None:
            raise VideoError(f"{self.label} has no frame at {seconds:.2f} s")
        return shown

    def seconds(self, time: int | None) -> float:
        """Convert a presentation time to seconds from the first frame; None, which a frame may have, counts as 0."""
        return float(((time or 0) - self._start) * self._base)

    def frames_at(self, numbers: Sequence[int], index: "VideoIndex") -> Iterator[Any]:
        """Yield PyAV's frames of these numbers, which ascend and lie within the index; seeks where that skips frames.

        Raises:
            IndexMismatch: the decoder gives other frames than the index names.
            VideoError: damage between a frame and the key frame before it.
        """
        frames: Iterator[Any] = iter(())
        times, reached = index.times, None  # `reached` is the number of the last decoded frame
        for number in numbers:
            if reached is None or index.key_before(number) > reached + 1:
                frames, reached = self._frames_from(times[number], times), None
            for frame in frames:
                reached = bisect_left(times, frame.pts or 0) if reached is None else reached + 1
                if reached > number or frame.pts != times[reached]:
                    raise IndexMismatch
                if reached == number:
                    yield frame
                    break
            else:
                raise IndexMismatch

    def _frames_from(self, time: int, times: Sequence[int] | None) -> Iterator[Any]:
        """Return the frames from the last key frame shown at or before `time` on; `times` numbers them in messages."""
        import av

        self._moved, goal, back = True, time, 1 / self.fps
        while goal >= self._start:
            try:
                self._container.seek(goal, stream=self._stream, backward=True)
                packets = self._container.demux(self._stream)
                key = next((packet for packet in packets if packet.is_keyframe and packet.size), None)
            except av.FFmpegError:
                break
            if key is not None and key.pts is not None and key.pts <= time:
                return self._decode(chain([key], packets), key.pts, times)
            goal = time - round(back / self._base)  # some formats seek by decoding time, or land only near the goal
            back *= 2
        return self.frames()

    def _decode(self, packets: Iterator[Any], begin: int | None, times: Sequence[int] | None) -> Iterator[Any]:
        """Yield the frames of packets from the key frame shown at `begin` on, or from the first of the file on if None.

        Frames shown before `begin` need frames before the key frame, and are left out. `times`, the times of all frames,
        number them in messages.
        """
        import av

        count, shown, damage, damaged_at, codec = 0, None, None, None, self._stream.codec_context
        try:
            for packet in packets:
                damaged_at = packet.pts if packet.size else self._cut_at()
                if packet.is_corrupt or (not packet.size and damaged_at is not None):
                    raise av.InvalidDataError(0, "the file ends too early")
                for frame in packet.decode():
                    if begin is not None and frame.pts is not None and frame.pts < begin:
                        continue
                    if frame.is_corrupt:
                        damaged_at = frame.pts
                        raise av.InvalidDataError(0, "its data is damaged")
                    yield frame
                    count, shown = count + 1, frame
        except av.FFmpegError as error:
            damage = error
        if damage is not None:
            for frame in _held_before(damaged_at, shown, codec):
                if begin is None or frame.pts >= begin:
                    yield frame
                    count, shown = count + 1, frame
            if begin is None:
                place = f"frame {count}"
            elif times is not None:
                place = f"frame {bisect_left(times, begin) + count}"
            else:
                place = f"a frame near {self.seconds(begin if shown is None else shown.pts):.2f} s"
            raise VideoError(
                f"{self.label} is damaged: {place} cannot be decoded ({_reason(damage)}); copy the file again, "
                "or work with the frames before this one"
            ) from damage

    def _cut_at(self) -> int | None:
        """Return the decoding time of the first packet that the file's index names and the file no longer holds."""
        size = len(self._source) if isinstance(self._source, bytes) else self._source.stat().st_size
        return next((entry.timestamp for entry in self._stream.index_entries if entry.pos + entry.size > size), None)

    def index(self, most: int | None) -> "VideoIndex | None":
        """List the times of the first `most` frames, or of all, without decoding more than one.

        Returns None where packets do not tell exactly which frames there are.

        Raises:
            VideoError: the first frame is damaged.
        """
        import av

        formats, codec = set(self._container.format.name.split(",")), self._stream.codec_context.codec
        if codec.canonical_name not in ONE_BY_ONE or not (formats & TIMED or codec.intra_only):
            return None
        with VideoDecoder(self._source, self.label) as other:  # packets shown before the first frame cannot be decoded
            first = next(other.frames(), None)
        begin = None if first is None else first.pts
        times: list[Any] = []
        keys: list[Any] = []
        self._moved, ended, cut = True, True, False
        try:
            for packet in self._container.demux(self._stream):
                cut = packet.is_corrupt or (not packet.size and self._cut_at() is not None)
                ended = most is None or len(times) < most + REORDERED
                if cut or not ended:
                    break
                if packet.size and not packet.is_discard:
                    times.append(packet.pts)
                    keys += [packet.pts] * packet.is_keyframe
        except av.FFmpegError:
            cut = True
        if begin is None or None in times:
            return None
        times = sorted(time for time in times if time >= begin)
        if len(set(times)) < len(times) or times[:1] != [begin]:
            return None
        return VideoIndex(
            times if ended else times[:-REORDERED], sorted(key for key in keys if key >= begin), ended and not cut
        )


@dataclass(frozen=True)
class VideoIndex:
    """The times at which a video's frames are shown, and those of its key frames, ascending.

    Attributes:
        times: times of the frames from the first on.
        keys: times of the key frames.
        complete: True if these are all frames of a file that is not cut off.
    """

    times: list[int]
    keys: list[int]
    complete: bool

    def key_before(self, number: int) -> int:
        """Return the number of the last key frame at or before frame `number`; the first frame counts as one."""
        place = bisect_right(self.keys, self.times[number])
        return bisect_left(self.times, self.keys[place - 1]) if place else 0


class IndexMismatch(Exception):
    """An error raised where a file's frames differ from what its packets announced."""


def open_video(source: Path | BytesIO, label: str, formats: str | None = None) -> Any:
    """Open a video that can be decoded, as PyAV's container; no other file is opened.

    `formats` lists the FFmpeg formats to try, separated by commas; None tries all but playlists.

    Raises:
        VideoError: the file is no video that can be decoded; the message says why.
    """
    import av  # here and not above: loading it costs half a second that users of arrays need not pay

    if isinstance(source, Path):
        check_regular(source)
    try:
        name = f"file:{source}" if isinstance(source, Path) else source
        options = {"protocol_whitelist": "file"} | ({"format_whitelist": formats} if formats else {})
        container = av.open(name, options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{label} cannot be read as a video: {_reason(error)}; expected a complete video file or a folder of images"
        ) from error
    try:
        if PLAYLISTS & set(container.format.name.split(",")):
            raise VideoError(f"{label} is a list of other files; expected a video")
        codec = container.streams.video[0].codec_context if container.streams.video else None
        if codec is None:
            raise VideoError(f"{label} has no video stream that can be decoded")
        check_pixels(codec.width, codec.height, label)
        codec.options = {"max_pixels": str(Image.MAX_IMAGE_PIXELS or 2**31 - 1)}  # of frames that differ from the header
    except VideoError:
        container.close()
        raise
    return container


def _held_before(damaged_at: int | None, shown: Any, codec: Any) -> Iterator[Any]:
    """Yield the frames that a decoder still holds and that follow the last one `shown` without a gap.

    A decoder holds frames that arrive earlier than they are shown, so what it holds may belong behind the damage. No frame is
    missing before the time `damaged_at`, nor between two frames of which the first lasts until the second.
    """
    import av

    try:
        for frame in codec.decode(None):
            follows = shown is not None and frame.pts is not None and frame.pts <= shown.pts + shown.duration
            if frame.is_corrupt or damaged_at is None or not (frame.pts < damaged_at or follows):
                return
            yield frame
            shown = frame
    except av.FFmpegError:
        return


def as_rgb(frame: Any) -> Tensor:
    """Convert one of PyAV's frames to uint8 [3, H, W], upright."""
    return torch.from_numpy(np.ascontiguousarray(as_pixels(frame))).permute(2, 0, 1)


def as_pixels(frame: Any, scale: float = 1) -> NDArray[np.uint8]:
    """Convert one of PyAV's frames to RGB [H, W, 3], upright; its sides times `scale`, by area averaging."""
    size = {} if scale == 1 else {"width": round(frame.width * scale), "height": round(frame.height * scale)}
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", interpolation="AREA" if size else None, **size)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return pixels if matrix is None else _upright(pixels, np.frombuffer(matrix, np.int32))


def _upright(pixels: NDArray[Any], matrix: NDArray[np.int32]) -> NDArray[Any]:
    """Turn pixels [H, W, 3] by quarters and mirror them as a display matrix (libavutil/display.h) asks.

    The matrix takes the place (x, y) to (a x + c y, b x + d y).
    """
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
