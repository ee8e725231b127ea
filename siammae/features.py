"""Frames to features: resizing and normalizing, and dense features of a whole video.

Letters: T frames, H x W pixels, h x w cells, D channels.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from siammae.encoder import Encoder, normalized_images
from siammae.errors import whole_number
from siammae.files import PathLike, atomic, check_output, save_tensors
from siammae.geometry import Geometry, InputSize, frame_size
from siammae.models.load import as_encoder
from siammae.models.projection import RIDGE, fit_whitening
from siammae.models.registry import DEFAULT_MODEL
from siammae.ops.resize import antialiased
from siammae.video.frames import FrameSource, read_frames
from siammae.video.pictures import as_frame, check_range
from siammae.video.progress import progress_bar

Resize: TypeAlias = Literal["bicubic", "bilinear", "bilinear_uint8"]  # see `siammae.features.preprocess`


def preprocess(frames: Tensor, encoder: Encoder, input_size: tuple[int, int], resize: Resize = "bicubic") -> Tensor:
    """Prepare frames [T, 3, H, W], uint8 or float in [0, 1], for `encoder`: on its device, resized, normalized, float32.

    `resize` is "bicubic" with antialiasing, or "bilinear" without, as OpenCV resizes floats; "bilinear_uint8" rounds the latter
    to 255ths, as OpenCV resizes bytes. A frame of the right size is not resized.

    Raises:
        ValueError: frames of another shape or type, or floats outside [0, 1].
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or not (frames.dtype == torch.uint8 or frames.is_floating_point()):
        kind = f"{str(frames.dtype).removeprefix('torch.')} {list(frames.shape)}"
        raise ValueError(f"frames are {kind}; expected uint8 or floats in [0, 1], [T, 3, H, W]")
    if frames.is_floating_point():
        check_range(frames, "a frame")
    frames = frames.to(encoder.device)
    images = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    if images.shape[-2:] != input_size:
        if resize == "bicubic":
            images = antialiased(images, input_size, "bicubic").clamp(0, 1)
        else:
            images = F.interpolate(images, size=input_size, mode="bilinear", align_corners=False).clamp(0, 1)
        if resize == "bilinear_uint8":
            images = (images * 255).round() / 255
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=images.device).view(3, 1, 1) for values in (encoder.mean, encoder.std)
    )
    return (images - mean) / std


def prepare(frames: Any, encoder: Encoder, size: InputSize = None) -> Tensor:
    """Prepare all frames of a source for `encoder`; see `Encoder.preprocess`."""
    pictures = [as_frame(frames)] if isinstance(frames, Image.Image) else list(read_frames(frames))
    geometry = Geometry.of(frame_size(pictures[0]), encoder, size)
    return torch.cat([preprocess(picture[None], encoder, geometry.input) for picture in pictures])


@torch.no_grad()
def extract_features(
    frames: FrameSource,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    layer: int = -1,
    normalize: bool = False,
    batch_size: int = 8,
    progress: bool | None = None,
) -> Tensor:
    """Compute the dense features of every frame.

    Args:
        frames: anything that `read_frames` takes.
        model: an Encoder, or a name for `load_model`.
        size: shorter side, or (H, W), at which the encoder sees the frames; None is the model's default.
        layer: block whose features are taken; -1 is the last, after the final LayerNorm (see `Encoder.forward`).
        normalize: scale every feature to unit length.
        batch_size: number of frames that are encoded together.
        progress: show a progress bar; None shows one if standard error is a terminal.

    Returns:
        [T, D, h, w] on the CPU, in the encoder's dtype. `Geometry.of` says which part of the frame a cell covers.

    Raises:
        ValueError: a bad `batch_size`, `size` or `layer`, features that are not finite; and what `read_frames` raises.
    """
    batch_size = whole_number(batch_size, "batch_size", "a whole number of frames, at least 1")
    if batch_size is None or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    encoder = as_encoder(model)
    source = read_frames(frames)
    grids: deque[Tensor] = deque()
    geometry = None
    for batch in _batched(progress_bar(source, source.length, "features", progress), batch_size):
        geometry = geometry or Geometry.of(frame_size(batch[0]), encoder, size)
        grid = encode(encoder, batch, geometry, layer)
        grids.append((F.normalize(grid, dim=1) if normalize else grid).cpu())
    features = grids[0].new_empty(sum(map(len, grids)), *grids[0].shape[1:])
    filled = 0
    while grids:  # each batch is freed once it is copied: nothing is held twice
        grid = grids.popleft()
        features[filled : filled + len(grid)] = grid
        filled += len(grid)
    return features


