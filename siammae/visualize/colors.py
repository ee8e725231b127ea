"""FeatureColors: features as colours that stay the same over time."""

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from siammae.labels.grid import upsample


class FeatureColors:
    """Colours of features: their three strongest principal components as red, green and blue.

    The components and their ranges (the 1st to the 99th percentile) are fitted once, so that a feature has the same colour in
    every frame. Each component has the sign that makes its largest weight positive, so that a fit always gives the same
    colours.

    Args:
        features: features to fit, [T, D, h, w], for example of some frames spread over a video.

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
        covariance = torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64, device="cpu")
        for frame in features:
            centered = _by_cell(frame) - self.mean
            covariance += centered.T @ centered
        components = torch.linalg.eigh(covariance).eigenvectors[:, -3:].flip(1)  # [D, 3], the strongest first
        largest = components.gather(0, components.abs().argmax(dim=0, keepdim=True))
        self.components = components * largest.sign()
        values = rearrange(self._project(features), "t c h w -> c (t h w)").numpy()
        self.low, self.high = (torch.from_numpy(edge) for edge in np.quantile(values, (0.01, 0.99), axis=1))  # [3] each

    def __call__(self, features: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draw features [T, D, h, w] as pictures [T, H, W, 3], `size` being (H, W); ValueError if D is not that of the fit."""
        if features.ndim != 4 or features.shape[1] != len(self.mean):
            raise ValueError(
                f"features have shape {list(features.shape)}; expected [T, {len(self.mean)}, h, w], like those fitted"
            )
        values = rearrange(self._project(features), "t c h w -> t h w c")
        noise = 1e-6 * self.mean.abs().max().clamp(min=1e-30)  # features that do not vary are grey
        levels = (values - (self.low + self.high) / 2) / (self.high - self.low).clamp(min=noise) + 0.5
        planes = rearrange(levels.clamp(0, 1), "t h w c -> (t c) h w").float()
        pictures = (255 * upsample(planes, size)).round().to(torch.uint8)
        return rearrange(pictures, "(t c) h w -> t h w c", c=3).numpy()

    def _project(self, features: Tensor) -> Tensor:
        """Compute the components [T, 3, h, w] of features [T, D, h, w]."""
        height, width = features.shape[2:]
        projected = torch.stack([(_by_cell(frame) - self.mean) @ self.components for frame in features])
        return rearrange(projected, "t (h w) c -> t c h w", h=height, w=width)


def _by_cell(features: Tensor) -> Tensor:
    """Rearrange features [D, h, w] to [h * w, D], in double precision on the CPU."""
    return rearrange(features.detach().cpu(), "d h w -> (h w) d").double()
