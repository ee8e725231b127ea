"""Masks drawn over frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from siammae.labels.masks import davis_palette


def overlay(
    frame: NDArray[np.uint8],
    ids: NDArray[Any],
    palette: Sequence[int] | None = None,
    *,
    opacity: float = 0.5,
    numbers: bool = False,
) -> NDArray[np.uint8]:
    """A frame [H, W, 3] with the objects of `ids` [H, W] tinted in their colours and outlined; id 0 is left as it is.

    Args:
        frame, ids: of one size; ValueError where they are not.
        palette: R, G, B of the ids one after another (the first 21 colours of DAVIS if None); ids beyond it begin again at its
            second colour.
        opacity: of the tint, 0 to 1.
        numbers: write each object's id on it, where it is thick.
    """
    if ids.shape != frame.shape[:2]:
        raise ValueError(
            f"ids have shape {list(ids.shape)}; expected {list(frame.shape[:2])}, the height and width of the frame"
        )
    colours = davis_palette()[:21] if palette is None else np.asarray(palette, dtype=np.uint8).reshape(-1, 3)
    index = np.where(ids == 0, 0, 1 + (ids.astype(np.int64) - 1) % (len(colours) - 1))
    tint, inside = colours[index].astype(np.float32), (ids != 0)[..., None]
    picture = np.where(inside, frame * (1 - opacity) + tint * opacity, frame)
    picture = np.where(_outline(ids)[..., None], tint * 0.6 + 255 * 0.4, picture).round().astype(np.uint8)
    return _write_numbers(picture, ids) if numbers else picture


def _outline(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels [H, W] of an object that touch another id."""
    edge = np.zeros(ids.shape, dtype=bool)
    for axis in (0, 1):
        differs = np.diff(ids.astype(np.int64), axis=axis) != 0
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        edge[tuple(first)] |= differs
        edge[tuple(second)] |= differs
    edge &= ids != 0
    return edge


def _write_numbers(picture: NDArray[np.uint8], ids: NDArray[Any]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for label in np.unique(ids[ids != 0]):
        x, y, depth = _thick_place(ids == label)
        text = str(int(label))
        size = max(11.0, min(1.3 * depth, 2.6 * depth / len(text), min(ids.shape) / 11))
        font = ImageFont.load_default(size)
        draw.text((x, y), text, (255, 255, 255), font, "mm", stroke_width=size / 9, stroke_fill=(0, 0, 0))
    return np.array(image)


def _thick_place(inside: NDArray[np.bool_]) -> tuple[int, int, int]:
    """A pixel (x, y) well inside an object [H, W], and its depth: how many steps along rows and columns lead out of it.

    Of the pixels at least three quarters as deep as the deepest, it is the one nearest to the mean of the object, so that it
    moves little from frame to frame.
    """
    rows, columns = np.nonzero(inside)
    top, left = int(rows.min()), int(columns.min())
    box = inside[top : rows.max() + 1, left : columns.max() + 1]
    depth = np.pad(box, 1).astype(np.int64) * inside.size
    for axis in (0, 1):
        ramp = np.expand_dims(np.arange(depth.shape[axis]), 1 - axis)
        for _ in range(2):  # from either side
            depth = np.flip(np.minimum.accumulate(depth - ramp, axis=axis) + ramp, axis)
    y, x = np.nonzero(depth[1:-1, 1:-1] >= 0.75 * depth.max())
    nearest = np.hypot(x + left - columns.mean(), y + top - rows.mean()).argmin()
    return int(x[nearest]) + left, int(y[nearest]) + top, int(depth.max())
