"""Pictures for people: masks and keypoints drawn over frames, and what a model sees: attention, correspondence, features.

Letters: T frames, H x W pixels, h x w grid cells, K points, A attention heads, D channels.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from siammae.encoder import Encoder
from siammae.features import Geometry, encode, frame_size, preprocess
from siammae.labels import davis_palette, upsample
from siammae.pretrained import as_encoder
from siammae.registry import DEFAULT_MODEL
from siammae.video import as_frame

HEAT = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # from low to high
MARGIN = 4  # white pixels between pictures
SMOOTH = 2  # trails are drawn so many times larger, and then reduced


def overlay(
    frame: NDArray[np.uint8],
    ids: NDArray[Any],
    palette: Sequence[int] | None = None,
    *,
    opacity: float = 0.5,
    numbers: bool = False,
) -> NDArray[np.uint8]:
    """A frame [H, W, 3] with the objects of `ids` [H, W] tinted in their colours and outlined; id 0 is left as it is.

    Args:
        frame, ids: of one size; ValueError where they are not.
        palette: R, G, B of the ids one after another (the first 21 colours of DAVIS if None); ids beyond it begin again at its
            second colour.
        opacity: of the tint, 0 to 1.
        numbers: write each object's id on it, where it is thick.
    """
    if ids.shape != frame.shape[:2]:
        raise ValueError(
            f"ids have shape {list(ids.shape)}; expected {list(frame.shape[:2])}, the height and width of the frame"
        )
    colours = davis_palette()[:21] if palette is None else np.asarray(palette, dtype=np.uint8).reshape(-1, 3)
    index = np.where(ids == 0, 0, 1 + (ids.astype(np.int64) - 1) % (len(colours) - 1))
    tint, inside = colours[index].astype(np.float32), (ids != 0)[..., None]
    picture = np.where(inside, frame * (1 - opacity) + tint * opacity, frame)
    picture = np.where(_outline(ids)[..., None], tint * 0.6 + 255 * 0.4, picture).round().astype(np.uint8)
    return _write_numbers(picture, ids) if numbers else picture


def _outline(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels [H, W] of an object that touch another id."""
    edge = np.zeros(ids.shape, dtype=bool)
    for axis in (0, 1):
        differs = np.diff(ids.astype(np.int64), axis=axis) != 0
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        edge[tuple(first)] |= differs
        edge[tuple(second)] |= differs
    edge &= ids != 0
    return edge


