"""Motion between two frames of a cached clip: the share of cells whose mean color changes.

Pairs of a still scene before a still camera only teach the model to copy from the same place.

Letters: F frames, H x W pixels of a frame, h x w cells of CELL x CELL pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from siammae.training.data.crops import Box

CELL = 8  # pixels of a cell's side
CHANGE = 8  # levels of 255, averaged over the colors, at which a cell counts as changed


def cell_means(frames: Tensor) -> Tensor:
    """Average the color of every whole cell of a clip's frames [F, H, W, 3], uint8: [F, h, w, 3], uint8, on the CPU."""
    _, height, width, _ = frames.shape
    rows, columns = max(1, height // CELL), max(1, width // CELL)
    tall, wide = min(CELL, height), min(CELL, width)
    means = []
    for few in frames.split(32):  # floats take four times as much
        cells = few[:, : rows * tall, : columns * wide].reshape(len(few), rows, tall, columns, wide, 3)
        means.append(cells.float().mean(dim=(2, 4)).round().to(torch.uint8).cpu())
    return torch.cat(means)


def changed_share(cells: Tensor, frames: Sequence[int], box: Box) -> float:
    """Compute the share of cells under a box that change from the first of `frames` to the others, averaged over these.

    Args:
        cells: [F, h, w, 3] of the clip, from `cell_means`.
        frames: indices, the past frame first.
        box: rectangle of the frame in pixels; cells that it touches count.
    """
    rows = slice(box.top // CELL, max(box.top // CELL + 1, -(-(box.top + box.height) // CELL)))
    columns = slice(box.left // CELL, max(box.left // CELL + 1, -(-(box.left + box.width) // CELL)))
    shown = cells[torch.tensor(list(frames), device=cells.device), rows, columns].short()  # [1 + T, h, w, 3]
    if not shown.numel():
        return 0.0  # a sliver at the edge that no whole cell covers
    changes = (shown[1:] - shown[0]).abs().float().mean(dim=-1)
    return float((changes >= CHANGE).float().mean())
