"""Noise, blur, crops and blends of images."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Pair: TypeAlias = tuple[float, float]


def cloud(rng: np.random.Generator, shape: tuple[int, ...], slope: float, coarsest: float = np.inf) -> Floats:
    """Return noise [h, w] of deviation 1, periodic: amplitude falls as frequency ** -slope, level beyond `coarsest` pixels."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * np.hypot(frequency, 1 / min(coarsest, *shape)) ** -slope
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, shape).astype(np.float32)
    return np.asarray(noise / noise.std())


def blur(image: Floats, sigma: float, shift: Pair = (0, 0)) -> Floats:
    """Blur `image` [h, w] by a Gaussian of deviation `sigma` and move it by `shift` (x, y); periodic."""
    y, x = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (x**2 + y**2) - 2j * np.pi * (x * shift[0] + y * shift[1]))
    return np.fft.irfft2(np.fft.rfft2(image) * transfer, image.shape).astype(np.float32)


def enlarge(image: Floats, factor: int, size: tuple[int, ...]) -> Floats:
    """Spread the first pixels of `image` [h, w] over `size` (height, width), `factor` apart, linear between."""
    for axis in (0, 1):
        at = np.arange(size[axis])
        fraction = (at % factor / np.float32(factor)).reshape((-1, 1)[: 2 - axis])
        image = image.take(at // factor, axis) * (1 - fraction) + image.take(at // factor + 1, axis) * fraction
    return image


def crop(image: Floats, corner: Floats, size: tuple[int, int]) -> Floats:
    """Return the window of `size` (height, width) of `image` [h, w, ...] at `corner` (x, y), sampled bilinearly."""
    (x, y), (fx, fy) = corner.astype(int), (corner % 1).astype(np.float32)
    rows = image[y : y + size[0] + 1, x : x + size[1] + 1]
    rows = rows[:-1] * (1 - fy) + rows[1:] * fy
    window: Floats = rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx
    return window


def mix(a: ArrayLike, b: ArrayLike, weight: Floats) -> Floats:
    """Blend colour a into b by weight [...]: [..., 3]."""
    w = weight[..., None]
    return np.asarray(a, np.float32) * (1 - w) + np.asarray(b, np.float32) * w


def step(value: Floats, low: float, high: float) -> Floats:
    """Return 0 below `low`, 1 above `high`, smooth between."""
    t: Floats = ((value - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def rotate(x: Any, y: Any, angle: float) -> tuple[Any, Any]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * c - y * s, x * s + y * c
