"""Shapes drawn into masks: strokes, boxes and polygons, in pixels of the frame."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Shape = Literal["brush", "eraser", "box", "polygon"]
Path = Sequence[Sequence[float]]

MAX_PLACES = 10_000


def check_path(path: Path, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return a path [N, 2] clipped to a frame of size (H, W); ValueError unless it has 1 to 10000 finite places."""
    try:
        places = np.asarray(path, dtype=np.float64)
    except (TypeError, ValueError):
        places = np.empty(0)
    if places.ndim != 2 or places.shape[1] != 2 or not 1 <= len(places) <= MAX_PLACES or not np.isfinite(places).all():
        raise ValueError(f"a stroke is a list of 1 to {MAX_PLACES} places, x and y in pixels")
    return places.clip(0, (size[1] - 1, size[0] - 1))


def draw_shape(ids: NDArray[np.uint8], shape: Shape, path: Path, number: int, width: float) -> NDArray[np.uint8]:
    """Return a copy of ids [H, W] with a shape drawn in an object's id.

    Args:
        ids: ids of a frame.
        shape: "brush" and "eraser" follow the path, "box" spans it, "polygon" fills it. The eraser removes every object.
        path: (x, y) of each place; (0, 0) is the centre of the top left pixel.
        number: id to draw.
        width: width of the brush and the eraser in pixels.
    """
    height, frame_width = ids.shape
    places, mask = check_path(path, (height, frame_width)), Image.fromarray(ids)
    draw, fill = ImageDraw.Draw(mask), 0 if shape == "eraser" else number
    if shape == "box":
        (left, top), (right, bottom) = places.min(axis=0).round(), places.max(axis=0).round()
        draw.rectangle((left, top, right, bottom), fill=fill)
    elif shape == "polygon":
        if len(places) < 3:
            raise ValueError("a polygon needs at least 3 corners")
        draw.polygon([tuple(place) for place in places.tolist()], fill=fill)
    elif shape in ("brush", "eraser"):
        radius = min(max(width, 1), 500) / 2
        if len(places) > 1:
            draw.line([tuple(place) for place in places.tolist()], fill=fill, width=round(2 * radius))
        for x, y in places:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    else:
        raise ValueError(f"there is no shape {shape!r}; expected brush, eraser, box or polygon")
    return np.array(mask)
