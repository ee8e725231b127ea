"""Masks: the patches of a frame that the encoder sees.

Letters: B frames, N patches of a frame, K of them visible, M = N - K of them masked.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

MaskKind = Literal["random", "grid"]


class PatchMask(NamedTuple):
    """Visible and masked patches of B frames, as indices into the N patches of a frame, row by row."""

    visible: Tensor  # [B, K], int64
    masked: Tensor  # [B, M], int64


class Masks(NamedTuple):
    """Masks of a batch of P pairs with T futures: of the P past frames, and of the P * T future frames."""

    past: PatchMask
    future: PatchMask

    def to(self, device: torch.device) -> "Masks":
        """Return the masks on a device; from pinned memory the copies do not wait."""
        return Masks(*(PatchMask(*(index.to(device, non_blocking=True) for index in mask)) for mask in self))


@dataclass(frozen=True)
class MaskDrawer:
    """A draw of a run's masks by the number of a micro-batch: the same in every process, loader worker and resume.

    Attributes:
        kind: random or grid.
        grid: patches along a side of the crops.
        past_ratio: masked share of the past frames.
        future_ratio: masked share of the future frames.
        futures: future frames of one past frame.
        seed: seed of the run.
    """

    kind: MaskKind
    grid: int
    past_ratio: float
    future_ratio: float
    futures: int
    seed: int

    def __call__(self, pairs: int, micro_batch: int) -> Masks:
        """Draw the masks of `pairs` pairs, on the CPU: those of the past frames first, then those of the future frames."""
        state = np.random.SeedSequence([self.seed, 0, micro_batch]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state >> 1))
        past = draw_mask(self.kind, pairs, self.grid, self.grid, self.past_ratio, generator)
        future = draw_mask(self.kind, pairs * self.futures, self.grid, self.grid, self.future_ratio, generator)
        return Masks(past, future)


def visible_count(num_patches: int, ratio: float) -> int:
    """Return K = floor(N * (1 - ratio)) without float error: 9 of 196 at 0.95, 10 of 100 at 0.9."""
    return int(num_patches * (1 - ratio) + 1e-6)


def random_mask(batch: int, num_patches: int, ratio: float, generator: torch.Generator) -> PatchMask:
    """Keep random K patches of every frame, any set as likely as any other."""
    order = torch.rand(batch, num_patches, generator=generator, dtype=torch.float32, device=generator.device).argsort(dim=1)
    visible = visible_count(num_patches, ratio)
    return PatchMask(order[:, :visible], order[:, visible:])


def grid_mask(batch: int, height: int, width: int, ratio: float) -> PatchMask:
    """Keep the same regular grid of patches in every frame.

    The grid is the a x b lattice with a * b nearest to `visible_count` (the squarest of equal ones), spread evenly over
    the height x width patches: 3 x 3 of 14 x 14 at 0.95, 7 x 7 at 0.75.
    """
    wanted = visible_count(height * width, ratio)
    sizes = [(rows, columns) for rows in range(1, height + 1) for columns in range(1, width + 1)]
    rows, columns = min(sizes, key=lambda ab: (abs(ab[0] * ab[1] - wanted), abs(ab[0] * width - ab[1] * height), ab))
    keep = torch.zeros(height, width, dtype=torch.bool, device="cpu")
    keep[_spread(rows, height)[:, None], _spread(columns, width)] = True
    flat = keep.flatten()
    visible, masked = flat.nonzero().flatten(), (~flat).nonzero().flatten()
    return PatchMask(visible.expand(batch, -1), masked.expand(batch, -1))


def _spread(count: int, length: int) -> Tensor:
    """Return `count` different positions in 0 .. length - 1, evenly spread."""
    return ((torch.arange(count, dtype=torch.float32, device="cpu") + 0.5) * (length / count)).long()


def draw_mask(kind: MaskKind, batch: int, height: int, width: int, ratio: float, generator: torch.Generator) -> PatchMask:
    """Draw a mask for `batch` frames of height x width patches; ratio 0 keeps all of them, in order."""
    if ratio == 0:
        everything = torch.arange(height * width, device=generator.device).expand(batch, -1)
        return PatchMask(everything, everything[:, :0])
    if kind == "grid":
        return grid_mask(batch, height, width, ratio)
    return random_mask(batch, height * width, ratio, generator)


def gather_patches(tokens: Tensor, index: Tensor) -> Tensor:
    """Gather tokens [B, N, D] at index [B, K] -> [B, K, D]."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
