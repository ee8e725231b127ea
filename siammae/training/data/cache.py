"""FrameCache: the frames of many clips, decoded once and kept on disk, in host memory or on the GPU.

For data sets that fit: 85 minutes of video at 8 frames a second and 208 pixels are 9 GB. Every frame lies in one flat
array of pixels, so clips of any size stand side by side and a batch of crops is one gather on the device.

Letters: F frames, P pixels of all frames together.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from siammae.files import atomic_folder
from siammae.training.config import DataConfig
from siammae.training.data.batches import Batch
from siammae.training.data.clips import Frame, UnusableClip, VideoClip
from siammae.training.data.crops import Box, moved_box, random_box, resample, resized
from siammae.training.data.motion import cell_means, changed_share

MAX_REFUSED = 16  # places tried for one sample; the last is taken even if it is still
GATHERED = 8_000_000  # pixels that an accelerator gathers at a time: about 45 bytes for each, so 360 MB, while it resamples


@dataclass(frozen=True)
class CachedClip:
    """A clip's place in the cache: `frames` frames of height x width pixels from pixel `offset` on."""

    name: str
    offset: int
    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class FrameCache:
    """Decoded frames of many clips.

    Attributes:
        pixels: [P, 3], uint8 RGB, on the device that makes the crops.
        clips: the clips' places; every clip has two frames or more.
        interval: seconds between two neighbouring frames of a clip.
        skipped: sources that gave no clip, each with the reason.
    """

    pixels: Tensor
    clips: tuple[CachedClip, ...]
    interval: float
    skipped: tuple[tuple[str, str], ...]

    def to(self, device: torch.device | str) -> "FrameCache":
        """Return the cache with its pixels on another device."""
        return FrameCache(self.pixels.to(device), self.clips, self.interval, self.skipped)

    def frames(self, clip: CachedClip) -> Tensor:
        """Return all frames of a clip, [F, H, W, 3]."""
        end = clip.offset + clip.frames * clip.height * clip.width
        return self.pixels[clip.offset : end].view(clip.frames, clip.height, clip.width, 3)


def build_cache(
    videos: Sequence[Path],
    folder: Path,
    *,
    short_side: int,
    fps: float,
    progress: Callable[[int], object] = lambda decoded: None,
) -> FrameCache:
    """Decode `videos` into `folder`, or load them from there if the same videos were decoded at this size and rate before.

    The pixels are mapped from the file into memory, so that a restart costs nothing and processes of one machine
    share them.

    Args:
        videos: video files.
        folder: folder of the decoded frames; one sub-folder for every list of videos, size and rate.
        short_side: frames are scaled down to this shorter side, in pixels; smaller ones are kept as they are.
        fps: frames kept per second.
        progress: called with the number of videos done.

    Raises:
        ValueError: none of the videos is usable.
    """
    identity = [short_side, float(fps), [[str(video), video.stat().st_size] for video in videos]]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    target = folder / f"frames-{digest}"
    if not target.exists():
        with suppress(FileExistsError):  # another process finished the same cache first
            _decode(videos, target, short_side, fps, progress)
    index = json.loads((target / "clips.json").read_text())
    clips = tuple(CachedClip(**clip) for clip in index["clips"])
    skipped = tuple((name, reason) for name, reason in index["skipped"])
    if not clips:
        reasons = "; ".join(reason for _, reason in skipped[:3])
        raise ValueError(f"none of {len(videos)} videos is usable: {reasons}")
    size = (target / "pixels.bin").stat().st_size
    pixels = torch.from_file(str(target / "pixels.bin"), shared=False, size=size, dtype=torch.uint8)
    return FrameCache(pixels.view(-1, 3), clips, 1 / fps, skipped)


def _decode(videos: Sequence[Path], target: Path, short_side: int, fps: float, progress: Callable[[int], object]) -> None:
    """Write pixels.bin and clips.json into `target`, which appears whole or not at all."""
    clips: list[CachedClip] = []
    skipped: list[tuple[str, str]] = []
    offset = 0
    with atomic_folder(target) as draft:
        with open(draft / "pixels.bin", "wb") as file:
            for done, video in enumerate(videos, start=1):
                try:
                    frames = _frames(video, short_side, fps)
                except UnusableClip as error:
                    skipped.append((str(video), str(error)))
                    continue
                finally:
                    progress(done)
                height, width, _ = frames[0].shape
                clips.append(CachedClip(str(video), offset, len(frames), height, width))
                for frame in frames:
                    file.write(frame.tobytes())
                offset += len(frames) * height * width
        index = {"clips": [asdict(clip) for clip in clips], "skipped": skipped}
        (draft / "clips.json").write_text(json.dumps(index))


