"""Pictures for people: masks and keypoints drawn over frames.

Letters: H x W pixels, K points.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from siammae.labels import davis_palette


def overlay(
    frame: NDArray[np.uint8], ids: NDArray[Any], palette: Sequence[int] | None = None, *, opacity: float = 0.5
) -> NDArray[np.uint8]:
    """A frame [H, W, 3] with the objects of `ids` [H, W] tinted in their colours and outlined; id 0 is left as it is.

    `palette` holds R, G, B of the ids one after another (the first 21 colours of DAVIS if None); ids beyond it begin again at
    its second colour.
    """
    colours = davis_palette()[:21] if palette is None else np.asarray(palette, dtype=np.uint8).reshape(-1, 3)
    index = np.where(ids == 0, 0, 1 + (ids.astype(np.int64) - 1) % (len(colours) - 1))
    tint, inside = colours[index].astype(np.float32), (ids != 0)[..., None]
    picture = np.where(inside, frame * (1 - opacity) + tint * opacity, frame)
    picture = np.where(_outline(ids)[..., None], tint * 0.6 + 255 * 0.4, picture)
    return picture.round().astype(np.uint8)


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


def draw_keypoints(frame: NDArray[np.uint8], points: NDArray[Any], *, radius: float | None = None) -> NDArray[np.uint8]:
    """A frame [H, W, 3] with a coloured disc on each of the points [K, 2], (x, y) in pixels; NaN points are not drawn."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    radius = radius or max(2.0, min(frame.shape[:2]) / 90)
    for index, (x, y) in enumerate(points):
        if np.isfinite(x) and np.isfinite(y):
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=tuple(davis_palette()[1 + index % 255].tolist()), outline=(255, 255, 255))
    return np.array(image)
