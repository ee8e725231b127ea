"""Frames from the network: cameras and streams (RTSP, RTMP, SRT, UDP, HLS), and videos behind web addresses."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from torch import Tensor

from siammae.errors import VideoError
from siammae.video.container import best_stream, reason
from siammae.video.limits import check_pixels
from siammae.video.pixels import as_rgb

WEB = "http,https,tls,tcp,httpproxy,crypto"
PROTOCOLS = {  # what FFmpeg may use for an address; never files of this machine, whatever a playlist says
    "http": WEB,
    "https": WEB,
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tls,tcp",
    "rtsp": "rtsp,tcp,udp,rtp",
    "rtsps": "rtsps,rtsp,tls,tcp,udp,rtp,srtp",
    "srt": "srt",
    "tcp": "tcp",
    "udp": "udp",
}
PATIENCE = 10.0  # seconds without an answer or data after which a stream is given up


def is_address(text: str) -> bool:
    """Tell if a text is an address of the network that can be read."""
    return urlsplit(text).scheme.lower() in PROTOCOLS and "://" in text


def shown(address: str) -> str:
    """Return an address without user and password, for messages and records."""
    head, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return head + separator + host.rpartition("@")[2] + slash + path


def open_stream(address: str) -> tuple[Iterator[Tensor], float | None]:
    """Open a stream; returns an iterator over its frames [3, H, W], from now on, and the frames per second it promises.

    RTSP runs over TCP, by which no part of a frame gets lost.

    Raises:
        VideoError: nobody answers, there is no video that can be decoded; and when the frames are read, the stream breaks off.
    """
    import av

    label = shown(address)
    options = {"protocol_whitelist": PROTOCOLS[urlsplit(address).scheme.lower()]}
    if address.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    try:
        container = av.open(address, options=options, timeout=PATIENCE)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{label} cannot be read: {_reason(error)}; expected the address of a video or a camera") from error
    try:
        stream = best_stream(container, label)
        check_pixels(stream.codec_context.width, stream.codec_context.height, label)
        stream.codec_context.options = {"max_pixels": str(Image.MAX_IMAGE_PIXELS or 2**31 - 1)}
    except VideoError:
        container.close()
        raise
    rate = stream.average_rate or stream.guessed_rate
    return _frames(container, stream, label), float(rate) if rate else None


def _frames(container: Any, stream: Any, label: str) -> Iterator[Tensor]:
    """Yield the frames until the stream ends; packets before the first key frame, which need others, are left out."""
    import av

    count = 0
    with container:
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    if count:
                        raise
                    continue
                for frame in frames:
                    count += 1
                    yield as_rgb(frame)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"{label} broke off after {count} frames: {_reason(error)}; open it again to go on with what comes then"
            ) from error


def _reason(error: Exception) -> str:
    import av

    return f"no data for {PATIENCE:g} seconds" if isinstance(error, av.error.ExitError) else reason(error)
