"""Appearance: changes of color and blur of a batch of crops, drawn for a sample or for each of its frames.

Letters: B samples, T future frames of each, S pixels of a crop's side.
"""

import numpy as np
import torch
from torch import Tensor

from siammae.training.config import AppearanceConfig

SIGMA = 0.1 / 224, 2.0 / 224  # deviations of the blur, in shares of a crop's side: SimCLR's at 224 pixels


def change_appearance(frames: Tensor, config: AppearanceConfig, seed: list[int]) -> Tensor:
    """Change the colors of every crop, and blur some, as SimCLR (arXiv 2002.05709) does.

    Brightness, contrast and saturation are multiplied by 1 - `config.color` to 1 + `config.color`, and the hue turns by up to a
    quarter of `config.color`, in a random order.

    Args:
        frames: [B, 1 + T, 3, S, S], uint8.
        config: strength, and whether the frames of a sample share the change.
        seed: seed of the random generator.

    Returns:
        [B, 1 + T, 3, S, S], uint8, on the same device; the same tensor where nothing is to change.
    """
    if not (config.color or config.blur):
        return frames
    rng = np.random.default_rng(seed)
    samples, times = frames.shape[:2]
    changed = []
    alike = frames if config.shared else frames.flatten(0, 1).unsqueeze(1)
    for sample in alike:  # [1 + T, 3, S, S] or [1, 3, S, S]
        changed.append(_blurred(_colored(sample, config.color, rng), config.blur, rng))
    whole: Tensor = torch.cat(changed).unflatten(0, (samples, times))
    return whole


def _colored(frames: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Change the colors of frames [n, 3, S, S] alike; without strength nothing is drawn."""
    if not strength:
        return frames
    from torchvision.transforms.v2 import functional as vision

    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    hue = strength / 4 * rng.uniform(-1, 1)
    for change in rng.permutation(4):
        match change:
            case 0:
                frames = vision.adjust_brightness(frames, brightness)
            case 1:
                frames = vision.adjust_contrast(frames, contrast)
            case 2:
                frames = vision.adjust_saturation(frames, saturation)
            case _:
                frames = vision.adjust_hue(frames, hue)
    return frames


def _blurred(frames: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Blur a `share` of what it is given, frames [n, 3, S, S] alike; with share 0 nothing is drawn."""
    if not share or rng.random() >= share:
        return frames
    from torchvision.transforms.v2.functional import gaussian_blur

    sigma = frames.shape[-1] * rng.uniform(*SIGMA)
    radius = min(max(1, round(3 * sigma)), frames.shape[-1] - 1)
    blurred: Tensor = gaussian_blur(frames, [2 * radius + 1, 2 * radius + 1], [sigma, sigma])
    return blurred
