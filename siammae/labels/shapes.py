"""Masks from text: boxes, ellipses and polygons, filled in their order."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

KINDS = "box", "ellipse", "polygon"


class Shape(NamedTuple):
    """A box, ellipse or polygon, and the id of its object."""

    label: int
    kind: str  # one of KINDS
    points: list[tuple[float, float]]  # corners; of a box and the box around an ellipse two: left top, right bottom


def draw_shapes(shapes: Sequence[str], size: tuple[int, int]) -> NDArray[np.uint16]:
    """Draw a mask [H, W] of shapes such as "box:210,80,420,310"; a later shape covers an earlier one.

    Args:
        shapes: "box:x0,y0,x1,y1", "ellipse:x0,y0,x1,y1" (the box around it) or "polygon:x0,y0,x1,y1,x2,y2,...", in pixels;
            (0, 0) is the centre of the top left pixel, and the corners belong to the shape. Shapes get the ids 1, 2, ... in
            their order; "3=box:..." sets the id, and several shapes may share one.
        size: (H, W) of the frame.

    Raises:
        ValueError: a shape that cannot be read, or an id of which no pixel is visible.
    """
    if not shapes:
        raise ValueError("no shapes; expected at least one, such as box:210,80,420,310")
    height, width = size
    picture = Image.new("I", (width, height))
    draw, ids = ImageDraw.Draw(picture), set()
    for number, text in enumerate(shapes, start=1):
        label, kind, points = read_shape(text, number)
        if kind == "polygon":
            draw.polygon(points, fill=label)
        else:
            (draw.rectangle if kind == "box" else draw.ellipse)(points, fill=label)
        ids.add(label)
    mask: NDArray[np.uint16] = np.array(picture).astype(np.uint16)
    unseen = ids - set(np.unique(mask).tolist())
    if unseen:
        raise ValueError(
            f"no pixel of ids {sorted(unseen)} is visible: they lie outside the frame of {width} x {height} pixels, or under "
            "later shapes"
        )
    return mask


def read_shape(text: str, number: int) -> Shape:
    """Read one shape, which has the id `number` if it names none; ValueError if it cannot be read."""
    match = re.fullmatch(r"(?:(\d+)=)?(box|ellipse|polygon):([-+.,\d\s]+)", text.strip())
    if not match:
        raise ValueError(f"{text}: expected KIND:x,y,x,y,... with KIND one of {', '.join(KINDS)}, such as box:210,80,420,310")
    label, kind = int(match[1] or number), match[2]
    try:
        values = [float(value) for value in match[3].split(",")]
    except ValueError:
        raise ValueError(f"{text}: expected numbers between commas, such as box:210,80,420,310") from None
    if not 1 <= label <= 65535:
        raise ValueError(f"{text}: id {label}; expected 1 to 65535, since 0 is the background")
    if len(values) % 2 or len(values) < 6 if kind == "polygon" else len(values) != 4:
        expected = "x and y of 3 or more corners" if kind == "polygon" else "left, top, right, bottom"
        raise ValueError(f"{text}: {len(values)} numbers; expected {expected}")
    points = list(zip(values[::2], values[1::2], strict=True))
    if kind != "polygon" and not (points[0][0] <= points[1][0] and points[0][1] <= points[1][1]):
        raise ValueError(f"{text}: expected left, top, right, bottom")
    return Shape(label, kind, points)
