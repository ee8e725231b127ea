"""Geometry: how the pixels of a frame, the encoder's input and the cells of the grid map to one another.

Letters: H x W pixels, h x w cells.
"""

from dataclasses import dataclass
from typing import TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor

from siammae.encoder import Encoder
from siammae.errors import whole_number

InputSize: TypeAlias = "int | tuple[int, int] | None"  # shorter side in pixels, (H, W), or the model's default

MAX_SIDE = 1_000_000  # pixels


@dataclass(frozen=True)
class Geometry:
    """Sizes of a frame, the encoder's input and the grid of features, which all cover the same picture.

    Coordinates are (x, y) with pixel and cell centres at whole numbers, so the picture spans -0.5 to W - 0.5 in pixels and
    -0.5 to w - 0.5 in cells: x_cell = (x_pixel + 0.5) * w / W - 0.5.

    Attributes:
        frame: (H, W) of the frames, pixels.
        input: (H, W) that the encoder sees, pixels; multiples of the patch size.
        grid: (h, w), cells.
    """

    frame: tuple[int, int]
    input: tuple[int, int]
    grid: tuple[int, int]

    @classmethod
    def of(cls, frame: tuple[int, int], encoder: Encoder, size: InputSize = None) -> "Geometry":
        """Work out the input and the grid for frames of (H, W) pixels.

        Args:
            frame: (H, W) of the frames.
            encoder: the model, which sets the patch size.
            size: shorter side of the input in pixels (the longer side follows; both are rounded to whole patches); or (H, W) of
                the input, in whole patches and of any aspect; None takes `encoder.default_size`.

        Raises:
            ValueError: a size that is not a number of whole patches, or an input beyond PIL's limit of pixels.
        """
        patch = encoder.patch_size
        given = as_size(encoder.default_size if size is None else size)
        numbers = given if isinstance(given, tuple) else (given,)
        if len(numbers) == 2:
            height, width = numbers
        else:
            height, width = (max(1, round(side * numbers[0] / min(frame) / patch)) * patch for side in frame)
        if min(numbers) < patch or (len(numbers) == 2 and (height % patch or width % patch)):
            wanted = "at least one patch" if len(numbers) == 1 else "whole patches"
            raise ValueError(f"size is {size} pixels; expected {wanted} of {encoder.name}, {patch} pixels")
        if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
            raise ValueError(
                f"frames of {frame[0]} x {frame[1]} pixels would be encoded at {height} x {width}, more than the limit of "
                f"{Image.MAX_IMAGE_PIXELS} pixels (PIL.Image.MAX_IMAGE_PIXELS); pass size=(height, width)"
            )
        return cls(frame, (height, width), (height // patch, width // patch))

    def to_grid(self, points: Tensor, center: float = 0.5) -> Tensor:
        """Convert points [..., 2] from frame pixels to cells; pass `center=0` if whole numbers are corners, as in CRW."""
        return (points + center) * self._scale(points) - center

    def to_frame(self, points: Tensor, center: float = 0.5) -> Tensor:
        """Convert points [..., 2] from cells to frame pixels; `center` as in `to_grid`."""
        return (points + center) / self._scale(points) - center

    def _scale(self, points: Tensor) -> Tensor:
        scale = self.grid[1] / self.frame[1], self.grid[0] / self.frame[0]
        return torch.tensor(scale, device=points.device, dtype=points.dtype if points.is_floating_point() else torch.float32)


def frame_size(frame: Tensor) -> tuple[int, int]:
    """Return (H, W) of a frame [3, H, W]."""
    height, width = frame.shape[-2:]
    return height, width


@overload
def as_size(size: None) -> None: ...
@overload
def as_size(size: "int | tuple[int, int]") -> "int | tuple[int, int]": ...
def as_size(size: InputSize) -> InputSize:
    """Return a size of the encoder's input as plain numbers; ValueError for another type, or for more than a million pixels."""
    if size is None:
        return None
    numbers = tuple(size) if isinstance(size, tuple | list) else (size,)
    expected = "a whole number of pixels, or (height, width)"
    if len(numbers) not in (1, 2):
        raise ValueError(f"size is {size!r}; expected {expected}")
    sides = tuple(whole_number(number, "size", expected) for number in numbers)
    if max(sides) > MAX_SIDE:
        raise ValueError(f"size is {size} pixels; expected at most {MAX_SIDE}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])
