"""Maps of one frame: attention of the CLS token, correspondence of a point, heat over pictures."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siammae.encoder import Encoder
from siammae.features import encode, preprocess
from siammae.geometry import Geometry, frame_size
from siammae.labels.grid import upsample
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.video.pictures import as_frame

HEAT = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # from low to high


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


def draw_heat(frame: NDArray[np.uint8], heat: NDArray[Any], *, opacity: float = 0.65) -> NDArray[np.uint8]:
    """A frame [H, W, 3], in grey, under the colours of a map [H, W], its lowest value violet and its highest yellow."""
    low, high = float(heat.min()), float(heat.max())
    level = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    stops = np.linspace(0, 1, len(HEAT))
    colours = np.stack([np.interp(level, stops, channel) for channel in np.array(HEAT).T], axis=-1)
    grey = frame.mean(axis=2, keepdims=True)
    picture: NDArray[np.uint8] = (grey * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return picture
