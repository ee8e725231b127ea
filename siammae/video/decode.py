"""Video files decoded by PyAV: H.264, HEVC, VP9, AV1, GIF and whatever else its FFmpeg knows. Damage is an error."""

from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
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


def rate_and_length(path: Path) -> tuple[float, int | None]:
    """Frames per second, and the number of frames if the file's header tells it."""
    with open_video(path, str(path)) as container:
        stream = container.streams.video[0]
        return float(stream.average_rate or stream.guessed_rate or Fraction(25)), stream.frames or None


def decode(path: Path) -> Iterator[Any]:
    """PyAV's frames of a file in the order in which they are shown; at damage a VideoError, after all the frames before it."""
    import av

    count, shown, damage, damaged_at = 0, None, None, None
    with open_video(path, str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # frame threads tell of damage late, and near the end of a file not at all
        if stream.codec_context.name == "hevc":  # it paints over damage; but not "h264": clips cut from longer ones fail
            stream.codec_context.options |= {"err_detect": "explode"}
        try:
            for packet in container.demux(stream):
                damaged_at = packet.pts if packet.size else _cut_at(path, stream)
                if packet.is_corrupt or (not packet.size and damaged_at is not None):
                    raise av.InvalidDataError(0, "the file ends too early")
                for frame in packet.decode():
                    if frame.is_corrupt:
                        damaged_at = frame.pts
                        raise av.InvalidDataError(0, "its data is damaged")
                    yield frame
                    count, shown = count + 1, frame
        except av.FFmpegError as error:
            damage = error
        if damage is not None:
            for frame in _held_before(damaged_at, shown, stream.codec_context):
                yield frame
                count += 1
            raise VideoError(
                f"{path} is damaged: frame {count} cannot be decoded ({_reason(damage)}); copy the file again, "
                "or work with the frames before this one"
            ) from damage


def open_video(source: Path | BytesIO, label: str, formats: str | None = None) -> Any:
    """PyAV's container of a video that can be decoded; VideoError says what is wrong with it. Nothing else is opened.

    `formats` names those of FFmpeg's that may be tried, with commas between them; None is all but playlists.
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


def _cut_at(path: Path, stream: Any) -> int | None:
    """Decoding time of the first packet that the file's index names and the file no longer holds."""
    size = path.stat().st_size
    return next((entry.timestamp for entry in stream.index_entries if entry.pos + entry.size > size), None)


def _held_before(damaged_at: int | None, shown: Any, codec: Any) -> Iterator[Any]:
    """The frames that a decoder still holds and that follow the last one `shown` without a gap.

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
    """A decoded frame as uint8 [3, H, W], upright."""
    pixels = frame.to_ndarray(format="rgb24")  # [H, W, 3]
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        pixels = _upright(pixels, np.frombuffer(matrix, np.int32))
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def _upright(pixels: NDArray[Any], matrix: NDArray[np.int32]) -> NDArray[Any]:
    """Pixels [H, W, 3] turned by quarters and mirrored as a display matrix (libavutil/display.h) asks.

    The matrix takes the place (x, y) to (a x + c y, b x + d y).
    """
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
