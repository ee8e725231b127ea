"""Masks drawn over frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from siammae.labels.masks import MaskLike, as_mask, davis_palette
from siammae.video.pictures import as_picture

LOST_COLOR = (220, 0, 0)


def overlay(
    frame: Any,
    mask: MaskLike,
    palette: Sequence[int] | None = None,
    *,
    opacity: float = 0.5,
    numbers: bool = False,
    lost: Sequence[int] = (),
    outline: int = 1,
) -> NDArray[np.uint8]:
    """Draw the objects of a mask over a frame, tinted in their colours and outlined; id 0 is left as it is.

    Args:
        frame: any frame that `siammae.video.as_frame` takes.
        mask: ids [H, W] of the frame, in any form that `siammae.labels.as_mask` takes.
        palette: R, G, B of the ids one after another (the first 21 colours of DAVIS if None); ids beyond it begin again at its
            second colour.
        opacity: opacity of the tint, 0 to 1.
        numbers: write each object's id on its thickest part.
        lost: ids of objects that are lost in this frame: their pixels, if they have any, are red, and a red line names them.
        outline: width of the outlines in pixels, inside the objects; 0 draws none.

    Returns:
        A picture [H, W, 3].

    Raises:
        ValueError: the frame and the mask differ in size, or the outline is negative.
    """
    if outline < 0:
        raise ValueError(f"outline is {outline}; expected a width in pixels, 0 or more")
    background, ids = as_picture(frame), as_mask(mask, empty=True).values
    if ids.shape != background.shape[:2]:
        raise ValueError(
            f"ids have shape {list(ids.shape)}; expected {list(background.shape[:2])}, the height and width of the frame"
        )
    colors = davis_palette()[:21] if palette is None else np.asarray(palette, dtype=np.uint8).reshape(-1, 3)
    index = np.where(ids == 0, 0, 1 + (ids.astype(np.int64) - 1) % (len(colors) - 1))
    tint, inside = colors[index].astype(np.float32), (ids != 0)[..., None]
    picture = np.where(inside, background * (1 - opacity) + tint * opacity, background)
    picture = np.where(_outline(ids, outline)[..., None], tint * 0.6 + 255 * 0.4, picture).round().astype(np.uint8)
    if len(lost):
        picture = _mark_lost(picture, np.isin(ids, lost), lost)
    return _write_numbers(picture, ids) if numbers else picture


def _mark_lost(picture: NDArray[np.uint8], pixels: NDArray[np.bool_], lost: Sequence[int]) -> NDArray[np.uint8]:
    """Color the pixels [H, W] of lost objects, and write their ids into the upper left corner."""
    red = np.array(LOST_COLOR)
    picture = np.where(pixels[..., None], picture * 0.4 + red * 0.6, picture).round().astype(np.uint8)
    image = Image.fromarray(picture)
    size = max(11.0, min(picture.shape[:2]) / 16)
    text = f"lost: {', '.join(str(label) for label in lost)}"
    place, font = (size / 2, size / 2), ImageFont.load_default(size)
    ImageDraw.Draw(image).text(place, text, LOST_COLOR, font, "lt", stroke_width=size / 9, stroke_fill=(255, 255, 255))
    return np.array(image)


def _outline(ids: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Find the pixels [H, W] of objects at most `width` steps from another id."""
    rest = ids.astype(np.int64)  # what is left of the objects, which lose a layer of pixels in each turn
    for _ in range(width):
        edge = np.zeros(ids.shape, dtype=bool)
        for axis in (0, 1):
            differs = np.diff(rest, axis=axis) != 0
            first, second = [slice(None)] * 2, [slice(None)] * 2
            first[axis], second[axis] = slice(None, -1), slice(1, None)
            edge[tuple(first)] |= differs
            edge[tuple(second)] |= differs
        rest[edge] = 0
    outline: NDArray[np.bool_] = (ids != 0) & (rest == 0)
    return outline


def _write_numbers(picture: NDArray[np.uint8], ids: NDArray[Any]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for label in np.unique(ids[ids != 0]):
        x, y, depth = _thickest_place(ids == label)
        text = str(int(label))
        size = max(11.0, min(1.3 * depth, 2.6 * depth / len(text), min(ids.shape) / 11))
        font = ImageFont.load_default(size)
        draw.text((x, y), text, (255, 255, 255), font, "mm", stroke_width=size / 9, stroke_fill=(0, 0, 0))
    return np.array(image)


def _thickest_place(inside: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Find a pixel (x, y) well inside an object [H, W], and the greatest depth: the steps along rows and columns out of it.

    Among the pixels at least three quarters as deep as the deepest, the one nearest to the mean of the object is taken, so that
    it moves little from frame to frame.
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
