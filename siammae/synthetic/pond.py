"""A computed nature film: koi and turtles over the pebbles of a clear pond, with their true masks and point tracks.

Each frame is a function of its number alone, so that a clip of any length stays in the picture and starts as a shorter
one does. An animal is a few flat parts (body, fins, limbs), each painted once on a texture that moves, swings and bends
with the body. A pixel is carried back into body coordinates to find its texel; a point goes the same way forward.

Letters: T frames, H x W pixels, K points, h x w texels, N pixels of one part. Body coordinates are (x ahead, y to the
right) in body lengths from the middle of the body. Colours are RGB in [0, 1].
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siammae.synthetic.animals import ANIMALS, SUN, Animal, sway
from siammae.synthetic.noise import Floats, blur, cloud, crop, mix, rotate, step

FPS = 24.0
MIN_SIDE = 32  # pixels

STONES = np.array(
    ((0.47, 0.45, 0.42), (0.36, 0.36, 0.36), (0.55, 0.47, 0.36), (0.52, 0.37, 0.26), (0.66, 0.62, 0.54), (0.3, 0.31, 0.27))
)


@dataclass(frozen=True)
class Clip:
    """Frames with their true labels.

    Attributes:
        frames: [T, H, W, 3], RGB.
        masks: [T, H, W], object ids; 0 is the background (shadows too), 1 to num_objects are the animals.
        points: [T, K, 2], (x, y) in pixels; (0, 0) is the centre of the top left pixel.
        visible: [T, K], False where another animal hides the point or it is outside the frame.
        fps: frames per second.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    points: NDArray[np.float32]
    visible: NDArray[np.bool_]
    fps: float


def render_clip(num_frames: int = 48, size: tuple[int, int] = (240, 432), *, num_objects: int = 2, seed: int = 0) -> Clip:
    """Render a clip of animals that swim, turn and cross under a slowly panning camera; four points on each, in their order.

    A seed always gives the same clip, and frame t is the same whatever `num_frames` is. Object 1 is the topmost.

    Args:
        num_frames: T, at least 1.
        size: (H, W) in pixels, each at least 32; the picture scales with it.
        num_objects: 1 to 8.
        seed: seed of the ground, the patterns and the animals' paths, at least 0.

    Raises:
        ValueError: an argument outside these bounds.
    """
    height, width = size
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; expected at least 1")
    if min(size) < MIN_SIDE:
        raise ValueError(f"size is {height} x {width} pixels (height x width); expected at least {MIN_SIDE} a side")
    if not 1 <= num_objects <= len(ANIMALS):
        raise ValueError(f"num_objects is {num_objects}; expected 1 to {len(ANIMALS)}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected at least 0")

    pond = _Pond(height, width, num_objects, seed)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    masks = np.empty((num_frames, height, width), np.uint8)
    for t in range(num_frames):
        frames[t], masks[t] = pond.render(t)
    points = np.array([[a.locate(i, t) for a in pond.animals for i in range(4)] for t in range(num_frames)], np.float32)
    x, y = np.rint(points).astype(int).transpose(2, 0, 1)  # [T, K] each
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    topmost = masks[np.arange(num_frames)[:, None], y.clip(0, height - 1), x.clip(0, width - 1)]
    owner = np.repeat(np.arange(num_objects) + 1, 4)
    return Clip(frames, masks, points, inside & (topmost == owner), FPS)