def _frames(video: Path, short_side: int, fps: float) -> list[Frame]:
    """Read the frames of one video that are kept."""
    with VideoClip(video) as clip:
        frames = list(clip.every(1 / fps, short_side))
    if len(frames) < 2:
        raise UnusableClip(f"{video}: shorter than two frames at {fps:g} frames per second")
    if len({frame.shape for frame in frames}) > 1:
        raise UnusableClip(f"{video}: the size of its frames changes")
    return frames


class CachedSource:
    """A source of samples from a `FrameCache`: a clip is drawn by the square root of its length, a place in it uniformly.

    Long clips count more, but a few of them do not dominate the run. A gap is never shortened: the past frame is drawn from the
    places that leave room for it. With `config.motion` a pair whose crop hardly changes is refused more often than others.

    Args:
        cache: decoded frames, on the device where crops are made.
        config: gap, crop, flip and motion.
        size: samples of a micro-batch.
        side: S, pixels of a crop's side.
        futures: T.
        seed: seed of the run.
        weights: how many times as likely as others a clip is, by its name; 1 for names that are not listed.

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
        self._cells = {clip.name: cell_means(cache.frames(clip)) for clip in self._clips} if config.motion else {}

    def micro_batches(self, first: int, stride: int) -> Iterator[Batch]:
        """Yield the micro-batches first, first + stride, first + 2 * stride, ... without end."""
        return map(self.micro_batch, itertools.count(first, stride))

    def micro_batch(self, index: int) -> Batch:
        """Draw micro-batch number `index` of the run."""
        rng = np.random.default_rng([self._seed, 1, index])
        origins, strides, boxes, flips, names = [], [], [], [], []
        for _ in range(self._size):
            clip, frames, box = self.place(rng)
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

    def place(self, rng: np.random.Generator) -> tuple[CachedClip, list[int], Box]:
        """Draw a clip, its past frame and futures, ascending, and the crop of the past frame."""
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
        """Crop the boxes one after the other, on a CPU: [len(boxes), 3, S, S]."""
        crops = []
        for origin, stride, box, flip in zip(origins, strides, boxes, flips, strict=True):
            pixels = self._cache.pixels[origin : origin + (box.height - 1) * stride + box.width]
            crops.append(resized(pixels.as_strided((box.height, box.width, 3), (3 * stride, 3, 1)), flip, self._side))
        return torch.stack(crops)

    def _crop_together(self, origins: list[int], strides: list[int], boxes: list[Box], flips: list[bool]) -> Tensor:
        """Crop the boxes on an accelerator, as many at a time as GATHERED pixels hold: [len(boxes), 3, S, S]."""
        device = self._cache.pixels.device
        places = torch.tensor(
            [
                (origin, stride, box.height, box.width, flip)
                for origin, stride, box, flip in zip(origins, strides, boxes, flips, strict=True)
            ],
            dtype=torch.int64,
            pin_memory=device.type == "cuda",  # so that the copy does not wait for the device
        ).to(device, non_blocking=True)
        crops = torch.empty(len(boxes), 3, self._side, self._side, dtype=torch.uint8, device=device)
        for few in _chunks(boxes):
            first, step, height, width, flip = places[few].unbind(1)  # [n] each
            rows = torch.arange(max(box.height for box in boxes[few]), device=device)
            columns = torch.arange(max(box.width for box in boxes[few]), device=device)
            rows, columns = torch.minimum(rows, height[:, None] - 1), torch.minimum(columns, width[:, None] - 1)
            starts = first[:, None] + rows * step[:, None]  # [n, H]
            frames = self._cache.pixels[starts[:, :, None] + columns[:, None, :]]  # [n, H, W, 3]
            crops[few] = resample(frames, places[few, 2:4], flip.bool(), self._side)
        return crops


def _chunks(boxes: Sequence[Box]) -> Iterator[slice]:
    """Cut a list of boxes into runs whose frames, all as large as the largest among them, have up to GATHERED pixels."""
    first = height = width = 0
    for end, box in enumerate(boxes):
        height, width = max(height, box.height), max(width, box.width)
        if end > first and (end + 1 - first) * height * width > GATHERED:
            yield slice(first, end)
            first, height, width = end, box.height, box.width
    yield slice(first, len(boxes))