def iter_features(
    videos: Iterable[FrameSource],
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    layer: int = -1,
    normalize: bool = False,
    batch_size: int = 8,
    progress: bool | None = None,
) -> Iterator[Tensor]:
    """Compute the dense features of several videos, and yield those of each, [T, D, h, w], as `extract_features` does.

    The model is loaded once. A video is read when its turn comes, so that `videos` may be a generator, the videos may differ in
    size, and the memory is that of one video. What `extract_features` raises for a video ends the iteration.

    Args:
        videos: videos that `read_frames` takes.
        model, size, layer, normalize, batch_size, progress: see `extract_features`.
    """
    encoder = as_encoder(model)
    return (
        extract_features(video, encoder, size=size, layer=layer, normalize=normalize, batch_size=batch_size, progress=progress)
        for video in videos
    )


def encode(encoder: Encoder, frames: Sequence[Tensor], geometry: Geometry, layer: int, resize: Resize = "bicubic") -> Tensor:
    """Compute features [B, D, h, w] of frames [3, H, W]; ValueError if they are not finite."""
    images = torch.cat([preprocess(frame[None], encoder, geometry.input, resize) for frame in frames])
    with normalized_images():
        features: Tensor = encoder(images, layer=layer)
    if not bool(torch.isfinite(features).all()):
        raise ValueError(
            f"{encoder.name} gives features that are not finite: its weights are damaged, or {encoder.dtype} is too narrow"
        )
    return features


def descriptors(
    encoder: Encoder,
    frames: Sequence[Tensor],
    geometry: Geometry,
    layer: int = -1,
    resize: Resize = "bicubic",
    *,
    projected: bool | None = None,
) -> Tensor:
    """Compute what is compared of frames [3, H, W]: features of unit length [B, D, h, w], float32.

    Args:
        encoder, frames, geometry, layer, resize: as for `encode`.
        projected: apply the encoder's projection; None applies it if there is one and `layer` is the last.

    Raises:
        ValueError: there is no projection, or it belongs to another layer; features that are not finite.
    """
    features = encode(encoder, frames, geometry, layer, resize).float()
    if projected is None:
        projected = encoder.projection is not None and layer == -1
    return F.normalize(project(encoder, features, layer) if projected else features, dim=1)


def project(encoder: Encoder, features: Tensor, layer: int = -1) -> Tensor:
    """Apply the encoder's projection to features [B, D, h, w] of its last block; ValueError if it has none, or for others."""
    if encoder.projection is None:
        raise ValueError(f"{encoder.name} has no projection; `siammae fit-projection` fits one, projection=False does without")
    if layer != -1:
        raise ValueError(f"the projection of {encoder.name} is for its last block, not layer {layer}; expected layer=-1")
    projected: Tensor = encoder.projection(features)
    return projected


@torch.no_grad()
def fit_projection(
    videos: Sequence[FrameSource],
    model: str | Encoder = DEFAULT_MODEL,
    *,
    frames: int = 2,
    ridge: float = RIDGE,
    size: InputSize = None,
    progress: bool | None = None,
) -> Encoder:
    """Fit the whitening of a model's features to videos; propagation, correspondence and PCA then compare whitened features.

    Args:
        videos: videos that `read_frames` takes; no labels are needed.
        model: an Encoder, or a name for `load_model`.
        frames: number of frames of each video, spread over it; shorter videos give fewer.
        ridge: the larger, the milder (`siammae.models.projection.fit_whitening`).
        size: shorter side, or (H, W), at which the encoder sees the frames; None is the model's default.
        progress: show a progress bar; None shows one if standard error is a terminal.

    Returns:
        A copy of the encoder with the projection, which `save_model` writes, and with `projection` among its own propagation
        settings.

    Raises:
        ValueError: no videos, fewer cells than channels, a bad `frames` or `ridge`; and what `read_frames` raises.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}; expected 1 or more")
    encoder, used = copy.deepcopy(as_encoder(model)), 0

    def grids() -> Iterator[Tensor]:
        nonlocal used
        for video in progress_bar(videos, len(videos), "fit projection", progress):
            source = read_frames(video)
            length = len(source)
            for frame in source.at(sorted({(2 * i + 1) * length // (2 * frames) for i in range(frames)})):
                used += 1
                yield encode(encoder, [frame], Geometry.of(frame_size(frame), encoder, size), -1)[0]

    encoder.projection = fit_whitening(grids(), ridge).to(encoder.device)
    encoder.metadata["projection"] = {"method": "whitening", "ridge": ridge, "videos": len(videos), "frames": used}
    encoder.metadata["propagation"] = {**(encoder.metadata.get("propagation") or {}), "projection": True}
    return encoder


def _batched(frames: Iterable[Tensor], batch_size: int) -> Iterator[list[Tensor]]:
    iterator = iter(frames)
    while batch := list(islice(iterator, batch_size)):
        yield batch


def write_features(path: PathLike, features: Tensor) -> None:
    """Write features [T, D, h, w] as .safetensors (under the name "features") or .npy, by the suffix."""
    writers: dict[str, Callable[[Path], None]] = {
        ".safetensors": lambda draft: save_tensors(draft, {"features": features.contiguous()}),
        ".npy": lambda draft: np.save(draft, features.numpy()),
    }
    with atomic(path) as draft:
        writers[check_output(path, writers)](draft)
