"""Maps of one frame: attention of the CLS token, correspondence of a point, heat over pictures."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siammae.encoder import Encoder, normalized_images
from siammae.features import descriptors, preprocess
from siammae.geometry import Geometry, InputSize, frame_size
from siammae.labels.grid import upsample
from siammae.labels.keypoints import PointsLike, as_points
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.video.pictures import as_frame, as_picture

HEAT = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # from low to high


@torch.no_grad()
def attention_maps(
    frame: Any,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    layer: int = -1,
) -> NDArray[np.float32]:
    """Compute how much each head's CLS token attends to every place of a frame, as SiamMAE's project page shows it.

    Args:
        frame: any frame that `siammae.video.as_frame` takes.
        model: an Encoder, or a name for `load_model`.
        size: shorter side, or (H, W), at which the encoder sees the frame; None is the model's default.
        layer: block whose attention is taken; -1 is the last.

    Returns:
        [A, H, W] for A heads, at the frame's size. On the grid, a head's attention to the whole frame adds up to about 1.

    Raises:
        ValueError: the model has no CLS token, or attention of another kind.
    """
    encoder, picture = as_encoder(model), as_frame(frame)
    geometry = Geometry.of(frame_size(picture), encoder, size)
    with normalized_images():
        maps = encoder.attention(preprocess(picture[None], encoder, geometry.input), layer=layer)[0]  # [A, h, w]
    return upsample(maps, geometry.frame).cpu().numpy()


@torch.no_grad()
def correspondence(
    frame: Any,
    points: PointsLike,
    other: Any,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    layer: int = -1,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find the points of a frame in another frame by the similarity of features alone.

    Args:
        frame, other: any frames that `siammae.video.as_frame` takes; they may differ in size.
        points: (x, y) of K points in `frame`, [K, 2], in pixels; (0, 0) is the centre of the top left pixel.
        model, size, layer: see `siammae.extract_features`.

    Returns:
        The most similar place of each point in `other`, [K, 2] in its pixels (centres of cells); and the cosine
        similarity of every place, [K, H, W] at its size.

    Raises:
        ValueError: points of another shape, or not all inside the frame.
    """
    encoder, pictures, places = as_encoder(model), (as_frame(frame), as_frame(other)), as_points(points)
    height, width = frame_size(pictures[0])
    if not bool(((places >= -0.5) & (places <= torch.tensor([width, height], device="cpu") - 0.5)).all()):
        raise ValueError(f"points {places.tolist()} are not all inside the frame of {width} x {height} pixels (x, y)")
    first, second = (Geometry.of(frame_size(picture), encoder, size) for picture in pictures)
    queries, keys = (
        descriptors(encoder, [picture], geometry, layer)[0].cpu()
        for picture, geometry in zip(pictures, (first, second), strict=True)
    )  # [D, h, w]
    similarity = torch.einsum("kd,dhw->khw", F.normalize(_sample(queries, first.to_grid(places)), dim=1), keys)
    best = similarity.flatten(1).argmax(dim=1)
    cells = torch.stack([best % second.grid[1], best // second.grid[1]], dim=1).float()
    return second.to_frame(cells).numpy(), upsample(similarity, second.frame).numpy()


def _sample(features: Tensor, cells: Tensor) -> Tensor:
    """Interpolate features [D, h, w] at K places [K, 2], (x, y) in cells: [K, D]."""
    height, width = features.shape[1:]
    grid = (2 * cells + 1) / torch.tensor([width, height], device=cells.device) - 1
    sampled = F.grid_sample(features[None], grid[None, None], align_corners=False, padding_mode="border")
    return sampled[0, :, 0].T


def draw_heat(frame: Any, heat: NDArray[Any], *, opacity: float = 0.65) -> NDArray[np.uint8]:
    """Draw a map [H, W] in colours over a frame in grey; the lowest value is violet and the highest yellow: [H, W, 3]."""
    low, high = float(heat.min()), float(heat.max())
    level = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    stops = np.linspace(0, 1, len(HEAT))
    colors = np.stack([np.interp(level, stops, channel) for channel in np.array(HEAT).T], axis=-1)
    grey = as_picture(frame).mean(axis=2, keepdims=True)
    picture: NDArray[np.uint8] = (grey * (1 - opacity) + colors * opacity).round().astype(np.uint8)
    return picture
