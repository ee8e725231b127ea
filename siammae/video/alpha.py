"""Videos with transparency, written frame by frame: WebM (VP9) and MOV (ProRes 4444)."""

import os
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siammae.files import PathLike, atomic, check_output
from siammae.video.encode import as_aspect, as_rate


class AlphaCodec(NamedTuple):
    """A codec with transparency: its encoder, its form of pixels, and the encoder's options."""

    encoder: str
    pixels: str
    options: dict[str, str]


ALPHA_CODECS = {
    ".webm": AlphaCodec("libvpx-vp9", "yuva420p", {"crf": "20", "b": "0", "auto-alt-ref": "0", "cpu-used": "4"}),
    ".mov": AlphaCodec("prores_ks", "yuva444p10le", {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}),
}


def write_alpha_video(
    path: PathLike, pictures: Iterable[NDArray[np.uint8]], fps: float, *, pixel_aspect: float | Fraction = 1
) -> None:
    """Write pictures with alpha, one by one as they come, to .webm (VP9) or .mov (ProRes 4444), by the suffix.

    Args:
        path: file to write; it appears when all pictures are written.
        pictures: arrays [H, W, 4], uint8: R, G, B, and alpha, not premultiplied; all of one size.
        fps: frames per second.
        pixel_aspect: width of a pixel divided by its height.

    Raises:
        ValueError: another suffix, no pictures, a picture of another size or form; a rate or aspect that is no positive number.
        FileNotFoundError: the folder of `path` does not exist.
    """
    import av

    codec = ALPHA_CODECS[check_output(path, ALPHA_CODECS)]
    rate, aspect = as_rate(fps, ".mp4"), as_aspect(pixel_aspect)
    with atomic(path) as draft, av.open(str(draft), "w") as container:
        stream: Any = None
        for index, picture in enumerate(pictures):
            if picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
                raise ValueError(f"picture {index} is {picture.dtype} {list(picture.shape)}; expected uint8 [H, W, 4]")
            height, width = picture.shape[:2]
            if stream is None:
                stream = container.add_stream(codec.encoder, rate=rate, options=codec.options)
                stream.width, stream.height, stream.pix_fmt = width, height, codec.pixels
                if aspect != 1:
                    stream.codec_context.sample_aspect_ratio = aspect
            if (height, width) != (stream.height, stream.width):
                sizes = f"{height} x {width} pixels, those before it {stream.height} x {stream.width} (height x width)"
                raise ValueError(f"{os.fspath(path)}: picture {index} is {sizes}")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgba")
            container.mux(stream.encode(frame.reformat(format=codec.pixels)))
        if stream is None:
            raise ValueError(f"no pictures to write to {os.fspath(path)}")
        container.mux(stream.encode(None))
