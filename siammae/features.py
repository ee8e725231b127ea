"""Frames to features: resizing and normalising, the geometry between frame and grid, and dense features of a whole video.

Letters: T frames, H x W pixels, h x w grid cells, D channels.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from siammae.encoder import Encoder
from siammae.pretrained import as_encoder
from siammae.registry import DEFAULT_MODEL
from siammae.video import FrameSource, Resize, read_frames


@dataclass(frozen=True)
class Geometry:
    """How a frame, the encoder's input and the grid of features lie over one another: all three cover the same picture.

    Coordinates are (x, y) with pixel and cell centres at whole numbers, so the picture spans -0.5 to W - 0.5 in pixels and
    -0.5 to w - 0.5 in cells: x_cell = (x_pixel + 0.5) * w / W - 0.5.

    Attributes:
        frame: (H, W) of the frames, pixels.
        input: (H, W) of what the encoder sees, pixels; multiples of the patch size.
        grid: (h, w), cells.
    """

    frame: tuple[int, int]
    input: tuple[int, int]
    grid: tuple[int, int]

    @classmethod
    def of(cls, frame: tuple[int, int], encoder: Encoder, size: int | tuple[int, int] | None = None) -> "Geometry":
        """The geometry of frames of (H, W) pixels.

        Args:
            frame: (H, W) of the frames.
            encoder: whose patch size counts.
            size: the shorter side of the input, in pixels (the longer follows; both are rounded to whole patches); or (H, W) of
                the input, whole patches, whatever the frame's aspect; None takes `encoder.default_size`.
        """
        patch = encoder.patch_size
        numbers = (encoder.default_size,) if size is None else size if isinstance(size, tuple | list) else (size,)
        if len(numbers) not in (1, 2) or not all(isinstance(number, Integral) for number in numbers):
            raise ValueError(f"size is {size!r}; expected a whole number of pixels, or (height, width)")
        if len(numbers) == 2:
            height, width = map(int, numbers)
        else:
            height, width = (max(1, round(side * int(numbers[0]) / min(frame) / patch)) * patch for side in frame)
        if min(numbers) < patch or (len(numbers) == 2 and (height % patch or width % patch)):
            wanted = "at least one patch" if len(numbers) == 1 else "whole patches"
            raise ValueError(f"size is {size} pixels; expected {wanted} of {encoder.name}, {patch} pixels")
        if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
            raise ValueError(
                f"frames of {frame[0]} x {frame[1]} pixels would be encoded at {height} x {width}, more than the limit of "
                f"{Image.MAX_IMAGE_PIXELS} pixels (PIL.Image.MAX_IMAGE_PIXELS); pass size=(height, width)"
            )
        return cls(frame, (height, width), (height // patch, width // patch))

    def to_grid(self, points: Tensor, centre: float = 0.5) -> Tensor:
        """Points [..., 2] in frame pixels, as grid cells; `centre` is 0 where corners have whole numbers, as CRW has it."""
        return (points + centre) * self._scale(points) - centre

    def to_frame(self, points: Tensor, centre: float = 0.5) -> Tensor:
        """Points [..., 2] in grid cells, as frame pixels."""
        return (points + centre) / self._scale(points) - centre

    def _scale(self, points: Tensor) -> Tensor:
        return torch.tensor([self.grid[1] / self.frame[1], self.grid[0] / self.frame[0]], device=points.device)


def preprocess(frames: Tensor, encoder: Encoder, input_size: tuple[int, int], resize: Resize = "bicubic") -> Tensor:
    """Frames [T, 3, H, W], uint8 or float in [0, 1], as `encoder` wants them: on its device, resized, normalised, float32.

    `resize` is "bicubic" with antialiasing, or "bilinear" without, which is what OpenCV does with floats; "bilinear_uint8" is
    what it does with bytes: the same, rounded to 255ths. A frame that has the size already is left as it is.
    """
    frames = frames.to(encoder.device)
    images = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    if images.shape[-2:] != input_size:
        mode, antialias = resize.removesuffix("_uint8"), resize == "bicubic"
        images = F.interpolate(images, size=input_size, mode=mode, antialias=antialias, align_corners=False).clamp(0, 1)
        if resize == "bilinear_uint8":
            images = (images * 255).round() / 255
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    return (images - mean) / std


@torch.no_grad()
def extract_features(
    frames: FrameSource,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: int | tuple[int, int] | None = None,
    layer: int = -1,
    normalize: bool = False,
    batch_size: int = 8,
    progress: bool | None = None,
) -> Tensor:
    """Dense features of every frame.

    Args:
        frames: anything that `read_frames` takes.
        model: an Encoder, or a name for `load_model`.
        size: shorter side, or (H, W), at which the encoder sees the frames; None is the model's default.
        layer: -1 for the last block and final LayerNorm, or a block (see `Encoder.forward`).
        normalize: scale every feature to unit length.
        batch_size: frames encoded together.
        progress: a progress bar; None shows one when standard error is a terminal.

    Returns:
        [T, D, h, w] on the CPU, in the encoder's dtype. `Geometry.of` tells which part of the frame a cell covers.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    encoder = as_encoder(model)
    source = read_frames(frames)
    grids: deque[Tensor] = deque()
    shape = None
    for batch in _batched(progress_bar(source, source.length, "features", progress), batch_size):
        shape = shape or Geometry.of(frame_size(batch[0]), encoder, size)
        grid = encode(encoder, batch, shape, layer)
        grids.append((F.normalize(grid, dim=1) if normalize else grid).cpu())
    features = grids[0].new_empty(sum(map(len, grids)), *grids[0].shape[1:])
    filled = 0
    while grids:  # each batch is freed once it is copied, so that nothing is held twice
        grid = grids.popleft()
        features[filled : filled + len(grid)] = grid
        filled += len(grid)
    return features


def encode(encoder: Encoder, frames: Sequence[Tensor], shape: Geometry, layer: int, resize: Resize = "bicubic") -> Tensor:
    """Features [B, D, h, w] of frames [3, H, W]; ValueError where they are not finite."""
    images = torch.cat([preprocess(frame[None], encoder, shape.input, resize) for frame in frames])
    features: Tensor = encoder(images, layer=layer)
    if not bool(torch.isfinite(features).all()):
        raise ValueError(
            f"{encoder.name} gives features that are not finite: its weights are damaged, or {encoder.dtype} is too narrow"
        )
    return features


def _batched(frames: Iterable[Tensor], batch_size: int) -> Iterator[list[Tensor]]:
    iterator = iter(frames)
    while batch := list(islice(iterator, batch_size)):
        yield batch


def frame_size(frame: Tensor) -> tuple[int, int]:
    """(H, W) of a frame [3, H, W]."""
    height, width = frame.shape[-2:]
    return height, width


def progress_bar(frames: Iterable[Any], total: int | None, label: str, progress: bool | None) -> Iterable[Any]:
    """`frames`, counted on standard error with frames per second and time left; None counts only on a terminal."""
    return tqdm(frames, total=total, desc=label, unit="frame", disable=None if progress is None else not progress)
