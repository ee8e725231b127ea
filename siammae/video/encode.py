"""Videos written frame by frame: MP4 (H.264) and GIF."""

import math
import os
import warnings
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.files import PathLike, atomic, check_output
from siammae.video.pictures import as_picture

RATES = {".mp4": (Fraction(1, 10_000), Fraction(10_000)), ".gif": (Fraction(100, 65_535), Fraction(100))}  # frames per second


def write_video(path: PathLike, frames: Iterable[Any], fps: float, *, pixel_aspect: float | Fraction = 1) -> None:
    """Write frames, one by one as they come, to .mp4 (H.264) or .gif, by the suffix.

    Args:
        path: file to write; it appears when all frames are written.
        frames: any frames that `as_frame` takes: arrays [H, W, 3], tensors [3, H, W], PIL images, paths; all of one size.
        fps: frames per second. MP4 holds one frame in 10,000 seconds up to 10,000 frames per second, GIF one in 655 seconds up
            to 100 per second: other rates are written as the nearest of these, with a warning.
        pixel_aspect: width of a pixel divided by its height, which players stretch by; `Frames.pixel_aspect` is that of a file.

    Raises:
        ValueError: another suffix, no frames, a frame of another size or form; a rate or aspect that is no positive number.
        FileNotFoundError: the folder of `path` does not exist.
    """
    import av

    suffix = check_output(path, RATES)
    rate, aspect, is_gif = as_rate(fps, suffix), as_aspect(pixel_aspect), suffix == ".gif"
    with atomic(path) as draft, av.open(str(draft), "w", format="gif" if is_gif else "mp4") as container:
        encode, size = None, None
        for index, frame in enumerate(frames):
            picture = as_picture(frame, f"frame {index}")
            if encode is None:
                size = picture.shape
                encode = (_gif_encoder if is_gif else _mp4_encoder)(container, picture, rate, aspect)
            if picture.shape != size:
                raise ValueError(f"{os.fspath(path)}: a picture is {picture.shape}, those before it are {size}")
            encode(picture)
        if encode is None:
            raise ValueError(f"no frames to write to {os.fspath(path)}")
        encode(None)


def as_rate(fps: float, suffix: str) -> Fraction:
    """Return the nearest rate that the format holds; ValueError for no positive number."""
    given = _number(fps)
    if given is None or given <= 0:
        raise ValueError(f"fps is {fps!r}; expected a positive number of frames per second")
    rate, (low, high) = given, RATES[suffix]
    nearest = min(max(rate, low), high)
    if nearest != rate:
        limits = f"{float(low):.4g} to {float(high):g}"
        message = f"{suffix} files hold {limits} frames per second; {float(rate):g} is written as {float(nearest):.4g}"
        warnings.warn(message, stacklevel=3)
    return nearest.limit_denominator(1001) if nearest > 1 else 1 / (1 / nearest).limit_denominator(1001)


def as_aspect(pixel_aspect: float | Fraction) -> Fraction:
    """Return the aspect as a ratio that files hold; ValueError for one that is not positive, or extreme."""
    given = _number(pixel_aspect)
    if given is None or not 1 / 256 < given < 256:
        raise ValueError(f"pixel_aspect is {pixel_aspect!r}; expected the width of a pixel divided by its height, such as 1")
    return given.limit_denominator(255)


def _number(value: Any) -> Fraction | None:
    """Return a finite number of any type, numpy's and torch's too, as a fraction; None for anything else."""
    try:
        number = value if isinstance(value, Fraction) else float(value)
        return None if isinstance(value, str | bool) or not math.isfinite(number) else Fraction(number)
    except (TypeError, ValueError, RuntimeError):
        return None


def _mp4_encoder(
    container: Any, picture: NDArray[np.uint8], rate: Fraction, aspect: Fraction
) -> Callable[[NDArray[np.uint8] | None], None]:
    import av

    height, width = (side + side % 2 for side in picture.shape[:2])  # H.264 wants even sides
    stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    if aspect != 1:
        stream.codec_context.sample_aspect_ratio = aspect

    def encode(picture: NDArray[np.uint8] | None) -> None:
        frame = None
        if picture is not None:
            padding = [(0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)]
            frame = av.VideoFrame.from_ndarray(np.pad(picture, padding, mode="edge"), format="rgb24")
        container.mux(stream.encode(frame))

    return encode


def _gif_encoder(
    container: Any, picture: NDArray[np.uint8], rate: Fraction, aspect: Fraction
) -> Callable[[NDArray[np.uint8] | None], None]:
    """Return an encoder that gives each picture the palette of 256 colours that suits it best."""
    import av

    height, width = picture.shape[:2]
    stream = container.add_stream("gif", rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
    if aspect != 1:
        stream.codec_context.sample_aspect_ratio = aspect
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate)
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single")
    apply = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(apply, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(apply, 0, 1)
    apply.link_to(sink)
    graph.configure()
    count = 0

    def drain() -> None:
        while True:
            try:
                container.mux(stream.encode(graph.pull()))
            except (av.BlockingIOError, av.EOFError):
                return

    def encode(picture: NDArray[np.uint8] | None) -> None:
        nonlocal count
        if picture is None:
            graph.push(None)
            drain()
            container.mux(stream.encode(None))
            return
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = count, 1 / rate
        count += 1
        graph.push(frame)
        drain()

    return encode
