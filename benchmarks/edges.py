"""Compare ways to enlarge soft labels to the picture's size, by J and F on a DAVIS folder, with the default settings.

    python benchmarks/edges.py DAVIS CACHE --every 6

Prints J, F and time a frame of every way on one thread, and what each family scores if its values are chosen on every second
sequence and scored on the others, both ways. CACHE is that of benchmarks/search.py.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matches import Sequence
from torch import Tensor
from torch.nn import functional as F

from siammae.evaluation.datasets import Davis
from siammae.evaluation.datasets.sequences import first_mask
from siammae.evaluation.metrics import boundary_accuracy, region_similarity
from siammae.labels import EdgeFilter, as_mask, flatten_labels, labels_to_grid, upsample
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation import PropagationConfig
from siammae.video import as_frame

Way = Callable[[Tensor, Tensor], Tensor]  # from a frame [3, H, W] and soft labels [L, h, w] to maps [L, H, W]


class GuidedOnly(EdgeFilter):
    """The guided filter on labels that were interpolated to the guide's size."""

    def _join(self, planes: Tensor) -> Tensor:
        return upsample(planes, self.size)


class BilateralOnly(EdgeFilter):
    """Joint bilateral upsampling to the guide's size, interpolated from there."""

    def __call__(self, planes: Tensor, size: tuple[int, int]) -> Tensor:
        return upsample(self._join(planes), size)


def bilinear(frame: Tensor, soft: Tensor) -> Tensor:
    return upsample(soft, (frame.shape[1], frame.shape[2]))


def filtered(kind: type[EdgeFilter], color: float, radius: float, eps: float, power: float = 1) -> Way:
    """Enlarge labels, raised to a power, by a filter."""

    def enlarge(frame: Tensor, soft: Tensor) -> Tensor:
        soft = flatten_labels(soft, power)
        grid, size = (soft.shape[1], soft.shape[2]), (frame.shape[1], frame.shape[2])
        return kind(frame, grid, color=color, radius=radius, eps=eps)(soft, size)

    return enlarge


def walk(steps: int, color: float, back: float) -> Way:
    """Random walk on the pixels of a guide of four pixels a cell: neighbors count by color, the start by `back`."""

    def enlarge(frame: Tensor, soft: Tensor) -> Tensor:
        start = upsample(soft, (soft.shape[1] * 4, soft.shape[2] * 4))
        guide = F.interpolate(frame[None].float() / 255, size=start.shape[1:], mode="bilinear", antialias=True)[0]
        weights = [torch.exp(-guide.diff(dim=axis).square().sum(dim=0) / (2 * color**2)) for axis in (1, 2)]
        soft = start
        for _ in range(steps):
            total, weight = 0.05 * soft, torch.full_like(soft[0], 0.05)
            for axis, near in enumerate(weights):
                length = near.shape[axis]
                for one, other in ((0, 1), (1, 0)):
                    total.narrow(axis + 1, one, length).add_(near * soft.narrow(axis + 1, other, length))
                    weight.narrow(axis, one, length).add_(near)
            soft = back * start + (1 - back) * total / weight
        return upsample(soft, (frame.shape[1], frame.shape[2]))

    return enlarge


def ways() -> dict[tuple[str, str], Way]:
    """Return all ways by family and values."""
    found: dict[tuple[str, str], Way] = {("bilinear", ""): bilinear}
    for radius, eps in ((0.017, 1e-5), (0.017, 1e-4), (0.025, 1e-5), (0.033, 1e-5), (0.033, 1e-4)):
        found["guided", f"radius {radius}, eps {eps:g}"] = filtered(GuidedOnly, 1, radius, eps)
    for color in (0.05, 0.1, 0.15, 0.25):
        found["joint bilateral", f"color {color}"] = filtered(BilateralOnly, color, 0.017, 1)
    for steps, color, back in ((10, 0.05, 0.05), (30, 0.02, 0.02), (30, 0.05, 0.02)):
        found["random walk", f"{steps} steps, color {color}, back {back}"] = walk(steps, color, back)
    for color, radius, eps, power in (
        (0.15, 0.017, 1e-4, 1),
        (0.2, 0.017, 1e-4, 1),
        (0.2, 0.017, 3e-5, 1),
        (0.2, 0.025, 3e-5, 1),
        (0.2, 0.017, 3e-5, 0.35),
        (0.2, 0.017, 3e-5, 0.5),
        (0.2, 0.017, 3e-5, 0.7),
        (0.3, 0.017, 3e-5, 0.5),
    ):
        values = f"color {color}, radius {radius}, eps {eps:g}, power {power}"
        found["both", values] = filtered(EdgeFilter, color, radius, eps, power)
    return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--frames", type=int, default=40, help="frames of each sequence, from its first on")
    parser.add_argument("--every", type=int, default=6, help="score every such frame")
    options = parser.parse_args()
    config, candidates = PropagationConfig(), ways()
    scores, times = [], []  # of each sequence: [ways, 2] and [frames, ways]
    torch.set_num_threads(1)
    for whole in Davis(options.davis).find():
        one = replace(whole, frames=whole.frames[: options.frames], annotations=whole.annotations[: options.frames])
        matches, mask = Sequence(one, options.model, options.size, config, options.cache), first_mask(one.annotations[0])
        soft = matches.propagate(labels_to_grid(mask, mask.ids(), matches.geometry.grid), config)
        rows = []
        for t in range(options.every, len(soft) - 1, options.every):
            frame, truth = as_frame(one.frames[t]), as_mask(one.annotations[t], empty=True).values > 0
            row = []
            for enlarge in candidates.values():
                began = time.perf_counter()
                maps = enlarge(frame, soft[t])
                spent = time.perf_counter() - began
                found = maps.argmax(dim=0).numpy() > 0
                row.append([region_similarity(truth, found), boundary_accuracy(truth, found), spent])
            rows.append(row)
        scores.append(np.mean(rows, axis=0)[:, :2])
        times.append(np.array(rows)[:, :, 2])
        print(f"{one.name}: {len(rows)} frames", flush=True)
    report(list(candidates), np.array(scores), np.concatenate(times))


def report(names: list[tuple[str, str]], scores: np.ndarray, times: np.ndarray) -> None:
    """Print the table of scores [sequences, ways, 2] and of times [frames, ways]."""
    print("\n| way | values | J | F | J&F | ms |\n|---|---|---|---|---|---|")
    for (family, values), (j, f), ms in zip(names, scores.mean(axis=0), 1000 * np.median(times, axis=0), strict=True):
        print(f"| {family} | {values} | {j:.3f} | {f:.3f} | {(j + f) / 2:.4f} | {ms:.0f} |")
    print("\n| way | J of sequences without part in the choice | F | J&F |\n|---|---|---|---|")
    half = np.arange(len(scores)) % 2 == 0
    for family in dict.fromkeys(family for family, _ in names):
        own = np.array([name[0] == family for name in names])
        left = np.zeros((len(scores), 2))
        for chosen in (half, ~half):
            left[~chosen] = scores[~chosen][:, own][:, scores[chosen][:, own].mean(axis=(0, 2)).argmax()]
        j, f = left.mean(axis=0)
        print(f"| {family} | {j:.3f} | {f:.3f} | {(j + f) / 2:.4f} |")


if __name__ == "__main__":
    main()
