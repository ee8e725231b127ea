"""Masks whose ids are no ids: the shades that smooth edges and JPEG leave between objects."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 3  # shades from which edges are taken for smooth


def shades(ids: NDArray[Any]) -> list[int]:
    """List the ids of a mask [H, W] that are shades of edges, or nothing if there are fewer than three.

    A shade fills no 3 x 3 pixels anywhere, and most of its pixels lie between a higher and a lower id beside them.
    """
    present = np.unique(ids)
    if len(present) < FEWEST + 2 or ids.dtype == bool:  # shades lie between two ids
        return []
    ranks = np.searchsorted(present, ids)  # [H, W]
    around = np.pad(ranks, 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3))  # [H, W, 3, 3]
    low, high = windows.min(axis=(2, 3)), windows.max(axis=(2, 3))
    filled = np.zeros(len(present), dtype=bool)
    filled[ranks[low == high]] = True
    between = np.bincount(ranks[(low < ranks) & (ranks < high)], minlength=len(present))
    thin = ~filled & (2 * between > np.bincount(ranks.ravel(), minlength=len(present)))
    return [int(label) for label in present[thin]] if thin.sum() >= FEWEST else []


def check_edges(ids: NDArray[Any], void_id: int | None = None) -> None:
    """Raise ValueError if a mask of ids [H, W] has smooth edges, with what to do."""
    found = [label for label in shades(ids) if label != void_id]
    if len(found) >= FEWEST:
        named = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise ValueError(
            f"the mask has smooth edges: {len(found)} of its ids ({named}) are only shades between others, as JPEG, resizing "
            "or a soft brush leave them, and no objects. Save it as PNG with hard edges, resize it by the nearest pixel, or "
            "make ids of it first, such as mask > 127 for one object"
        )
