"""Motion between two frames of a cached clip: the share of cells whose mean color changes.

Pairs of a camera that stands still before a scene that stands still teach to copy from the same place.

Letters: F frames, H x W pixels of a frame, h x w cells of CELL x CELL pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from siammae.training.cache import CachedClip, FrameCache
from siammae.training.crops import Box

CELL = 8  # pixels of a cell's side
CHANGE = 8  # levels of 255, averaged over the colors, from which on a cell counts as changed


def cell_means(cache: FrameCache, clip: CachedClip) -> Tensor:
    """Mean color of every whole cell of a clip: [F, h, w, 3], uint8, on the CPU."""
    frame = clip.height * clip.width
    rows, columns = max(1, clip.height // CELL), max(1, clip.width // CELL)
    tall, wide = min(CELL, clip.height), min(CELL, clip.width)
    means = []
    for first in range(0, clip.frames, 32):  # a few frames at a time, as floats are four times as large
        count = min(32, clip.frames - first)
        start = clip.offset + first * frame
        pixels = cache.pixels[start : start + count * frame].view(count, clip.height, clip.width, 3)
        cells = pixels[:, : rows * tall, : columns * wide].reshape(count, rows, tall, columns, wide, 3)
        means.append(cells.float().mean(dim=(2, 4)).round().to(torch.uint8).cpu())
    return torch.cat(means)


def changed_share(cells: Tensor, frames: Sequence[int], box: Box) -> float:
    """Share of the cells under a box that change from the first of `frames` to the others, averaged over the others.

    Args:
        cells: [F, h, w, 3] of the clip, from `cell_means`.
        frames: indices, the past frame first.
        box: part of the frame in pixels; cells that it touches count.
    """
    rows = slice(box.top // CELL, max(box.top // CELL + 1, -(-(box.top + box.height) // CELL)))
    columns = slice(box.left // CELL, max(box.left // CELL + 1, -(-(box.left + box.width) // CELL)))
    part = cells[torch.tensor(list(frames)), rows, columns].short()  # [1 + T, h, w, 3]
    if not part.numel():
        return 0.0  # a sliver at the edge that no whole cell covers
    changes = (part[1:] - part[0]).abs().float().mean(dim=-1)
    return float((changes >= CHANGE).float().mean())
