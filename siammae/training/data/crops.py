"""Crops: a random box of a frame, resampled to a square, flipped or not, shared by the frames of a sample.

Resampling weighs by triangles as wide as the reduction, so it does not alias: by torch for one frame on the CPU (`resized`),
by two small matrix products for a whole batch of boxes of different sizes on an accelerator (`resample`).

Letters: B frames, H x W pixels, S pixels of a crop's side.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


class Box(NamedTuple):
    """A rectangle of a frame, in whole pixels of that frame."""

    top: int
    left: int
    height: int
    width: int


def random_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator, ratio: tuple[float, float]
) -> Box:
    """Draw a random box whose area is `scale` of the frame's and whose width / height lies in `ratio` (log-uniform).

    After ten draws that do not fit, it is the largest central box of an allowed ratio.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_height, box_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < box_height <= height and 0 < box_width <= width:
            top, left = rng.integers(height - box_height + 1), rng.integers(width - box_width + 1)
            return Box(int(top), int(left), box_height, box_width)
    aspect = min(max(width / height, ratio[0]), ratio[1])
    box_height, box_width = min(height, round(width / aspect)), min(width, round(height * aspect))
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def moved_box(box: Box, height: int, width: int, jitter: float, rng: np.random.Generator) -> Box:
    """Move `box` as a camera might: up to `jitter` larger or smaller, and shifted by up to `jitter` of its sides.

    The result stays inside the frame of height x width pixels. Without jitter nothing is drawn.
    """
    if not jitter:
        return box
    scale = 1 + rng.uniform(-jitter, jitter)
    box_height, box_width = max(1, min(height, round(box.height * scale))), max(1, min(width, round(box.width * scale)))
    top = round(box.top + (box.height - box_height) / 2 + box.height * rng.uniform(-jitter, jitter))
    left = round(box.left + (box.width - box_width) / 2 + box.width * rng.uniform(-jitter, jitter))
    return Box(min(max(0, top), height - box_height), min(max(0, left), width - box_width), box_height, box_width)


def resized(frame: Tensor, flip: bool, side: int) -> Tensor:
    """Resample a frame [H, W, 3], uint8, on the CPU, to [3, S, S], mirrored left to right if `flip`.

    Values are within one level of those of `resample`.
    """
    crop = F.interpolate(rearrange(frame, "h w c -> 1 c h w"), (side, side), mode="bilinear", antialias=True)[0]
    return crop.flip(2) if flip else crop


def resample(frames: Tensor, sizes: Tensor, flips: Tensor, side: int) -> Tensor:
    """Resample the top left rectangle of each frame to side x side.

    Args:
        frames: [B, H, W, 3], uint8.
        sizes: [B, 2], height and width of each frame's rectangle.
        flips: [B], bool: mirrored left to right.
        side: S.

    Returns:
        [B, 3, S, S], uint8.
    """
    rows = _weights(sizes[:, 0], frames.shape[1], side)  # [B, S, H]
    columns = _weights(sizes[:, 1], frames.shape[2], side)
    columns = torch.where(flips[:, None, None], columns.flip(1), columns)
    batch, height, width, _ = frames.shape
    pixels = frames.float().view(batch, height, width * 3)
    reduced = torch.bmm(rows, pixels).view(batch, side, width, 3)
    reduced = rearrange(reduced, "b s w c -> b w (s c)")
    crops = torch.bmm(columns, reduced).round_().clamp_(0, 255).to(torch.uint8)
    return rearrange(crops, "b t (s c) -> b c s t", c=3).contiguous()


def _weights(lengths: Tensor, full: int, side: int) -> Tensor:
    """Return triangle weights [B, S, full] that take the first `lengths` of `full` samples to `side`; rows add up to 1."""
    scale = lengths[:, None, None].float() / side
    centers = (torch.arange(side, device=lengths.device)[:, None] + 0.5) * scale - 0.5  # [B, S, 1]
    positions = torch.arange(full, device=lengths.device)
    weights = (1 - (positions - centers).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights = weights.masked_fill(positions >= lengths[:, None, None], 0)
    return weights / weights.sum(-1, keepdim=True)
