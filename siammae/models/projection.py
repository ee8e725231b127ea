"""Projection: a linear map of features, fitted to video without labels, that makes their similarities tell more.

The features of masked autoencoders lie in few directions: every cell is similar to every other. Whitening (Bell and Sejnowski
1997; "ZCA") scales the directions of their covariance to equal variance, as far as a ridge allows.

Letters: D channels, h x w cells.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from siammae.errors import WeightsError
from siammae.files import read_tensors, save_tensors

RIDGE = 0.1  # added to each direction's variance, as a share of the mean variance


class Projection(nn.Module):
    """A linear map of features: subtract `mean` [D], multiply by `matrix` [D, D].

    Args:
        mean: [D].
        matrix: [D, D]; a feature is a row.

    Raises:
        ValueError: other shapes, or values that are not finite.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        width = mean.numel()
        if mean.shape != (width,) or matrix.shape != (width, width):
            raise ValueError(
                f"a projection's mean is {list(mean.shape)} and its matrix {list(matrix.shape)}; expected [D] and [D, D]"
            )
        if not bool(torch.isfinite(mean).all() and torch.isfinite(matrix).all()):
            raise ValueError("the projection holds values that are not finite")
        self.register_buffer("mean", mean.float())
        self.register_buffer("matrix", matrix.float())

    def forward(self, features: Tensor) -> Tensor:
        """Project features [B, D, h, w]: the same shape, float32."""
        rows = rearrange(features.to(self.mean.device).float(), "b d h w -> b h w d") - self.mean.float()
        return rearrange(rows @ self.matrix.float(), "b h w d -> b d h w")


def fit_whitening(grids: Iterable[Tensor], ridge: float = RIDGE) -> Projection:
    """Fit whitening to features.

    Args:
        grids: features [D, h, w], one frame after the other; they are read once and not kept.
        ridge: share of the mean variance that is added to the variance of every direction; the larger, the milder.

    Raises:
        ValueError: a ridge that is not positive, or fewer cells than channels.
    """
    if not 0 < ridge < float("inf"):
        raise ValueError(f"ridge is {ridge!r}; expected a positive number")
    cells, total, products = 0, torch.zeros((), device="cpu"), torch.zeros((), device="cpu")
    for grid in grids:
        rows = rearrange(grid.detach().cpu(), "d h w -> (h w) d").double()
        cells, total, products = cells + len(rows), total + rows.sum(dim=0), products + rows.T @ rows
    if not cells or cells <= len(total):
        raise ValueError(f"a projection needs more cells than channels; got {cells} cells: fit it to more frames")
    mean = total / cells
    variances, directions = torch.linalg.eigh(products / cells - torch.outer(mean, mean))
    scales = (variances.clamp(min=0) + ridge * variances.clamp(min=0).mean()).rsqrt()
    return Projection(mean, (directions * scales) @ directions.T)


def write_projection(path: Path, projection: nn.Module) -> None:
    """Write a projection as safetensors."""
    save_tensors(path, {name: values.cpu() for name, values in projection.state_dict().items()}, {"format": "pt"})


def read_projection(path: Path, width: int) -> Projection:
    """Read the projection of a model with `width` channels.

    Raises:
        WeightsError: the file is missing, damaged, or belongs to a model of another width.
    """
    state: dict[str, Any] = read_tensors(path)
    if state.keys() != {"mean", "matrix"}:
        raise WeightsError(f"{path} holds {', '.join(sorted(state)) or 'nothing'}; expected mean and matrix")
    if len(state["mean"]) != width:
        raise WeightsError(f"{path} is a projection of {len(state['mean'])} channels; the model has {width}")
    try:
        return Projection(state["mean"], state["matrix"])
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
