"""Several pictures on one: contact sheets, before and after."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.visualize.masks import overlay

MARGIN = 4  # white pixels between pictures


def contact_sheet(pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Pictures [H, W, 3] of one size in rows of so many, with white between them."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = np.full((rows * (height + MARGIN) - MARGIN, columns * (width + MARGIN) - MARGIN, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + MARGIN), index % columns * (width + MARGIN)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def before_after(frames: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[Any]], columns: int = 4) -> NDArray[np.uint8]:
    """One picture of a clip: so many of its frames, evenly spread from the first to the last, above their overlays.

    Args:
        frames: T pictures [H, W, 3] of one size.
        masks: their ids [H, W].
        columns: frames shown; fewer where there are fewer.

    Raises:
        ValueError: no frames, or not as many masks; fewer than one column.
    """
    if len(frames) != len(masks) or not len(frames):
        raise ValueError(f"there are {len(frames)} frames and {len(masks)} masks; expected as many, and at least one")
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected at least 1")
    columns = min(columns, len(frames))
    shown = np.linspace(0, len(frames) - 1, columns).round().astype(int).tolist()
    return contact_sheet([frames[i] for i in shown] + [overlay(frames[i], masks[i]) for i in shown], columns)
