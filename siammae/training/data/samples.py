"""Samples: times, crop and flip drawn from one clip.

Letters: T future frames, S pixels of a crop's side, H x W pixels of a frame.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from siammae.training.config import DataConfig
from siammae.training.data.clips import Frame, UnusableClip
from siammae.training.data.crops import Box, moved_box, random_box, resized


class Clip(Protocol):
    """Frames by time: a video file, or a folder of frames."""

    name: str
    seconds: float  # time of the last frame
    size: tuple[int, int] | None  # height and width of its frames, in pixels, as far as they are known before reading

    def read(self, times: list[float]) -> list[Frame]:
        """Read the frame shown at each of `times` (seconds, in any order)."""
        ...


class Plan(NamedTuple):
    """A sample before its frames are read."""

    times: list[float]  # the past frame, then its futures
    boxes: list[Box]  # of each frame
    flip: bool


def draw_times(seconds: float, gap: tuple[float, float], futures: int, rng: np.random.Generator) -> list[float]:
    """Draw times of a past frame and of its futures, ascending.

    Every future's gap is uniform between the shortest and the longest (or the clip's length, if that is less); the
    past frame is uniform over the places that leave room for the longest of them.

    Raises:
        UnusableClip: the clip is shorter than the shortest gap.
    """
    if seconds < gap[0]:
        raise UnusableClip(f"{seconds:.2f} s long, shorter than the shortest gap of {gap[0]:.2f} s")
    gaps = np.sort(rng.uniform(gap[0], min(gap[1], seconds), size=futures))
    past = rng.uniform(0, seconds - gaps[-1])
    return [float(past), *(float(past + g) for g in gaps)]


def draw_samples(clip: Clip, config: DataConfig, *, side: int, futures: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Draw `config.repeats` samples of one clip, each [1 + T, 3, S, S], uint8, and read the frames of all of them at once.

    The frames of a sample share crop and flip, except for `config.jitter`. Boxes depend on the size of the frames: if it
    turns out to be another one than the clip says, the samples are planned once more, from the same random numbers.

    Raises:
        UnusableClip: the clip is too short or cannot be decoded; the message names it.
    """
    state = rng.bit_generator.state
    sizes = [clip.size or (1, 1)] * config.repeats
    while True:
        rng.bit_generator.state = state
        try:
            plans = [plan_sample(clip.seconds, size, config, futures, rng) for size in sizes]
        except UnusableClip as error:
            raise UnusableClip(f"{clip.name}: {error}") from error
        frames = clip.read([time for plan in plans for time in plan.times])
        samples = [frames[k : k + 1 + futures] for k in range(0, len(frames), 1 + futures)]
        read = [(sample[0].shape[0], sample[0].shape[1]) for sample in samples]
        if read == sizes:
            break
        sizes = read
    for sample, plan in zip(samples, plans, strict=True):
        yield crop(list(zip(sample, plan.boxes, strict=True)), plan.flip, side)


def plan_sample(seconds: float, size: tuple[int, int], config: DataConfig, futures: int, rng: np.random.Generator) -> Plan:
    """Draw times, boxes and flip of one sample of a clip.

    Args:
        seconds: time of its last frame.
        size: height and width of its frames, in pixels.
        config: gap, crop, jitter and flip.
        futures: T.
        rng: source of the random numbers.

    Raises:
        UnusableClip: the clip is shorter than the shortest gap.
    """
    times = draw_times(seconds, config.gap, futures, rng)
    box = random_box(*size, config.scale, rng, config.ratio)
    boxes = [box, *(moved_box(box, *size, config.jitter, rng) for _ in range(futures))]
    return Plan(times, boxes, bool(rng.random() < config.flip))


def draw_crop_pairs(image: Frame, config: DataConfig, *, side: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Draw `config.repeats` pairs of crops of one image, each [2, 3, S, S], uint8: a view, and a smaller view inside it.

    CropMAE (Eymael et al., 2024) found that a future frame can be imitated so, and that the masked crop should lie
    inside the visible one.
    """
    for _ in range(config.repeats):
        outer = random_box(image.shape[0], image.shape[1], config.scale, rng, config.ratio)
        inner = random_box(outer.height, outer.width, config.local_scale, rng, config.ratio)
        inner = Box(outer.top + inner.top, outer.left + inner.left, inner.height, inner.width)
        yield crop([(image, outer), (image, inner)], bool(rng.random() < config.flip), side)


def crop(views: list[tuple[Frame, Box]], flip: bool, side: int) -> Tensor:
    """Resample boxes of frames to side x side: [len(views), 3, S, S], uint8."""
    crops = []
    for frame, box in views:
        pixels = frame[box.top : box.top + box.height, box.left : box.left + box.width]
        crops.append(resized(torch.from_numpy(pixels.copy()), flip, side))
    return torch.stack(crops)
