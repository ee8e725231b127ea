"""Pixels of PyAV's frames: RGB of 8 bits, upright."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_rgb(frame: Any) -> Tensor:
    """Convert one of PyAV's frames to uint8 [3, H, W], upright."""
    return torch.from_numpy(np.ascontiguousarray(as_pixels(frame))).permute(2, 0, 1)


def as_pixels(frame: Any, scale: float = 1) -> NDArray[np.uint8]:
    """Convert one of PyAV's frames to RGB [H, W, 3], upright; its sides times `scale`, by area averaging.

    Of grey values and colours of 16 bits the upper 8 are taken, as `siammae.video.as_frame` does.
    """
    size = {} if scale == 1 else {"width": round(frame.width * scale), "height": round(frame.height * scale)}
    deep = frame.format.components[0].bits > 8 and (frame.format.is_rgb or frame.format.name.startswith("gray"))
    values = frame.to_ndarray(format="rgb48le" if deep else "rgb24", interpolation="AREA" if size else None, **size)
    pixels: NDArray[np.uint8] = (values >> 8).astype(np.uint8) if deep else values
    matrix = _display_matrix(frame)
    return pixels if matrix is None else _upright(pixels, matrix)


def lies_on_its_side(frame: Any) -> bool:
    """Tell whether a frame is stored turned by a quarter."""
    matrix = _display_matrix(frame)
    return matrix is not None and abs(int(matrix[1])) > abs(int(matrix[0]))


def _display_matrix(frame: Any) -> NDArray[np.int32] | None:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(matrix, np.int32)


def _upright(pixels: NDArray[Any], matrix: NDArray[np.int32]) -> NDArray[Any]:
    """Turn pixels [H, W, 3] by quarters and mirror them as a display matrix (libavutil/display.h) asks.

    The matrix takes the place (x, y) to (a x + c y, b x + d y).
    """
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