def _river_bed(rng: np.random.Generator, height: int, width: int, scale: float) -> Floats:
    """Draw pebbles on sand, lit from the upper left: [height, width, 3]; `scale` 1 suits frames of 240 x 432."""
    relief = 1.5 * scale * cloud(rng, (height, width), 1.6)  # pixels of height
    sand = cloud(rng, (height, width), 0.9)
    albedo = mix((0.50, 0.44, 0.33), (0.62, 0.55, 0.42), (sand * 0.3 + 0.5).clip(0, 1))
    owner = np.zeros((height, width), int)
    for index in range(1, int(height * width / (230 * scale**2))):
        radius = scale * (4 + 26 * rng.random() ** 4)
        cx, cy, angle, phase = rng.random(4) * (width, height, 2 * np.pi, 2 * np.pi)
        x0, y0, reach = max(int(cx - 1.4 * radius), 0), max(int(cy - 1.4 * radius), 0), int(2.8 * radius) + 2
        box = np.s_[y0 : y0 + reach, x0 : x0 + reach]
        y, x = np.indices(relief[box].shape, np.float32)
        x, y = rotate((x + x0 - cx) / radius, (y + y0 - cy) / radius, angle)
        around = np.arctan2(y, x)
        lobes = 1 + 0.07 * np.cos(2 * around + phase) + 0.05 * np.cos(3 * around - 2 * phase)
        distance = np.hypot(0.86 * x, y * rng.uniform(1, 1.35)) / lobes
        dome = radius * (0.75 * np.sqrt((1 - distance**2.6).clip(0)) - 0.25 + 0.3 * rng.random())
        top = (distance < 1) & (dome > relief[box])
        relief[box][top], owner[box][top] = dome[top], index
        albedo[box][top] = STONES[rng.integers(len(STONES))] * rng.uniform(0.8, 1.15)
    grain = cloud(rng, (height, width), 0.75)
    row, column = np.indices((height, width)) + owner * np.array((37, 61))[:, None, None]
    albedo *= 1 + 0.11 * grain[row % height, column % width, None]  # another in each stone
    albedo = mix(albedo, albedo * (0.72, 0.88, 0.55), 0.55 * step(cloud(rng, (height, width), 1.7), -0.4, 2.2))
    relief += 0.35 * scale * grain
    dy, dx = np.gradient(blur(relief, 0.8 * scale))
    facing = (SUN[2] - SUN[0] * dx - SUN[1] * dy) / np.sqrt(1 + dx**2 + dy**2)
    sunk = (blur(relief, 5 * scale, (3 * scale, 4 * scale)) - relief).clip(0)
    lit = albedo * ((0.35 + 0.9 * facing.clip(0)) * np.exp(-0.09 / scale * sunk))[..., None]
    return np.dstack([blur(lit[..., channel], 0.7 * scale) for channel in range(3)]).astype(np.float32)


class _Pond:
    """The ground, the light and the animals."""

    def __init__(self, height: int, width: int, num_objects: int, seed: int) -> None:
        rng = np.random.default_rng((seed, 0))
        self.seed, self.size, self.frame = seed, (height, width), np.array((width, height))
        self.phase = rng.uniform(-0.6, 0.6, 2)
        columns, rows = (self.frame * (1.36, 1.24)).astype(int) + 8
        self.ground = _river_bed(rng, rows, columns, (height * width / (240 * 432)) ** 0.5)
        self.ripples = np.tile(cloud(rng, self.size, 4, 0.3 * height), (2, 2))
        self.animals = [Animal(i, num_objects, height, width, seed) for i in range(num_objects)]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)[..., None]
        self.lens = 1.06 - 0.13 * (x**2 + y**2) ** 1.2 - 0.10 * (0.6 * x + y)  # darker corners, light from above
        self.haze = 0.05 + 0.025 * (y - 0.4 * x + 1).clip(0) ** 1.5

    def render(self, t: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Render frame [H, W, 3] and mask [H, W] at time t."""
        pan = np.array((0.16, 0.10)) * (1.05 + np.sin(2 * np.pi * t / np.array((620, 840)) + self.phase))
        canvas = crop(self.ground, (pan - sway(t)) * self.frame, self.size)
        drift = np.array(((0.0016 * t, 0.0011 * t), (-0.0016 * t, 0.0008 * t + 0.4))) % 1 * self.frame
        waves = crop(self.ripples, drift[0], self.size) + crop(self.ripples, drift[1], self.size)
        caustics = 1 / (1 + 14 * waves[..., None] ** 2)  # bright lines where two drifting ripples cancel
        canvas *= np.array((0.88, 0.95, 0.86), np.float32) * (1.04 + 0.6 * caustics)
        mask = np.zeros(self.size, np.uint8)
        for number in range(len(self.animals), 0, -1):
            self.animals[number - 1].draw(t, canvas, mask, number)
        canvas *= self.lens * (1.04 + 0.15 * caustics)
        canvas += self.haze * (np.array((0.62, 0.82, 0.80), np.float32) - canvas)
        canvas += 0.01 * np.random.default_rng((self.seed, 2, t)).standard_normal(canvas.shape, np.float32)
        return (255 * canvas.clip(0, 1) + 0.5).astype(np.uint8), mask
