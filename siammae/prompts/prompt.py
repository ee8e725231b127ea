"""Prompts in any form, checked: the boxes, clicks and rough masks of each object of one frame.

Letters: K clicks, N boxes, H x W pixels. Points are (x, y) with pixel centers at whole numbers: (0, 0) is the center of the top
left one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from siammae.errors import whole_number
from siammae.labels.masks import MaskLike, as_mask

Numbers: TypeAlias = Sequence[Any] | NDArray[Any]
BoxLike: TypeAlias = Numbers | Mapping[int, Numbers]  # left, top, right, bottom; several of them; or the box of each id
PointsLike: TypeAlias = Numbers | Mapping[int, Numbers]  # [K, 2], or that of each id
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom, pixels
LabelsLike: TypeAlias = Numbers | Mapping[int, Numbers]  # [K], or that of each id

HIGHEST_ID = 255  # that uint8 holds


@dataclass(frozen=True)
class Click:
    """A place that a person marked.

    Attributes:
        x, y: place, pixels.
        inside: the place belongs to the object; otherwise it does not.
    """

    x: float
    y: float
    inside: bool

    def __str__(self) -> str:
        return f"{'plus' if self.inside else 'minus'} click ({self.x:g}, {self.y:g})"


@dataclass(frozen=True)
class Prompt:
    """All that marks one object.

    Attributes:
        box: left, top, right, bottom, pixels; the corners belong to it; clipped to the frame. Or None.
        clicks: places in and outside the object.
        mask: rough mask [H, W], bool, or None.
    """

    box: Box | None
    clicks: tuple[Click, ...]
    mask: NDArray[np.bool_] | None

    def contains(self, click: Click) -> bool:
        """Tell if a click lies in the box, or if there is no box."""
        if self.box is None:
            return True
        left, top, right, bottom = self.box
        return left - 0.5 <= click.x <= right + 0.5 and top - 0.5 <= click.y <= bottom + 0.5


def read_prompts(
    size: tuple[int, int],
    box: BoxLike | None = None,
    points: PointsLike | None = None,
    labels: LabelsLike | None = None,
    mask: MaskLike | None = None,
) -> dict[int, Prompt]:
    """Read the prompts of a frame of `size` (H, W) by object; see `siammae.prompts.Segmenter.segment`.

    Raises:
        ValueError: nothing is marked, a form that cannot be read, a box or point outside the frame, a box of no area, a mask of
            another size, an id that is not 1 to 255.
    """
    if box is None and points is None and mask is None:
        raise ValueError("there is no prompt; expected a box, points or a mask")
    if labels is not None and points is None:
        raise ValueError("labels belong to points, and there are no points")
    boxes, masks = _read_boxes(box, size), _read_masks(mask, size)
    ids = sorted(boxes.keys() | masks.keys())
    clicks = _read_clicks(points, labels, size, ids)
    prompts = {}
    for label in sorted({*ids, *clicks}):
        prompts[label] = Prompt(boxes.get(label), clicks.get(label, ()), masks.get(label))
        if prompts[label].box is None and prompts[label].mask is None and not any(c.inside for c in prompts[label].clicks):
            raise ValueError(f"object {label} has only minus clicks; expected a box, a mask or a plus click with them")
    return prompts


def _by_id(given: Any, name: str) -> dict[int, Any]:
    """Return the values of a mapping by id; ValueError for an id that is not 1 to 255."""
    values = {}
    for label, value in given.items():
        number = whole_number(label, f"an id of {name}", f"a whole number, 1 to {HIGHEST_ID}")
        if not 1 <= number <= HIGHEST_ID:
            raise ValueError(f"{name} has the id {number}; expected 1 to {HIGHEST_ID}")
        values[number] = value
    if not values:
        raise ValueError(f"{name} is empty; leave it out, or mark an object")
    return values


def _array(values: Any, name: str, expected: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {values!r}; expected {expected}") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite; expected {expected}")
    return array


def _read_boxes(box: BoxLike | None, size: tuple[int, int]) -> dict[int, Box]:
    if box is None:
        return {}
    expected = "left, top, right, bottom in pixels, several such boxes, or a box for each id"
    if isinstance(box, Mapping):
        rows = {label: _array(values, f"box {label}", expected) for label, values in _by_id(box, "box").items()}
    else:
        array = _array(box, "box", expected)
        rows = dict(enumerate(array if array.ndim == 2 else array[None], start=1))
        if not rows or len(rows) > HIGHEST_ID:
            raise ValueError(f"there are {len(rows)} boxes; expected 1 to {HIGHEST_ID}")
    return {label: _read_box(row, label, size, expected) for label, row in rows.items()}


def _read_box(row: NDArray[np.float64], label: int, size: tuple[int, int], expected: str) -> Box:
    if row.shape != (4,):
        raise ValueError(f"box {label} has shape {list(row.shape)}; expected {expected}")
    left, top, right, bottom = row.tolist()
    shown, (height, width) = f"box {label} ({left:g}, {top:g}, {right:g}, {bottom:g})", size
    if not (left < right and top < bottom):
        raise ValueError(f"{shown} has no area; expected left < right and top < bottom")
    if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
        raise ValueError(f"{shown} lies outside the frame of {width} x {height} pixels")
    return max(left, 0.0), max(top, 0.0), min(right, width - 1.0), min(bottom, height - 1.0)


def _read_masks(mask: MaskLike | None, size: tuple[int, int]) -> dict[int, NDArray[np.bool_]]:
    if mask is None:
        return {}
    given = as_mask(mask)
    if given.soft:
        raise ValueError("the mask holds soft labels; expected ids [H, W]")
    if given.size != size:
        (height, width), (rows, columns) = size, given.size
        raise ValueError(f"the mask has {columns} x {rows} pixels; expected the frame's {width} x {height}")
    ids = [label for label in given.ids() if label]
    if ids[0] < 1 or ids[-1] > HIGHEST_ID:
        raise ValueError(f"the mask has ids {ids[0]} to {ids[-1]}; expected 1 to {HIGHEST_ID}")
    return {label: np.asarray(given.values == label) for label in ids}


def _read_clicks(
    points: PointsLike | None, labels: LabelsLike | None, size: tuple[int, int], ids: Sequence[int]
) -> dict[int, tuple[Click, ...]]:
    if points is None:
        return {}
    if not isinstance(points, Mapping):
        if len(ids) > 1:
            raise ValueError(
                f"there are {len(ids)} objects, and the points do not say whose they are; give them by id, such as "
                f"points={{{ids[0]}: [[x, y]]}}"
            )
        label = ids[0] if ids else 1
        points = {label: points}
        if labels is not None and not isinstance(labels, Mapping):
            labels = {label: labels}
    if labels is not None and not isinstance(labels, Mapping):
        raise ValueError("points are given by id; expected labels by id too")
    places, kinds = _by_id(points, "points"), {} if labels is None else _by_id(labels, "labels")
    if kinds.keys() - places.keys():
        raise ValueError(f"labels have ids {sorted(kinds.keys() - places.keys())}, for which there are no points")
    return {label: tuple(_clicks(values, kinds.get(label), label, size)) for label, values in places.items()}


def _clicks(places: Any, kinds: Any, label: int, size: tuple[int, int]) -> Iterable[Click]:
    array = _array(places, f"points of object {label}", "[K, 2], the x and y of K points")
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise ValueError(f"points of object {label} have shape {list(array.shape)}; expected [K, 2], the x and y of K points")
    flags = np.ones(len(array)) if kinds is None else _array(kinds, f"labels of object {label}", "1 or 0 for each point")
    if flags.shape != (len(array),) or not np.isin(flags, (0, 1)).all():
        raise ValueError(
            f"labels of object {label} are {np.asarray(kinds).tolist()}; expected 1 (of the object) or 0 (not of it) for each "
            f"of {len(array)} points"
        )
    height, width = size
    for (x, y), flag in zip(array.tolist(), flags.tolist(), strict=True):
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise ValueError(f"point ({x:g}, {y:g}) of object {label} lies outside the frame of {width} x {height} pixels")
        yield Click(x, y, bool(flag))
