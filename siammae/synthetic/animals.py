"""Koi and turtles: textures, parts and how they move.

Letters: H x W pixels, h x w texels, N pixels of one part. Body coordinates are (x ahead, y to the right) in body
lengths from the middle of the body.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike, NDArray

from siammae.synthetic.noise import Floats, Pair, blur, cloud, enlarge, mix, rotate, step

MEETING = 24  # the frame around which the first two animals cross
PAD = 3  # empty texels around a part
SUN = np.array((-0.42, -0.55, 0.72), np.float32)  # the way to the light: x right, y down, z to the camera

ANIMALS = (  # kind, then the colours of a koi: ground, patches, spots; of a turtle: scutes, their middles, seams
    ("koi", (0.84, 0.80, 0.71), (0.74, 0.34, 0.15), (0.66, 0.27, 0.12)),
    ("turtle", (0.38, 0.34, 0.18), (0.60, 0.52, 0.27), (0.15, 0.14, 0.08)),
    ("koi", (0.84, 0.80, 0.72), (0.17, 0.17, 0.17), (0.72, 0.30, 0.12)),
    ("koi", (0.75, 0.56, 0.25), (0.82, 0.66, 0.36), (0.62, 0.42, 0.18)),
    ("koi", (0.40, 0.45, 0.48), (0.33, 0.38, 0.42), (0.66, 0.34, 0.20)),
    ("turtle", (0.27, 0.27, 0.18), (0.50, 0.38, 0.18), (0.10, 0.11, 0.08)),
    ("koi", (0.84, 0.80, 0.72), (0.76, 0.37, 0.17), (0.14, 0.14, 0.15)),
    ("koi", (0.30, 0.28, 0.18), (0.38, 0.33, 0.20), (0.20, 0.19, 0.13)),
)


def _disc(shape: "_Shape", x: float, y: float, radius: float) -> Floats:
    """Draw two soft spots, at (x, y) and (x, -y)."""
    distance: Floats = np.hypot(shape.x - x, np.abs(shape.y) - y) / radius
    return np.asarray(np.exp(-(distance**4)))


@dataclass(frozen=True)
class _Part:
    """A texture that starts at `pivot` on the body, points along `angle` and swings about it (radians)."""

    texture: Floats  # [h, w, 7]: RGB, opacity, coverage, slope of the surface along x and along y
    pivot: Pair
    angle: float
    swing: float


class _Shape:
    """An outline along its own x axis, on the grid of its texture, for a part to be painted on.

    `half_widths` stand at even steps of the length; the larger `blunt`, the squarer the ends; `notch` is the share of the
    length that is cut out of the far end. x, y, q (x as a share of the length), coverage and dome (height of a round
    body) are [h, w].
    """

    def __init__(self, scale: float, length: float, half_widths: tuple[float, ...], blunt: float, notch: float = 0) -> None:
        widest, steps = max(half_widths), len(half_widths)
        rows, columns = 2 * int(1.15 * widest * scale + PAD) + 1, int(length * scale) + 2 * PAD + 1
        y, x = np.indices((rows, columns), np.float32)
        self.scale, self.x, self.y = scale, (x - PAD) / scale, (y - rows // 2) / scale
        self.q = (self.x / length).clip(0, 1)
        curve = Polynomial.fit(np.linspace(0, 1, steps), half_widths, steps - 1)
        half_width = curve(self.q) * np.sqrt(1 - np.abs(2 * self.q - 1) ** blunt)
        inside = (half_width - np.abs(self.y)) / np.hypot(1, np.gradient(half_width, 1 / scale, axis=1))
        inside = np.minimum(inside, 0.7 * (length * (1 - notch * (1 - np.abs(self.y) / widest)) - self.x))
        self.coverage = (inside * scale + 0.5).clip(0, 1) * (self.x >= 0)
        self.dome = np.sqrt((half_width**2 - self.y**2).clip(0))

    def part(self, color: Floats, height: Floats, pivot: Pair, angle: float = 0, swing: float = 0, opacity: Any = 1) -> _Part:
        dy, dx = np.gradient(blur(height, 1.2), 1 / self.scale)
        texture = np.dstack((color, self.coverage * opacity, self.coverage, dx, dy)).astype(np.float32)
        return _Part(texture, pivot, angle, swing)


def _koi(rng: np.random.Generator, scale: float, base: ArrayLike, patch: ArrayLike, spot: ArrayLike) -> list[_Part]:
    def fin(length: float, widths: tuple[float, ...], pivot: Pair, angle: float, swing: float, notch: float = 0) -> _Part:
        shape = _Shape(scale, length, widths, 6 if notch else 3, notch)
        rays = np.sin(44 * np.arctan2(shape.y, shape.x + 0.35 * length)) * step(shape.q, 0.05, 0.3)
        color = mix(base, patch, np.array(0.4 if notch else 0.0)) * (0.93 + 0.07 * rays - 0.1 * shape.q)[..., None]
        return shape.part(color, 0.002 * rays, pivot, angle, swing, 0.85 - 0.5 * shape.q + 0.1 * rays)

    body = _Shape(scale, 0.82, (0.03, 0.058, 0.115, 0.135, 0.118), 5)
    patches, spots = (cloud(rng, body.x.shape, 2.2, 0.45 * scale) for _ in range(2))
    color = mix(mix(base, patch, step(patches, 0.1, 0.28)), spot, step(spots, 0.95, 1.1))
    waves = [np.cos(262 * (body.x * np.cos(a) + body.y * np.sin(a))) for a in (0, np.pi / 3, -np.pi / 3)]
    scales = sum(waves) / 3 * (1 - step(body.q, 0.7, 0.8))
    ridge = np.exp(-((body.y / 0.01) ** 2)) * step(body.q, 0.2, 0.34) * (1 - step(body.q, 0.58, 0.64))
    eyes, nostrils = _disc(body, 0.745, 0.073, 0.011), _disc(body, 0.785, 0.03, 0.006)
    color *= (1 + 0.08 * scales + 0.04 * cloud(rng, body.x.shape, 1) - 0.14 * ridge - 0.2 * nostrils)[..., None]
    parts = [fin(0.27, (0.028, 0.035, 0.075, 0.11, 0.12), (-0.26, 0), np.pi, 0.1, 0.42)]
    for side in (-1, 1):
        parts.append(fin(0.21, (0.035, 0.06, 0.075, 0.06), (0.22, 0.085 * side), 2.15 * side, 0.28 * side))
        parts.append(fin(0.13, (0.025, 0.035, 0.04), (-0.04, 0.07 * side), 2.5 * side, 0.15 * side))
    height = 0.95 * body.dome + 0.004 * ridge + 0.0012 * scales + 0.008 * eyes
    return [*parts, body.part(mix(color, (0.06, 0.05, 0.05), eyes), height, (-0.32, 0))]


def _turtle(rng: np.random.Generator, scale: float, base: ArrayLike, patch: ArrayLike, seam: ArrayLike) -> list[_Part]:
    def limb(length: float, widths: tuple[float, ...], pivot: Pair, angle: float, swing: float, head: bool = False) -> _Part:
        shape = _Shape(scale, length, widths, 3.5)
        stripes = np.cos(240 * shape.y / (1 + shape.q)) + 0.3 * np.sin(45 * shape.x)
        skin = mix(mix(seam, base, np.array(0.4)), (0.64, 0.58, 0.30), 0.8 * step(stripes, 0.35, 0.9))
        skin *= (1 + 0.1 * cloud(rng, shape.x.shape, 0.8))[..., None]
        if head:
            skin = mix(skin, (0.58, 0.20, 0.11), _disc(shape, 0.12, 0.058, 0.02))
            skin = mix(skin, (0.05, 0.05, 0.04), _disc(shape, 0.175, 0.05, 0.013))
        return shape.part(skin, shape.dome, pivot, angle, swing)

    shell = _Shape(scale, 0.64, (0.27, 0.30, 0.325, 0.31, 0.25), 2.6)
    spine = [(x, 0.0) for x in (0.07, 0.19, 0.32, 0.45, 0.57)]
    ribs = [(x, y) for x in (0.10, 0.25, 0.39, 0.53) for y in (-0.165, 0.165)]
    rim = [(0.32 + 0.33 * np.cos(a), 0.31 * np.sin(a)) for a in np.arange(25) * (2 * np.pi / 25)]
    scutes = np.array(spine + ribs + rim) + rng.normal(0, 0.006, (38, 2))
    distance = np.hypot(shell.x[..., None] - scutes[:, 0], shell.y[..., None] - scutes[:, 1])  # [h, w, 38]
    near, next_near = np.moveaxis(np.partition(distance, 1)[..., :2], 2, 0)
    gap = next_near - near  # 0 on the seams
    blotches = cloud(rng, shell.x.shape, 1.3, 0.15 * scale)
    rings = np.sin(210 * gap + 0.5 * blotches) * step(gap, 0.01, 0.03)
    color = mix(patch, base, step(near + 0.012 * blotches, 0.015, 0.085)) * (1 + 0.07 * rings + 0.06 * blotches)[..., None]
    height = 0.85 * shell.dome * (1 - (2 * shell.q - 1) ** 2) ** 0.25 + 0.02 * step(gap, 0, 0.03) + 0.001 * rings
    parts = [limb(0.13, (0.04, 0.02, 0.012), (-0.32, 0), np.pi, 0.2)]
    for side in (-1, 1):
        parts.append(limb(0.24, (0.07, 0.06, 0.055, 0.075), (0.13, 0.2 * side), 1.05 * side, 0.5 * side))
        parts.append(limb(0.19, (0.06, 0.05, 0.075), (-0.22, 0.18 * side), 2.4 * side, -0.4 * side))
    parts.append(limb(0.24, (0.055, 0.055, 0.07, 0.08, 0.055), (0.22, 0), 0, 0.1, head=True))
    return [*parts, shell.part(mix(seam, color, step(gap, 0.004, 0.018)), height, (-0.36, 0))]


class Animal:
    """One koi or turtle: its parts, and their places at any time."""

    def __init__(self, index: int, count: int, height: int, width: int, seed: int) -> None:
        rng = np.random.default_rng((seed, 1, index))
        self.lag = rng.uniform(0, 2 * np.pi, 4)
        self.loop = 1 if index % 2 else -1  # the lower or the upper of two
        self.start = -self.loop * np.pi / 2 + 2 * np.pi * (index // 2) / max(3, (count + 1) // 2) + rng.normal(0, 0.05)
        kind, *colors = ANIMALS[index]
        self.supple = kind == "koi"
        crowd = min(1.0, 0.65 + 0.7 / count) ** 0.5
        self.length = (0.54 if self.supple else 0.49) * crowd * (height * width) ** 0.5  # pixels
        self.parts = (_koi if self.supple else _turtle)(rng, self.length, *colors)
        self.marks = (  # part, x and y on it: nose, two flanks, tail root; or nose, middles of three scutes
            ((-1, 0.80, 0.0), (-1, 0.55, -0.08), (-1, 0.45, 0.08), (-1, 0.06, 0.0))
            if self.supple
            else ((-2, 0.22, 0.0), (-1, 0.25, -0.165), (-1, 0.39, 0.165), (-1, 0.07, 0.0))
        )
        self.frame = np.array((width, height))

    def place(self, t: float) -> Floats:
        """Return (x, y) in pixels of the middle of the body: on a loop that drifts slowly, seen by a hand-held camera."""
        turn = self.start + 2 * np.pi * (t - MEETING) / (222 + 6 * self.loop)
        x = 0.5 + 0.29 * np.cos(turn) + 0.03 * np.sin(t / 83 + self.lag[0])
        y = 0.5 + 0.11 * self.loop + 0.19 * np.sin(turn) + 0.02 * np.sin(t / 67 + self.lag[1])
        return np.asarray((np.array((x, y)) + sway(t)) * self.frame)

    def heading(self, t: float) -> float:
        x, y = self.place(t + 12) - self.place(t - 12)
        return float(np.arctan2(y, x))

    def bend(self, x: Any, t: float) -> Any:
        """Return the offset of the body to the side at `x`: a koi curves into its turns and beats its tail."""
        turning = np.sin(self.heading(t + 3) - self.heading(t - 3)) / 6  # radians per frame
        beat = np.sin(2 * np.pi * (t / 26 + 0.6 * x) + self.lag[2])
        return self.supple * (np.float32(0.5 * np.tanh(9 * turning)) * x**2 + 0.11 * (0.45 - x) ** 2 * beat)

    def angle(self, part: _Part, t: float) -> float:
        return part.angle + part.swing * float(np.sin(2 * np.pi * t / 34 + self.lag[3]))

    def locate(self, mark: int, t: float) -> Floats:
        """Return (x, y) in pixels of one of the marks."""
        index, x, y = self.marks[mark]
        part = self.parts[index]
        x, y = np.add(rotate(x, y, self.angle(part, t)), part.pivot)
        return np.asarray(self.place(t) + self.length * np.array(rotate(x, y + self.bend(x, t), self.heading(t))))

    def draw(self, t: float, canvas: Floats, mask: NDArray[np.uint8], number: int) -> None:
        """Draw the animal and its shadow on `canvas` [H, W, 3], and `number` where it is in `mask` [H, W]."""
        center, heading, drop = self.place(t), self.heading(t), 0.085 * self.length
        x0, y0 = np.floor(center - 0.62 * self.length).astype(int).clip(0)
        x1, y1 = np.ceil(center + 0.62 * self.length).astype(int)
        box = np.s_[y0:y1, x0:x1]
        y, x = np.indices(mask[box].shape, np.float32) / np.float32(self.length)
        x, y = rotate(x + np.float32((x0 - center[0]) / self.length), y + np.float32((y0 - center[1]) / self.length), -heading)
        y -= self.bend(x, t)
        layer = np.zeros((*x.shape, 5), np.float32)  # RGB times opacity, opacity, coverage
        for part in self.parts:
            angle = self.angle(part, t)
            u, v = rotate(x - part.pivot[0], y - part.pivot[1], -angle)
            _paint(layer, part.texture, u * self.length, v * self.length, rotate(SUN[0], SUN[1], -angle - heading))
        coarse = 1 + int(0.15 * drop)  # a soft shadow needs only some of the pixels
        shadow = np.zeros(np.add(mask.shape, int(4 * drop) + 1), np.float32)
        shadow[: mask.shape[0], : mask.shape[1]][box] = layer[..., 3]
        shadow = blur(shadow[::coarse, ::coarse], 0.3 * drop / coarse, (drop / coarse, 1.3 * drop / coarse))
        canvas *= 1 - 0.7 * enlarge(shadow, coarse, mask.shape)[..., None]
        canvas[box] = canvas[box] * (1 - layer[..., 3:4]) + layer[..., :3]
        mask[box][layer[..., 4] > 0.5] = number


def _paint(layer: Floats, texture: Floats, x: Floats, y: Floats, sun: tuple[Any, Any]) -> None:
    """Draw a lit texture over `layer` [H, W, 5], whose pixels are at x, y [H, W] from its pivot, in texels."""
    rows, columns, channels = texture.shape
    x, y = x + PAD, y + rows // 2
    inside = np.flatnonzero((x >= 0) & (x < columns - 1) & (y >= 0) & (y < rows - 1))
    x, y = x.ravel()[inside], y.ravel()[inside]  # [N]
    left, top = x.astype(int), y.astype(int)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    texels, corner = texture.reshape(-1, channels), top * columns + left
    texel = texels.take(corner, 0) * ((1 - fx) * (1 - fy)) + texels.take(corner + 1, 0) * (fx * (1 - fy))  # [N, 7]
    texel += texels.take(corner + columns, 0) * ((1 - fx) * fy) + texels.take(corner + columns + 1, 0) * (fx * fy)
    color, opacity, coverage, (dx, dy) = texel[:, :3], texel[:, 3:4], texel[:, 4], texel[:, 5:].T
    steep = np.sqrt(1 + dx**2 + dy**2)
    facing = (SUN[2] - sun[0] * dx - sun[1] * dy) / steep
    gloss = (facing + 1 / steep) / np.sqrt(2 + 2 * SUN[2])  # the sun half way to the camera
    light, shine = 0.22 + 0.30 / steep + 0.70 * facing.clip(0), 0.24 * gloss.clip(0) ** 20
    pixels = layer.reshape(-1, 5)  # a view
    below = pixels[inside]
    below[:, :4] *= 1 - opacity
    below[:, :3] += (color * light[:, None] + shine[:, None]) * opacity
    below[:, 3:4] += opacity
    below[:, 4] = np.maximum(below[:, 4], coverage)
    pixels[inside] = below


def sway(t: float) -> Floats:
    """Return how far (x, y) the hand-held camera moves the picture, as shares of its sides."""
    return 0.0025 * np.array((np.sin(t / 13) + 0.5 * np.sin(t / 5.3), np.sin(t / 11 + 1) + 0.4 * np.sin(t / 4.1)))
