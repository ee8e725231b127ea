"""Geometry: how a frame, the encoder's input and the grid of features lie over one another.

Letters: H x W pixels, h x w grid cells.
"""

from dataclasses import dataclass
from numbers import Integral

import torch
from PIL import Image
from torch import Tensor

from siammae.encoder import Encoder


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


def frame_size(frame: Tensor) -> tuple[int, int]:
    """(H, W) of a frame [3, H, W]."""
    height, width = frame.shape[-2:]
    return height, width
