"""Several pictures on one sheet: contact sheets, before and after."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.labels.masks import MaskLike
from siammae.video.pictures import as_picture
from siammae.visualize.masks import overlay

MARGIN = 4  # white pixels between pictures


def contact_sheet(pictures: Iterable[Any], columns: int) -> NDArray[np.uint8]:
    """Put frames or pictures of one size, in any form, on one sheet [H, W, 3] in rows of `columns`, with white between them."""
    tiles = [as_picture(picture) for picture in pictures]
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    sheet = np.full((rows * (height + MARGIN) - MARGIN, columns * (width + MARGIN) - MARGIN, 3), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + MARGIN), index % columns * (width + MARGIN)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def before_after(frames: Sequence[Any], masks: Sequence[MaskLike], columns: int = 4) -> NDArray[np.uint8]:
    """Show a clip in one picture [H, W, 3]: frames evenly spread from the first to the last, above their overlays.

    Args:
        frames: T frames of one size, in any form that `siammae.video.as_frame` takes.
        masks: their ids [H, W], in any form that `siammae.labels.as_mask` takes.
        columns: number of frames that are shown, at most T.

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