def _write_numbers(picture: NDArray[np.uint8], ids: NDArray[Any]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for label in np.unique(ids[ids != 0]):
        x, y, depth = _thick_place(ids == label)
        text = str(int(label))
        size = max(11.0, min(1.3 * depth, 2.6 * depth / len(text), min(ids.shape) / 11))
        font = ImageFont.load_default(size)
        draw.text((x, y), text, (255, 255, 255), font, "mm", stroke_width=size / 9, stroke_fill=(0, 0, 0))
    return np.array(image)


def _thick_place(inside: NDArray[np.bool_]) -> tuple[int, int, int]:
    """A pixel (x, y) well inside an object [H, W], and its depth: how many steps along rows and columns lead out of it.

    Of the pixels at least three quarters as deep as the deepest, it is the one nearest to the mean of the object, so that it
    moves little from frame to frame.
    """
    rows, columns = np.nonzero(inside)
    top, left = int(rows.min()), int(columns.min())
    box = inside[top : rows.max() + 1, left : columns.max() + 1]
    depth = np.pad(box, 1).astype(np.int64) * inside.size
    for axis in (0, 1):
        ramp = np.expand_dims(np.arange(depth.shape[axis]), 1 - axis)
        for _ in range(2):  # from either side
            depth = np.flip(np.minimum.accumulate(depth - ramp, axis=axis) + ramp, axis)
    y, x = np.nonzero(depth[1:-1, 1:-1] >= 0.75 * depth.max())
    nearest = np.hypot(x + left - columns.mean(), y + top - rows.mean()).argmin()
    return int(x[nearest]) + left, int(y[nearest]) + top, int(depth.max())


def draw_keypoints(frame: NDArray[np.uint8], points: Iterable[Any], *, radius: float | None = None) -> NDArray[np.uint8]:
    """A frame [H, W, 3] with a coloured disc on each of the points [K, 2], (x, y) in pixels; NaN points are not drawn."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    radius = radius or _radius(frame)
    for (x, y), colour in zip(points, _point_colours(), strict=False):
        if np.isfinite(x) and np.isfinite(y):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=(255, 255, 255))
    return np.array(image)


def draw_trails(frame: NDArray[np.uint8], tracks: Any, *, radius: float | None = None) -> NDArray[np.uint8]:
    """A frame [H, W, 3] with the discs of `draw_keypoints` and, behind each, the way it came, fading with age.

    Args:
        frame: the frame of the last positions.
        tracks: [T, K, 2], (x, y) in pixels of K points in the last T frames, the newest last; NaN breaks a trail.
        radius: of the discs, pixels; by default as those of `draw_keypoints`.

    Raises:
        ValueError: tracks of another shape.
    """
    places = np.asarray(tracks, dtype=np.float32)
    if places.ndim != 3 or places.shape[2] != 2 or not len(places):
        raise ValueError(f"tracks have shape {list(places.shape)}; expected [T, K, 2], the x and y of K points in T frames")
    radius = radius or _radius(frame)
    layer = Image.new("RGBA", (frame.shape[1] * SMOOTH, frame.shape[0] * SMOOTH))
    draw, half = ImageDraw.Draw(layer), SMOOTH * radius * 0.5
    large = (places + 0.5) * SMOOTH - 0.5
    for step in range(1, len(places)):
        opacity = round(255 * step / (len(places) - 1))
        for start, end, colour in zip(large[step - 1], large[step], _point_colours(), strict=False):
            if np.isfinite([start, end]).all():
                fill = (*(round(0.6 * value + 0.4 * 255) for value in colour), opacity)
                draw.line((*start, *end), fill=fill, width=round(2 * half))
                draw.ellipse((*(end - half), *(end + half)), fill=fill)
    trails = layer.resize((frame.shape[1], frame.shape[0]), Image.Resampling.BOX)
    picture = Image.alpha_composite(Image.fromarray(frame).convert("RGBA"), trails).convert("RGB")
    return draw_keypoints(np.array(picture), places[-1], radius=radius)


def _radius(frame: NDArray[np.uint8]) -> float:
    """Of a keypoint's disc, pixels."""
    return float(max(2.0, min(frame.shape[:2]) / 70))


def _point_colours() -> Iterator[tuple[int, int, int]]:
    """A colour for each point, without end."""
    return cycle(tuple(colour) for colour in davis_palette()[1:].tolist())


@torch.no_grad()
def attention_maps(
    frame: Any,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: int | tuple[int, int] | None = None,
    layer: int = -1,
) -> NDArray[np.float32]:
    """How much each head's CLS token looks at every place of a frame, as SiamMAE's project page shows it.

    Args:
        frame: an array [H, W, 3], a tensor [3, H, W], a PIL image or a path.
        model: an Encoder, or a name for `load_model`.
        size: shorter side, or (H, W), at which the encoder sees the frame; None is the model's default.
        layer: block whose attention is taken; -1 is the last.

    Returns:
        [A, H, W], at the frame's size, the attention of a head to the whole frame adding up to about 1 on the grid.

    Raises:
        ValueError: the model has no CLS token, or attention of another kind.
    """
    encoder, picture = as_encoder(model), as_frame(frame)
    geometry = Geometry.of(frame_size(picture), encoder, size)
    maps = encoder.attention(preprocess(picture[None], encoder, geometry.input), layer=layer)[0]  # [A, h, w]
    return upsample(maps, geometry.frame).cpu().numpy()


@torch.no_grad()
def correspondence(
    frame: Any,
    points: Any,
    other: Any,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: int | tuple[int, int] | None = None,
    layer: int = -1,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where in another frame the points of a frame are, by the similarity of features alone.

    Args:
        frame, other: arrays [H, W, 3], tensors [3, H, W], PIL images or paths; they may differ in size.
        points: (x, y) of K points in `frame`, [K, 2], in pixels; (0, 0) is the centre of the top left pixel.
        model, size, layer: see `siammae.extract_features`.

    Returns:
        The most similar place of each point in `other`, [K, 2] in its pixels (centres of grid cells); and the cosine
        similarity of every place, [K, H, W] at its size.

    Raises:
        ValueError: points of another shape, or outside the frame.
    """
    encoder, pictures = as_encoder(model), (as_frame(frame), as_frame(other))
    places = torch.as_tensor(np.asarray(points, dtype=np.float32))
    height, width = frame_size(pictures[0])
    if places.ndim != 2 or places.shape[1] != 2:
        raise ValueError(f"points have shape {list(places.shape)}; expected [K, 2], the x and y of K points")
    if not bool(((places >= -0.5) & (places <= torch.tensor([width, height]) - 0.5)).all()):
        raise ValueError(f"points {places.tolist()} are not all inside the frame of {width} x {height} pixels (x, y)")
    here, there = (Geometry.of(frame_size(picture), encoder, size) for picture in pictures)
    queries, keys = (
        F.normalize(encode(encoder, [picture], geometry, layer)[0].float(), dim=0).cpu()
        for picture, geometry in zip(pictures, (here, there), strict=True)
    )  # [D, h, w]
    similarity = torch.einsum("kd,dhw->khw", F.normalize(_sample(queries, here.to_grid(places)), dim=1), keys)
    best = similarity.flatten(1).argmax(dim=1)
    cells = torch.stack([best % there.grid[1], best // there.grid[1]], dim=1).float()
    return there.to_frame(cells).numpy(), upsample(similarity, there.frame).numpy()


def _sample(features: Tensor, cells: Tensor) -> Tensor:
    """Features [D, h, w] at K places [K, 2] between the cells, (x, y): [K, D]."""
    height, width = features.shape[1:]
    grid = (2 * cells + 1) / torch.tensor([width, height]) - 1
    sampled = F.grid_sample(features[None], grid[None, None], align_corners=False, padding_mode="border")
    return sampled[0, :, 0].T


class FeatureColours:
    """Features as colours: their three strongest principal components as red, green and blue.

    The components and their ranges (the 1st to the 99th percentile) are fitted once, so that a feature has the same colour in
    whatever frame it occurs. Each component points to where its largest weight is positive, so that a fit always gives the
    same colours.

    Args:
        features: [T, D, h, w], such as of some frames spread over a video.

    Raises:
        ValueError: another shape, fewer than three channels, or values that are not finite.
    """

    def __init__(self, features: Tensor) -> None:
        if features.ndim != 4 or features.shape[1] < 3 or not features.numel():
            raise ValueError(f"features have shape {list(features.shape)}; expected [T, D, h, w] with at least 3 channels (D)")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("features are not all finite")
        cells = features.shape[0] * features.shape[2] * features.shape[3]
        self.mean = torch.stack([_by_cell(frame).sum(dim=0) for frame in features]).sum(dim=0) / cells  # [D]
        covariance = torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64)
        for frame in features:
            centred = _by_cell(frame) - self.mean
            covariance += centred.T @ centred
        components = torch.linalg.eigh(covariance).eigenvectors[:, -3:].flip(1)  # [D, 3], the strongest first
        largest = components.gather(0, components.abs().argmax(dim=0, keepdim=True))
        self.components = components * largest.sign()
        values = rearrange(self._project(features), "t c h w -> c (t h w)").numpy()
        self.low, self.high = (torch.from_numpy(edge) for edge in np.quantile(values, (0.01, 0.99), axis=1))  # [3] each

    def __call__(self, features: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Pictures [T, H, W, 3], `size` being (H, W), of features [T, D, h, w]; ValueError where they have another shape."""
        if features.ndim != 4 or features.shape[1] != len(self.mean):
            raise ValueError(
                f"features have shape {list(features.shape)}; expected [T, {len(self.mean)}, h, w], as those fitted"
            )
        values = rearrange(self._project(features), "t c h w -> t h w c")
        noise = 1e-6 * self.mean.abs().max().clamp(min=1e-30)  # what does not vary is grey
        levels = (values - (self.low + self.high) / 2) / (self.high - self.low).clamp(min=noise) + 0.5
        planes = rearrange(levels.clamp(0, 1), "t h w c -> (t c) h w").float()
        pictures = (255 * upsample(planes, size)).round().to(torch.uint8)
        return rearrange(pictures, "(t c) h w -> t h w c", c=3).numpy()

    def _project(self, features: Tensor) -> Tensor:
        """The components [T, 3, h, w] of features [T, D, h, w]."""
        height, width = features.shape[2:]
        projected = torch.stack([(_by_cell(frame) - self.mean) @ self.components for frame in features])
        return rearrange(projected, "t (h w) c -> t c h w", h=height, w=width)


def _by_cell(features: Tensor) -> Tensor:
    """Features [D, h, w] as [h * w, D], in double precision on the CPU."""
    return rearrange(features.detach().cpu(), "d h w -> (h w) d").double()


def draw_heat(frame: NDArray[np.uint8], heat: NDArray[Any], *, opacity: float = 0.65) -> NDArray[np.uint8]:
    """A frame [H, W, 3], in grey, under the colours of a map [H, W], its lowest value violet and its highest yellow."""
    low, high = float(heat.min()), float(heat.max())
    level = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    stops = np.linspace(0, 1, len(HEAT))
    colours = np.stack([np.interp(level, stops, channel) for channel in np.array(HEAT).T], axis=-1)
    grey = frame.mean(axis=2, keepdims=True)
    picture: NDArray[np.uint8] = (grey * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return picture


def contact_sheet(pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Pictures [H, W, 3] of one size in rows of so many, with white between them."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = np.full((rows * (height + MARGIN) - MARGIN, columns * (width + MARGIN) - MARGIN, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + MARGIN), index % columns * (width + MARGIN)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def before_after(frames: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[Any]], columns: int = 4) -> NDArray[np.uint8]:
    """One picture of a clip: so many of its frames, evenly spread from the first to the last, above their overlays.

    Args:
        frames: T pictures [H, W, 3] of one size.
        masks: their ids [H, W].
        columns: frames shown; fewer where there are fewer.

    Raises:
        ValueError: no frames, or not as many masks; fewer than one column.
    """
    if len(frames) != len(masks) or not len(frames):
        raise ValueError(f"there are {len(frames)} frames and {len(masks)} masks; expected as many, and at least one")
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected at least 1")
    columns = min(columns, len(frames))
    shown = np.linspace(0, len(frames) - 1, columns).round().astype(int).tolist()
    return contact_sheet([frames[i] for i in shown] + [overlay(frames[i], masks[i]) for i in shown], columns)
