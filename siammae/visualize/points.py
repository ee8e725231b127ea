"""Keypoints and their trails drawn over frames."""

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from siammae.labels.masks import davis_palette
from siammae.visualize.colors import SMOOTH


def draw_keypoints(frame: NDArray[np.uint8], points: Iterable[Any], *, radius: float | None = None) -> NDArray[np.uint8]:
    """A frame [H, W, 3] with a coloured disc on each of the points [K, 2], (x, y) in pixels; NaN points are not drawn."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    radius = radius or _radius(frame)
    for (x, y), colour in zip(points, _point_colours(), strict=False):
        if np.isfinite(x) and np.isfinite(y):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=(255, 255, 255))
    return np.array(image)


def draw_trails(frame: NDArray[np.uint8], tracks: Any, *, radius: float | None = None) -> NDArray[np.uint8]:
    """A frame [H, W, 3] with the discs of `draw_keypoints` and, behind each, the way it came, fading with age.

    Args:
        frame: the frame of the last positions.
        tracks: [T, K, 2], (x, y) in pixels of K points in the last T frames, the newest last; NaN breaks a trail.
        radius: of the discs, pixels; by default as those of `draw_keypoints`.

    Raises:
        ValueError: tracks of another shape.
    """
    places = np.asarray(tracks, dtype=np.float32)
    if places.ndim != 3 or places.shape[2] != 2 or not len(places):
        raise ValueError(f"tracks have shape {list(places.shape)}; expected [T, K, 2], the x and y of K points in T frames")
    radius = radius or _radius(frame)
    layer = Image.new("RGBA", (frame.shape[1] * SMOOTH, frame.shape[0] * SMOOTH))
    draw, half = ImageDraw.Draw(layer), SMOOTH * radius * 0.5
    large = (places + 0.5) * SMOOTH - 0.5
    for step in range(1, len(places)):
        opacity = round(255 * step / (len(places) - 1))
        for start, end, colour in zip(large[step - 1], large[step], _point_colours(), strict=False):
            if np.isfinite([start, end]).all():
                fill = (*(round(0.6 * value + 0.4 * 255) for value in colour), opacity)
                draw.line((*start, *end), fill=fill, width=round(2 * half))
                draw.ellipse((*(end - half), *(end + half)), fill=fill)
    trails = layer.resize((frame.shape[1], frame.shape[0]), Image.Resampling.BOX)
    picture = Image.alpha_composite(Image.fromarray(frame).convert("RGBA"), trails).convert("RGB")
    return draw_keypoints(np.array(picture), places[-1], radius=radius)


def _radius(frame: NDArray[np.uint8]) -> float:
    """Of a keypoint's disc, pixels."""
    return float(max(2.0, min(frame.shape[:2]) / 70))


def _point_colours() -> Iterator[tuple[int, int, int]]:
    """A colour for each point, without end."""
    return cycle(tuple(colour) for colour in davis_palette()[1:].tolist())
