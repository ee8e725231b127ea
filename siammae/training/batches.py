"""Batches: what a training step receives, whatever source it came from.

A step's `batch_size` pairs are cut into parts, one for every backward pass of every process. Part number
`step * parts + k` is drawn from a random generator of its own, so the run is the same for any number of processes,
loader workers and resumes.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from siammae.training.cache import CachedClip, FrameCache
from siammae.training.config import DataConfig
from siammae.training.crops import Box, moved_box, random_box, resample, resized
from siammae.training.motion import cell_means, changed_share

MAX_REFUSED = 16  # places tried for one sample; the last is taken, however still it is


class Batch(NamedTuple):
    """One part of a step's samples."""

    frames: Tensor  # [B, 1 + T, 3, S, S], uint8: the past frame, then its futures
    names: list[str]  # the file of each sample
    skipped: list[tuple[str, str]]  # files found unusable on the way, each with the reason


class Source(Protocol):
    """Something that gives the parts of a run in order, from any part on.

    Attributes:
        num_files: files or clips that make an epoch; None where that is not known.
        skipped: sources found unusable before the run, each with the reason.
    """

    num_files: int | None
    skipped: tuple[tuple[str, str], ...]

    def parts(self, first: int, stride: int) -> Iterator[Batch]:
        """Parts first, first + stride, first + 2 * stride, ... without end."""
        ...


class CachedSource:
    """Samples from a `FrameCache`: a clip is drawn by the square root of its length, a place in it uniformly.

    So long clips count more, but a few of them do not make up the run. A gap is never cut: the past frame is drawn from the
    places that leave room for it. With `config.motion` a pair whose crop hardly changes is refused more often than others.

    Args:
        cache: decoded frames, on the device where crops are made.
        config: gap, crop, flip and motion.
        size: samples of a part.
        side: S, pixels of a crop's side.
        futures: T.
        seed: of the run.
        weights: how many times as likely as others each clip is, by its name; 1 where it is not in there.

    Raises:
        ValueError: no clip is as long as the shortest gap.
    """

    def __init__(
        self, cache: FrameCache, config: DataConfig, *, size: int, side: int, futures: int, seed: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        self._cache, self._config = cache, config
        self._size, self._side, self._futures, self._seed = size, side, futures, seed
        self._shortest = max(1, round(config.gap[0] / cache.interval))
        self._longest = max(self._shortest, round(config.gap[1] / cache.interval))
        self._clips = [clip for clip in cache.clips if clip.frames > self._shortest]
        if not self._clips:
            raise ValueError(f"no clip is longer than the shortest gap, {config.gap[0]:.3g} s")
        self.num_files: int | None = len(self._clips)
        self.skipped = cache.skipped
        shares = np.array([(weights or {}).get(clip.name, 1) * clip.frames**0.5 for clip in self._clips])
        self._ends = np.cumsum(shares / shares.sum())
        self._cells = {clip.name: cell_means(cache, clip) for clip in self._clips} if config.motion else {}

    def parts(self, first: int, stride: int) -> Iterator[Batch]:
        part = first
        while True:
            yield self.part(part)
            part += stride

    def part(self, index: int) -> Batch:
        """Part number `index` of the run."""
        rng = np.random.default_rng([self._seed, 1, index])
        origins, strides, boxes, flips, names = [], [], [], [], []
        for _ in range(self._size):
            clip, frames, box = self._place(rng)
            flip = bool(rng.random() < self._config.flip)
            moved = [moved_box(box, clip.height, clip.width, self._config.jitter, rng) for _ in frames[1:]]
            for frame, view in zip(frames, (box, *moved), strict=True):
                start = clip.offset + frame * clip.height * clip.width
                origins.append(start + view.top * clip.width + view.left)
                strides.append(clip.width)
                boxes.append(view)
                flips.append(flip)
            names.append(clip.name)
        crop = self._crop_each if self._cache.pixels.device.type == "cpu" else self._crop_together
        crops = crop(origins, strides, boxes, flips)
        return Batch(crops.unflatten(0, (self._size, 1 + self._futures)), names, [])

    def _place(self, rng: np.random.Generator) -> tuple[CachedClip, list[int], Box]:
        """A clip, its past frame and futures, ascending, and the crop of the past frame."""
        for _ in range(MAX_REFUSED):
            clip = self._clips[min(int(np.searchsorted(self._ends, rng.random(), side="right")), len(self._clips) - 1)]
            longest = min(self._longest, clip.frames - 1)
            gaps = np.sort(rng.integers(self._shortest, longest, size=self._futures, endpoint=True))
            past = int(rng.integers(clip.frames - gaps[-1]))
            frames = [past, *(past + int(gap) for gap in gaps)]
            box = random_box(clip.height, clip.width, self._config.scale, rng, self._config.ratio)
            if not self._cells or rng.random() * self._config.motion < changed_share(self._cells[clip.name], frames, box):
                break
        return clip, frames, box

    def _crop_each(self, origins: list[int], strides: list[int], boxes: list[Box], flips: list[bool]) -> Tensor:
        """These boxes one after the other, on a CPU: [len(boxes), 3, S, S]."""
        crops = []
        for origin, stride, box, flip in zip(origins, strides, boxes, flips, strict=True):
            pixels = self._cache.pixels[origin : origin + (box.height - 1) * stride + box.width]
            crops.append(resized(pixels.as_strided((box.height, box.width, 3), (3 * stride, 3, 1)), flip, self._side))
        return torch.stack(crops)

    def _crop_together(self, origins: list[int], strides: list[int], boxes: list[Box], flips: list[bool]) -> Tensor:
        """One gather of these boxes, then one resampling: [len(boxes), 3, S, S]."""
        device = self._cache.pixels.device
        sizes = torch.tensor([(box.height, box.width) for box in boxes], device=device)
        height, width = max(box.height for box in boxes), max(box.width for box in boxes)
        rows = torch.minimum(torch.arange(height, device=device), sizes[:, :1] - 1)  # [n, H]
        columns = torch.minimum(torch.arange(width, device=device), sizes[:, 1:] - 1)
        starts = torch.tensor(origins, device=device)[:, None] + rows * torch.tensor(strides, device=device)[:, None]
        frames = self._cache.pixels[starts[:, :, None] + columns[:, None, :]]  # [n, H, W, 3]
        return resample(frames, sizes, torch.tensor(flips, device=device), self._side)
