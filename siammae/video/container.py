"""Video files opened with PyAV: which formats are read, which of the streams is the video, what is refused."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from siammae.errors import VideoError
from siammae.video.limits import check_pixels, check_regular

PLAYLISTS = frozenset({"concat", "dash", "hls"})  # formats that make FFmpeg open other files


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
            f"{label} cannot be read as a video: {reason(error)}; expected a complete video file or a folder of images"
        ) from error
    try:
        if PLAYLISTS & set(container.format.name.split(",")):
            raise VideoError(f"{label} is a list of other files; expected a video")
        codec = best_stream(container, label).codec_context
        check_pixels(codec.width, codec.height, label)
        codec.options = {"max_pixels": str(Image.MAX_IMAGE_PIXELS or 2**31 - 1)}  # of frames that differ from the header
    except VideoError:
        container.close()
        raise
    return container


def best_stream(container: Any, label: str) -> Any:
    """Return the video stream that FFmpeg's players show: the one flagged as default, or the largest.

    Covers, posters and thumbnails are pictures beside a video or a song, and no video.

    Raises:
        VideoError: there is no video stream that can be decoded; `label` names the file.
    """
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [
        stream for stream in container.streams.video if stream.codec_context is not None and not stream.disposition & pictures
    ]
    best = container.streams.best("video")
    if best in streams:
        return best
    if not streams:
        raise VideoError(f"{label} has no video stream that can be decoded")
    return max(streams, key=lambda stream: (bool(stream.disposition & Disposition.default), stream.width * stream.height))


def reason(error: Exception) -> str:
    """Return what an error of FFmpeg or of the system says, without its number."""
    return getattr(error, "strerror", None) or str(error)
