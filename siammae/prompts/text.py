"""Prompts from text: boxes, rough shapes and clicks, as the command line takes them."""

import re
from collections.abc import Sequence
from typing import Any

from siammae.labels.shapes import KINDS, draw_shapes, read_shape

CLICKS = "plus", "minus"


def read_words(words: Sequence[str], size: tuple[int, int]) -> dict[str, Any]:
    """Read prompts such as "box:210,80,420,310" and "minus:230,100"; returns keyword arguments of `Segmenter.segment`.

    Args:
        words: "box:x0,y0,x1,y1" around an object; "ellipse:..." or "polygon:..." roughly over it, as for
            `siammae.labels.draw_shapes`; "plus:x,y", a place of the object, or "minus:x,y", none. Shapes get the ids 1, 2, ...
            in their order, and a click belongs to the shape before it, or to object 1; "3=box:..." sets the id.
        size: (H, W) of the frame.

    Raises:
        ValueError: no words, one that cannot be read, or an object with two shapes.
    """
    if not words:
        raise ValueError("nothing is marked; expected at least one prompt, such as box:210,80,420,310 or plus:300,200")
    boxes: dict[int, list[float]] = {}
    rough: dict[int, str] = {}
    points: dict[int, list[list[float]]] = {}
    labels: dict[int, list[int]] = {}
    last = 1
    for word in words:
        kind = re.fullmatch(r"(?:\d+=)?([a-z]+):.*", word.strip(), re.DOTALL)
        if kind and kind[1] in CLICKS:
            label, place = _read_click(word, last)
            points.setdefault(label, []).append(place)
            labels.setdefault(label, []).append(int(kind[1] == "plus"))
            continue
        if not kind or kind[1] not in KINDS:
            raise ValueError(f"{word}: expected KIND:x,y,... with KIND one of {', '.join((*KINDS, *CLICKS))}")
        shape = read_shape(word, len(boxes) + len(rough) + 1)
        last = shape.label
        if last in boxes or last in rough:
            raise ValueError(f"{word}: object {last} has a shape already; give this one another id, such as {last + 1}={word}")
        if shape.kind == "box":
            boxes[last] = [number for corner in shape.points for number in corner]
        else:
            rough[last] = f"{last}={word.strip().rpartition('=')[2]}"
    mask = draw_shapes(list(rough.values()), size) if rough else None
    return {"box": boxes or None, "points": points or None, "labels": labels or None, "mask": mask}


def _read_click(word: str, last: int) -> tuple[int, list[float]]:
    """Read the object and the place of a click, which belongs to object `last` if it names none."""
    match = re.fullmatch(r"(?:(\d+)=)?[a-z]+:([^,]+),([^,]+)", word.strip())
    try:
        return int(match[1] or last), [float(match[2]), float(match[3])]  # type: ignore[index]  # TypeError if it is None
    except (TypeError, ValueError):
        raise ValueError(f"{word}: expected x and y of one place, such as plus:300,200") from None
