"""Pictures of a run for people: the loss curve and the reconstructions. Drawn with Pillow.

Letters: B samples, T futures of each, S pixels of a crop's side, H x W pixels of a frame.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from siammae.files import atomic
from siammae.training.data.clips import Frame
from siammae.training.data.crops import Box
from siammae.training.data.samples import crop
from siammae.training.masking import Masks, draw_mask
from siammae.training.model import Reconstruction, SiamMAE

MARGIN, GRAY, BLUE, LIGHT = 48, (90, 90, 90), (31, 92, 170), (225, 225, 225)


def draw_curve(points: Sequence[tuple[float, float]], *, title: str, x_label: str, size: int = 640) -> Image.Image:
    """Draw a line through (x, y) points, with five marked values on either axis.

    Raises:
        ValueError: there is no point to draw.
    """
    if not points:
        raise ValueError("there are no points to draw")
    width, height = size, size * 9 // 16
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = _rounded_range(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = MARGIN + (x - x_low) / (x_high - x_low) * (width - 2 * MARGIN)
        return across, height - MARGIN - (y - y_low) / (y_high - y_low) * (height - 2 * MARGIN)

    for tick in range(5):
        x, y = x_low + tick / 4 * (x_high - x_low), y_low + tick / 4 * (y_high - y_low)
        draw.line([place(x_low, y), place(x_high, y)], fill=LIGHT)
        draw.text((6, place(x_low, y)[1] - 6), f"{y:.3g}", fill=GRAY)
        draw.text((place(x, y_low)[0] - 10, height - MARGIN + 6), f"{x:.4g}", fill=GRAY)
    draw.line([place(x, y) for x, y in points], fill=BLUE, width=2)
    draw.text((MARGIN, 14), title, fill=GRAY)
    draw.text((width // 2 - 20, height - 20), x_label, fill=GRAY)
    return image


def _rounded_range(low: float, high: float) -> tuple[float, float]:
    """Return a range around low .. high whose ends are multiples of a power of ten."""
    step = 10 ** math.floor(math.log10(max(high - low, 1e-3)))
    return math.floor(low / step) * step, (math.floor(high / step) + 1) * step


def draw_reconstructions(frames: Tensor, reconstruction: Reconstruction) -> Image.Image:
    """Draw one row for every sample and future: past, masked future, prediction, future.

    Args:
        frames: [B, 1 + T, 3, S, S], uint8.
        reconstruction: pictures [B, T, 3, S, S] in [0, 1] of the same frames.
    """
    sheet = rearrange(_columns(frames, reconstruction), "b t n c h w -> (b t h) (n w) c")
    return Image.fromarray(sheet.numpy())


def reconstruct_future(
    model: SiamMAE, past: Frame, future: Frame, *, mask_ratio: float | None = None, seed: int = 0
) -> NDArray[np.uint8]:
    """Predict the hidden patches of a future frame from its few visible ones and the past frame.

    Where the model predicts normalized patches, each gets the mean and contrast of the true one (see `SiamMAE.reconstruct`).

    Args:
        model: a model in evaluation mode, such as from `siammae.training.folder.load_siammae`.
        past, future: frames [H, W, 3] of one size; their central squares are taken.
        mask_ratio: hidden share of the future frame's patches; None takes the model's own.
        seed: seed of the choice of patches.

    Returns:
        Four pictures [4, S, S, 3]: past, masked future, prediction, future.

    Raises:
        ValueError: a mask ratio that leaves no patch visible, or none masked; frames of different sizes.
    """
    if past.shape != future.shape:
        raise ValueError(f"the frames have shapes {list(past.shape)} and {list(future.shape)}; expected one shape")
    config = model.config if mask_ratio is None else replace(model.config, future_ratio=mask_ratio)
    height, width = past.shape[:2]
    side = min(height, width)
    box = Box((height - side) // 2, (width - side) // 2, side, side)
    frames = crop([(past, box), (future, box)], False, config.image_size)[None]  # [1, 2, 3, S, S]
    generator, ratios = torch.Generator().manual_seed(seed), (config.past_ratio, config.future_ratio)
    masks = Masks(*(draw_mask(config.mask, 1, model.grid, model.grid, ratio, generator) for ratio in ratios))
    reconstruction = model.reconstruct(frames, masks)
    return rearrange(_columns(frames, reconstruction), "1 1 n c h w -> n h w c").numpy()


def _columns(frames: Tensor, reconstruction: Reconstruction) -> Tensor:
    """Stack past, masked future, prediction and future of every sample and future: [B, T, 4, 3, S, S], uint8."""
    frames = frames.cpu()
    masked, prediction = ((picture.cpu() * 255).round().to(torch.uint8) for picture in reconstruction)
    future = frames[:, 1:]
    past = frames[:, :1].expand_as(future)
    return torch.stack([past, masked, prediction, future], dim=2)


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG so that a reader never sees half of one."""
    with atomic(path) as draft:
        image.save(draft, format="PNG")
