"""Keypoints and their trails drawn over frames."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from siammae.labels.keypoints import PointsLike
from siammae.labels.masks import davis_palette
from siammae.video.pictures import as_picture

SMOOTH = 2  # trails are drawn at so many times the size, and then reduced


def draw_keypoints(frame: Any, points: PointsLike, *, radius: float | None = None) -> NDArray[np.uint8]:
    """Draw a coloured disc on each of the points [K, 2], (x, y) in pixels, of a frame: a picture [H, W, 3].

    `frame` is any frame that `siammae.video.as_frame` takes. NaN points are not drawn. `radius` is in pixels; None follows the
    frame's size.
    """
    image = Image.fromarray(as_picture(frame))
    draw = ImageDraw.Draw(image)
    radius = radius or _radius(image)
    for (x, y), color in zip(np.asarray(points), _point_colors(), strict=False):
        if np.isfinite(x) and np.isfinite(y):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline=(255, 255, 255))
    return np.array(image)


def draw_trails(frame: Any, tracks: Any, *, radius: float | None = None) -> NDArray[np.uint8]:
    """Draw the discs of `draw_keypoints` and, behind each, the way it came, fading with age: a picture [H, W, 3].

    Args:
        frame: the frame of the last positions: any that `siammae.video.as_frame` takes.
        tracks: (x, y) in pixels of K points in the last T frames, [T, K, 2], the newest last; NaN breaks a trail.
        radius: radius of the discs in pixels; None follows the frame's size.

    Raises:
        ValueError: tracks of another shape.
    """
    places = np.asarray(tracks, dtype=np.float32)
    if places.ndim != 3 or places.shape[2] != 2 or not len(places):
        raise ValueError(f"tracks have shape {list(places.shape)}; expected [T, K, 2], the x and y of K points in T frames")
    image = Image.fromarray(as_picture(frame))
    radius = radius or _radius(image)
    layer = Image.new("RGBA", (image.width * SMOOTH, image.height * SMOOTH))
    draw, half = ImageDraw.Draw(layer), SMOOTH * radius * 0.5
    large = (places + 0.5) * SMOOTH - 0.5
    for step in range(1, len(places)):
        opacity = round(255 * step / (len(places) - 1))
        for start, end, color in zip(large[step - 1], large[step], _point_colors(), strict=False):
            if np.isfinite([start, end]).all():
                fill = (*(round(0.6 * value + 0.4 * 255) for value in color), opacity)
                draw.line((*start, *end), fill=fill, width=round(2 * half))
                draw.ellipse((*(end - half), *(end + half)), fill=fill)
    trails = layer.resize(image.size, Image.Resampling.BOX)
    picture = Image.alpha_composite(image.convert("RGBA"), trails).convert("RGB")
    return draw_keypoints(picture, places[-1], radius=radius)


def _radius(image: Image.Image) -> float:
    """Choose the radius of a keypoint's disc, in pixels."""
    return max(2.0, min(image.size) / 70)


def _point_colors() -> Iterator[tuple[int, int, int]]:
    """Yield a colour for each point, without end."""
    return cycle(tuple(color) for color in davis_palette()[1:].tolist())
