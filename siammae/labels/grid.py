"""Soft labels on the grid: masks and points as maps, and back.

Letters: L labels, H x W pixels, h x w cells, K keypoints. Points are (x, y) with pixel (and cell) centres at whole
numbers: (0, 0) is the centre of the top left one, and a picture spans -0.5 to W - 0.5.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from siammae.labels.masks import Mask, resize_nearest

Reduction = Literal["area", "bilinear", "nearest"]
Enlarge: TypeAlias = Callable[[Tensor, tuple[int, int]], Tensor]  # from maps [L, h, w] and (H, W) to maps [L, H, W]
PLANES_AT_ONCE = 16  # label maps that are held at full resolution together


def labels_to_grid(mask: Mask, ids: Sequence[int], grid: tuple[int, int], reduction: Reduction = "area") -> Tensor:
    """Reduce a mask to soft labels [L, h, w] of the cells, one map for each of `ids` (for soft labels: for each channel).

    "area" gives the exact share of each cell that a label covers. "bilinear" samples the one-hot planes at the cell centres
    (CRW). "nearest" takes the label of the pixel at the cell's centre (DINO); a thin object may vanish.
    """
    rows, columns = (coverage(cells, pixels) for cells, pixels in zip(grid, mask.size, strict=True))
    planes = []
    for index, label in enumerate(ids):
        chosen = mask.values[index] if mask.soft else mask.values == label
        plane = torch.from_numpy(np.ascontiguousarray(chosen, dtype=np.float32))  # [H, W]
        if reduction == "area":
            planes.append(rows @ plane @ columns.T)
        elif reduction == "bilinear":
            planes.append(F.interpolate(plane[None, None], size=grid, mode="bilinear", align_corners=False)[0, 0])
        else:
            planes.append(resize_nearest(plane, grid))
    return torch.stack(planes)


def coverage(num_cells: int, num_pixels: int) -> Tensor:
    """Compute how much of each cell each pixel covers along one axis: [num_cells, num_pixels], rows add up to 1."""
    cells = torch.linspace(0, num_pixels, num_cells + 1, dtype=torch.float64, device="cpu")
    pixels = torch.arange(num_pixels + 1, dtype=torch.float64, device="cpu")
    low = torch.maximum(cells[:-1, None], pixels[None, :-1])
    high = torch.minimum(cells[1:, None], pixels[None, 1:])
    return ((high - low).clamp(min=0) * num_cells / num_pixels).float()


def upsample(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps [L, h, w] to H x W pixels by bilinear interpolation: [L, H, W]."""
    return F.interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]


def strongest_label(soft: Tensor, size: tuple[int, int], *, normalize: bool = False, enlarge: Enlarge = upsample) -> Tensor:
    """Find the strongest label of every pixel: indices [H, W] of soft labels [L, h, w]; ties go to the lower index.

    `enlarge` brings the maps to H x W pixels. `normalize` then stretches each label's map to the range 0..1, as DINO does; a
    map that is nowhere positive stays as it is. Only a few maps exist at full resolution at a time.
    """
    best = torch.full(size, -torch.inf, dtype=soft.dtype, device=soft.device)
    winner = torch.zeros(size, dtype=torch.int64, device=soft.device)
    for first in range(0, len(soft), PLANES_AT_ONCE):
        planes = enlarge(soft[first : first + PLANES_AT_ONCE], size)
        if normalize:
            planes = _stretch(planes)
        strength, index = planes.max(dim=0)
        better = strength > best
        best = torch.where(better, strength, best)
        winner = torch.where(better, index + first, winner)
    return winner


def _stretch(planes: Tensor) -> Tensor:
    low, high = planes.amin(dim=(1, 2), keepdim=True), planes.amax(dim=(1, 2), keepdim=True)
    stretched = (planes - low) / (high - low).clamp(min=torch.finfo(planes.dtype).tiny)
    return torch.where(high > 0, stretched, planes)


