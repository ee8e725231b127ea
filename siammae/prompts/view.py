"""View: a part of the frame as the encoder sees it, with all that fitting a mask in it needs.

Letters: H x W pixels of the view, h x w cells, n = h w cells, D channels.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siammae.encoder import Encoder
from siammae.features import descriptors
from siammae.geometry import Geometry
from siammae.labels.edges import EdgeFilter
from siammae.labels.grid import labels_to_grid
from siammae.labels.masks import Mask
from siammae.prompts import evidence
from siammae.prompts.prompt import Box, Click

Window = tuple[int, int, int, int]  # left, top, right, bottom of a part of the frame, without the last column and row
EDGES = {"color": 0.15, "radius": 0.017, "eps": 1e-4}  # of `siammae.labels.EdgeFilter`
AROUND = 0.5  # margin around a box, as a share of its sides
FINEST = 2  # pixels of the frame along the side of the smallest cells


class View:
    """The features of a part of a frame.

    Args:
        encoder: the model.
        frame: [3, H, W] of the whole frame.
        window: the part.
        size: (height, width) at which the encoder sees it.

    Attributes:
        geometry: sizes of the part and its grid.
        features: [n, D], of unit length.
        weights: [n, n], of the steps between cells (`siammae.prompts.evidence.affinity`).
    """

    def __init__(self, encoder: Encoder, frame: Tensor, window: Window, size: tuple[int, int]) -> None:
        left, top, right, bottom = self.window = window
        picture = frame[:, top:bottom, left:right].contiguous()
        self.geometry = Geometry.of((bottom - top, right - left), encoder, size)
        self.features = descriptors(encoder, [picture], self.geometry)[0].flatten(1).T.contiguous()
        self.weights = evidence.affinity(self.features)
        self._edges = EdgeFilter(picture.to(encoder.device), self.geometry.grid, **EDGES)

    def cell(self, click: Click) -> int | None:
        """Return the number of the cell under a click, or None if it lies outside the view."""
        left, top, right, bottom = self.window
        if not (left - 0.5 <= click.x <= right - 0.5 and top - 0.5 <= click.y <= bottom - 0.5):
            return None
        place = self.geometry.to_grid(torch.tensor([click.x - left, click.y - top], device="cpu"))
        rows, columns = self.geometry.grid
        column, row = (round(float(value)) for value in place)
        return min(max(row, 0), rows - 1) * columns + min(max(column, 0), columns - 1)

    def box_shares(self, box: Box) -> Tensor:
        """Compute the share of each cell that a box covers: [n]."""
        (left, top, _, _), (height, width), (rows, columns) = self.window, self.geometry.frame, self.geometry.grid
        down = _overlap(rows, height, box[1] - top, box[3] - top)
        across = _overlap(columns, width, box[0] - left, box[2] - left)
        return torch.outer(down, across).flatten()

    def mask_shares(self, mask: NDArray[np.bool_]) -> Tensor:
        """Compute the share of each cell that a mask of the view's pixels [H, W] covers: [n]."""
        return labels_to_grid(Mask(mask, "numpy", mask.dtype), [1], self.geometry.grid)[0].flatten()

    def places(self) -> Tensor:
        """Return row and column [n, 2] of every cell."""
        rows, columns = (torch.arange(length, device=self.weights.device) for length in self.geometry.grid)
        return torch.cartesian_prod(rows, columns).float()

    def enlarge(self, shares: Tensor) -> Tensor:
        """Enlarge the shares [n] of the cells to the view's pixels, along the edges of the picture: [H, W]."""
        return self._edges(shares.view(1, *self.geometry.grid), self.geometry.frame)[0]


def window_around(box: Box, frame: tuple[int, int]) -> Window:
    """Find the part of a frame (H, W) around a box: half of its sides on each side, and no narrower than its longer side."""
    spans = []
    lengths = [box[2] - box[0] + 1, box[3] - box[1] + 1]
    for axis, size in enumerate((frame[1], frame[0])):
        margin = max(AROUND * lengths[axis], (max(lengths) - lengths[axis]) / 2)
        spans.append((max(0, math.floor(box[axis] - margin)), min(size, math.ceil(box[axis + 2] + margin) + 1)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def size_of(window: Window, whole: Geometry, patch: int) -> tuple[int, int]:
    """Return (height, width) at which the encoder sees a part of a frame: about as many cells as those of the whole frame."""
    left, top, right, bottom = window
    sides = bottom - top, right - left
    scale = min(math.sqrt(math.prod(whole.input) / math.prod(sides)), patch / FINEST)
    return max(1, round(sides[0] * scale / patch)) * patch, max(1, round(sides[1] * scale / patch)) * patch


def _overlap(num_cells: int, num_pixels: int, first: float, last: float) -> Tensor:
    """Compute the share of each cell that the pixels from `first` to `last` cover along one axis: [num_cells]."""
    side = num_pixels / num_cells
    edges = torch.arange(num_cells + 1, device="cpu") * side - 0.5
    return ((edges[1:].clamp(max=last + 0.5) - edges[:-1].clamp(min=first - 0.5)) / side).clamp(min=0)
