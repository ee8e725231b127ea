"""Outlines of masks as polygons.

An outline runs through the centres of the pixels at an object's border, as OpenCV's `findContours` gives it: whoever fills it,
border included, gets the object back. Points are (x, y).
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.int64]

STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # row and column for each direction: east, south, west, north


def outlines(mask: NDArray[np.bool_]) -> list[Points]:
    """Trace all outlines of a mask [H, W]: closed rings [N, 2] of pixels (x, y).

    Outer ones run clockwise, those of holes against the clock. Pixels that touch at a corner are one part.
    """
    sides = _sides(mask)
    left, rings = set(sides), []
    for start in sides:
        if start not in left:
            continue
        ring: list[tuple[int, int]] = []
        side = start
        while side in left:
            left.remove(side)
            if not ring or ring[-1] != sides[side]:
                ring.append(sides[side])
            side = _next(side, sides)
        if len(ring) > 1 and ring[0] == ring[-1]:
            ring.pop()
        rings.append(_corners(np.array(ring)[:, ::-1]))
    return rings


def _sides(mask: NDArray[np.bool_]) -> dict[tuple[int, int, int], tuple[int, int]]:
    """Find the sides of pixels that lie at the border, by the corner they begin at and their direction, clockwise.

    Returns:
        The pixel (row, column) of each side (row, column, direction).
    """
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    sides: dict[tuple[int, int, int], tuple[int, int]] = {}
    for direction, (beyond, begins) in enumerate((((-1, 0), (0, 0)), ((0, 1), (0, 1)), ((1, 0), (1, 1)), ((0, -1), (1, 0)))):
        rows, columns = beyond
        outside = ~padded[1 + rows : padded.shape[0] - 1 + rows, 1 + columns : padded.shape[1] - 1 + columns]
        for row, column in zip(*(axis.tolist() for axis in np.nonzero(inner & outside)), strict=True):
            sides[row + begins[0], column + begins[1], direction] = row, column
    return sides


def _next(side: tuple[int, int, int], sides: Collection[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Find the side that follows: to the left where there is a choice, which joins pixels that touch at a corner."""
    row, column, direction = side
    row, column = row + STEPS[direction][0], column + STEPS[direction][1]
    return next(place for turn in (3, 0, 1) if (place := (row, column, (direction + turn) % 4)) in sides)


def _corners(ring: Points) -> Points:
    """Drop the points [N, 2] between two others on a straight line."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    straight = (before == after).all(axis=1)
    return ring if straight.all() else ring[~straight]


def polygon(mask: NDArray[np.bool_]) -> Points:
    """Outline a mask [H, W] by one polygon [N, 2] of pixels (x, y), N at least 3.

    Holes, and parts that lie apart, are joined to it by lines that run there and back, between their nearest corners.
    """
    rings = outlines(mask)
    corners = np.concatenate(rings)  # [C, 2]
    owner = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    first = max(range(len(rings)), key=lambda index: len(rings[index]))
    joined = added = rings[first]
    waiting = owner != first
    gap = np.full(len(corners), np.inf)  # of each corner to the nearest one that is joined already
    nearest = np.zeros_like(corners)
    while waiting.any():
        gaps = sum(np.abs(corners[:, None, axis] - added[None, :, axis]) for axis in (0, 1))  # [C, corners of the last ring]
        closest = gaps.argmin(axis=1)
        closer = gaps.min(axis=1) < gap
        gap[closer], nearest[closer] = gaps.min(axis=1)[closer], added[closest[closer]]
        corner = int(np.where(waiting, gap, np.inf).argmin())
        added = rings[owner[corner]]
        waiting &= owner != owner[corner]
        ring = np.roll(added, -_place(added, corners[corner]), axis=0)
        here = _place(joined, nearest[corner])
        joined = np.concatenate([joined[: here + 1], ring, ring[:1], joined[here:]])
    return joined if len(joined) >= 3 else np.resize(joined, (3, 2))


def _place(points: Points, point: Points) -> int:
    """Find where a point [2] stands among points [N, 2]."""
    return int((points == point).all(axis=1).argmax())
