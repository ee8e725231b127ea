"""The teacher of feature targets: an encoder, or the average of the trained one, that sees the same crops whole.

Letters: B pairs, T future frames, S pixels of a crop's side, N patches of a frame, D channels of the teacher.
"""

import copy

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from siammae.encoder import Encoder, normalized_images
from siammae.models.load import load_model
from siammae.ops.resize import antialiased
from siammae.training.model_config import ModelConfig

STATISTICS_FRAMES = 256  # frames, the run's first, on which the mean and deviation of the teacher's features are estimated


class Teacher:
    """A frozen encoder that gives a crop's features on the student's grid.

    Args:
        encoder: the teacher.
        layer: block whose output is the target, as in `Encoder.forward`.
        size: side in pixels at which it sees a crop; None gives one of its cells for each of the student's.
        grid: cells along the side of a student's crop.

    Raises:
        ValueError: the teacher has no such layer, or its patches do not fit the grid.
    """

    def __init__(self, encoder: Encoder, *, layer: int, size: int | None, grid: int) -> None:
        if not -encoder.depth <= layer < encoder.depth:
            raise ValueError(
                f"model.teacher_layer is {layer}; the teacher {encoder.name} has {encoder.depth} blocks: "
                f"{-encoder.depth} to {encoder.depth - 1}"
            )
        self.size = size or grid * encoder.patch_size
        if self.size % (grid * encoder.patch_size):
            raise ValueError(
                f"model.teacher_size is {self.size}; the teacher {encoder.name} has patches of {encoder.patch_size} pixels and "
                f"the crops {grid} x {grid} patches, so expected {grid * encoder.patch_size} or a multiple of it"
            )
        self.encoder = encoder.eval().requires_grad_(False)
        self.layer, self.grid = layer, grid

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """Compute the features of crops [B, 1 + T, 3, S, S], uint8: [B, 1 + T, N, D], float32.

        Where the teacher has several cells for one of the student's, their features are averaged.
        """
        crops = fit(frames, self.size).flatten(0, 1)
        mean, std = (
            torch.tensor(v, dtype=torch.float32, device=crops.device).view(3, 1, 1)
            for v in (self.encoder.mean, self.encoder.std)
        )
        with normalized_images():
            features = self.encoder((crops.float() / 255 - mean) / std, layer=self.layer).float()  # [B * (1 + T), D, h, w]
        if features.shape[-1] != self.grid:
            features = F.avg_pool2d(features, features.shape[-1] // self.grid)
        tokens: Tensor = rearrange(features, "(b t) d h w -> b t (h w) d", b=len(frames))
        return tokens


def build_teacher(config: ModelConfig, student: Encoder, dtype: torch.dtype) -> Teacher | None:
    """Build the teacher that `config` names, on the student's device; None where the targets are pixels.

    Args:
        config: the run's model.
        student: the trained encoder; it is copied where the target is "ema", and the caller moves the copy's weights.
        dtype: number type in which a teacher of other weights computes.

    Raises:
        ValueError: there is no such model, it lacks the layer, or its patches do not fit the crops.
        siammae.WeightsError: the teacher's weights cannot be read or downloaded.
    """
    if config.target not in ("features", "ema"):
        return None
    if config.target == "features":
        encoder = load_model(config.teacher, device=student.device, dtype=dtype)
    else:
        encoder = copy.deepcopy(student)
    grid = config.image_size // config.patch_size
    return Teacher(encoder, layer=config.teacher_layer, size=config.teacher_size, grid=grid)


def fit(frames: Tensor, side: int) -> Tensor:
    """Resample crops [B, 1 + T, 3, S, S], uint8, to `side` pixels by antialiased triangles: [B, 1 + T, 3, side, side]."""
    if frames.shape[-1] == side:
        return frames
    flat = antialiased(frames.flatten(0, 1).float(), (side, side), "bilinear")
    resampled: Tensor = rearrange(flat.round_().clamp_(0, 255).to(torch.uint8), "(b t) c h w -> b t c h w", b=len(frames))
    return resampled