def points_to_grid(points: Tensor, grid: tuple[int, int], sigma: float = 0.5) -> Tensor:
    """Draw points [K, 2], in cells, as heat maps [K, h, w]: Gaussians of deviation `sigma` cells, highest cell 1.

    A point that is NaN (not visible) gets an empty map.
    """
    rows, columns = (torch.arange(length, device=points.device) for length in grid)
    dx = (columns - points[:, :1])[:, None]  # [K, 1, w]
    dy = (rows - points[:, 1:])[:, :, None]  # [K, h, 1]
    distance = dx.square() + dy.square()
    nearest = distance.amin(dim=(1, 2), keepdim=True)
    return torch.exp((nearest - distance) / (2 * sigma**2)).nan_to_num(0)


def points_to_crw_grid(points: Tensor, grid: tuple[int, int], sigma: float = 0.5) -> Tensor:
    """Draw points [K, 2], in cells, as heat maps [K, h, w] like CRW's script does for JHMDB.

    Each is a Gaussian of deviation `sigma` in a window of 6 sigma + 1 cells around a whole cell: the nearest one, but along the
    left and upper edges the one after it, since the script rounds towards zero. A point outside the grid gets the part of its
    window that reaches into the grid.
    """
    heat = torch.zeros(len(points), *grid, dtype=torch.float32, device="cpu")
    size = math.ceil(6 * sigma + 1)
    offsets = torch.arange(size, dtype=torch.float32, device="cpu") - (6 * sigma + 1) // 2
    bell = torch.exp(-offsets.square() / (2 * sigma**2))
    for plane, point in zip(heat, points.tolist(), strict=True):
        if not all(map(math.isfinite, point)):
            continue
        (left, top), (right, bottom) = ([int(x + reach) for x in point] for reach in (-3 * sigma, 3 * sigma + 1))
        rows = slice(max(0, top), min(bottom, grid[0], top + size))
        columns = slice(max(0, left), min(right, grid[1], left + size))
        if rows.start < rows.stop and columns.start < columns.stop:
            plane[rows, columns] = (
                bell[rows.start - top : rows.stop - top, None] * bell[columns.start - left : columns.stop - left]
            )
    return heat


def grid_to_points(heat: Tensor, top_k: int = 5, radius: float = math.inf) -> tuple[Tensor, Tensor]:
    """Read points [K, 2], in cells, and scores [K] from heat maps [K, h, w].

    A point is the mean of its `top_k` highest cells weighted by their heat (CRW: 3, CropMAE: 5), among those within `radius`
    cells of the highest; its score is the highest heat. An empty map gives NaN and 0.
    """
    flat = heat.flatten(1)
    if radius < math.inf:
        cells = torch.arange(flat.shape[1], device=heat.device)
        places = torch.stack([cells // heat.shape[2], cells % heat.shape[2]]).float()  # [2, h w]
        highest = places[:, flat.argmax(dim=1)]  # [2, K]
        flat = flat * ((places[:, None] - highest[:, :, None]).square().sum(dim=0) <= radius**2)
    weights, cells = flat.topk(min(top_k, flat.shape[1]), dim=1)  # [K, k]
    weights = weights.clamp(min=0)
    share = weights / weights.sum(dim=1, keepdim=True)
    width = heat.shape[2]
    points = torch.stack([(share * (cells % width)).sum(1), (share * (cells // width)).sum(1)], dim=1)
    return points, weights[:, 0]


def redraw_points(heat: Tensor, points: Tensor, share: float, sigma: float = 0.5) -> Tensor:
    """Mix heat maps [K, h, w], scaled to a height of 1, with Gaussians drawn around points [K, 2], in cells, by `share`.

    The map of a point that is NaN, or empty, stays as it is.
    """
    height = heat.amax(dim=(1, 2), keepdim=True)
    found = torch.isfinite(points).all(dim=1)[:, None, None] & (height > 0)
    return torch.where(
        found, share * points_to_grid(points, (heat.shape[1], heat.shape[2]), sigma) + (1 - share) * heat / height, heat
    )
