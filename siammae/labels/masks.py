"""Masks of one frame in any form: ids or soft labels, as arrays, tensors, pictures or files.

Letters: L labels, H x W pixels.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from siammae.files import PathLike, atomic
from siammae.video.pictures import ROUNDING, read_image, upright

NearestPixel = Literal["center", "corner"]


@dataclass(frozen=True)
class Mask:
    """Labels of one frame, and the form in which they were given.

    Attributes:
        values: integer ids [H, W], or soft labels [L, H, W] float32 in [0, 1].
        form: form that `like` returns: a numpy array, a torch tensor, or a PIL image.
        dtype: type of the numpy array or torch tensor that was given.
        palette: palette of the picture that was given, 768 numbers, or None.
        device: device of the tensor that was given, or None.
    """

    values: NDArray[Any]
    form: Literal["numpy", "torch", "pil"]
    dtype: Any
    palette: list[int] | None = None
    device: torch.device | None = None

    @property
    def soft(self) -> bool:
        return self.values.ndim == 3

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.values.shape[-2:]
        return height, width

    def ids(self, void_id: int | None = None) -> list[int]:
        """Return the ids that occur, ascending, without the void; for soft labels the channel numbers."""
        if self.soft:
            return list(range(len(self.values)))
        return [int(i) for i in np.unique(self.values) if i != void_id]

    def resized(self, size: tuple[int, int], pixel: NearestPixel) -> "Mask":
        """Resize this mask by the nearest pixel."""
        rows, columns = (nearest_pixels(num, old, pixel).numpy() for num, old in zip(size, self.size, strict=True))
        return replace(self, values=self.values[..., rows[:, None], columns])

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise ValueError if the type of this mask cannot hold one of `ids`."""
        kind = self.values.dtype
        if self.soft:
            return
        low, high = (0, 1) if np.issubdtype(kind, np.bool_) else (np.iinfo(kind).min, np.iinfo(kind).max)
        if not all(low <= label <= high for label in ids):
            raise ValueError(f"ids {list(ids)} do not all fit into the {kind} of the first mask")

    def as_tensor(self, ids: Sequence[int]) -> Tensor:
        """Return ids of this mask as a tensor that holds all of them: int64, or uint64 where the mask itself is."""
        kind = np.uint64 if self.values.dtype == np.uint64 else np.int64
        return torch.from_numpy(np.array(ids, dtype=kind))

    def like(self, values: NDArray[Any]) -> Any:
        """Convert `values` (ids [..., H, W], or soft labels) to the form in which this mask was given."""
        if self.form == "pil":
            return to_image(values, self.palette) if self.palette else Image.fromarray(values.astype(self.values.dtype))
        if self.form == "torch":
            return torch.from_numpy(values).to(self.device, self.dtype)
        return values.astype(self.dtype, copy=False)


MaskLike: TypeAlias = Mask | str | os.PathLike[str] | Image.Image | Tensor | NDArray[Any]


def as_mask(mask: MaskLike, *, empty: bool = False) -> Mask:
    """Return a Mask as it is, or make one from a path to an indexed or grey PNG, a PIL image, an array or a tensor.

    Integer and bool [H, W] are ids (kept as they are, whatever their values); float [L, H, W] in [0, 1] are soft labels. A
    path gives the same mask as the array of its picture. Pictures are turned as their EXIF orientation says, as frames are.

    Raises:
        FileNotFoundError, VideoError: the file is missing, or not a picture.
        ValueError: another shape or type, floats outside [0, 1], or (unless `empty` is allowed) nothing but background, id 0.
    """
    label = "the mask"
    if isinstance(mask, Mask):
        return mask
    if isinstance(mask, str | os.PathLike):
        label, picture = os.fspath(mask), read_image(mask)
        values = _image_ids(picture, label)
        parsed = Mask(values, "numpy", values.dtype, _palette(picture))
    elif isinstance(mask, Image.Image):
        parsed = Mask(_image_ids(upright(mask), label), "pil", None, _palette(mask))
    elif isinstance(mask, Tensor):
        readable = mask.float() if mask.dtype == torch.bfloat16 else mask  # numpy has no bfloat16
        parsed = Mask(readable.detach().cpu().numpy(), "torch", mask.dtype, device=mask.device)
    elif isinstance(mask, np.ndarray):
        native = np.array(mask, dtype=mask.dtype.newbyteorder("="), order="C")
        parsed = Mask(native, "numpy", mask.dtype)
    else:
        raise ValueError(f"the mask is a {type(mask).__name__}; expected a path, a PIL image, an array or a tensor")
    _check(parsed, label)
    if parsed.soft:
        parsed = replace(parsed, values=parsed.values.clip(0, 1))  # sums of floats may lie a little above 1
    if not empty and not parsed.values.any():
        raise ValueError(f"{label} holds nothing but background (0): mark at least one pixel of an object")
    return parsed


def _image_ids(picture: Image.Image, label: str) -> NDArray[Any]:
    if picture.mode not in {"1", "L", "P", "I", "I;16", "I;16B"}:
        raise ValueError(
            f"{label} is a {picture.mode} picture; expected ids in an indexed (P) or grey (L) one. Convert colours to ids first"
        )
    values = np.array(picture)
    return values.astype(values.dtype.newbyteorder("="))


def _palette(picture: Image.Image) -> list[int] | None:
    if picture.mode != "P":
        return None
    colors = picture.getpalette() or []
    return colors + [0] * (768 - len(colors))


def _check(mask: Mask, label: str) -> None:
    values, floating = mask.values, np.issubdtype(mask.values.dtype, np.floating)
    if floating and values.ndim == 3:
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):
            raise ValueError(f"{label} holds soft labels from {low:.9g} to {high:.9g}; expected [0, 1]")
    elif floating or values.ndim != 2 or not (np.issubdtype(values.dtype, np.integer) or values.dtype == bool):
        raise ValueError(
            f"{label} has shape {list(values.shape)} and type {values.dtype}; expected integer or bool ids [H, W], "
            "or float soft labels [L, H, W]"
        )


def to_image(values: NDArray[Any], palette: Sequence[int] | None = None) -> Image.Image:
    """Make an indexed picture of ids [H, W] with `palette` (DAVIS's if None), or a 16-bit grey picture if ids exceed 255.

    Raises:
        ValueError: ids below 0 or above 65535, or of another shape or type than integers or bool [H, W].
    """
    if values.ndim != 2 or not values.size or values.dtype.kind not in "biu":
        raise ValueError(f"ids are {values.dtype} {list(values.shape)}; expected integers or bool [H, W]")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"ids run from {low} to {high}; a PNG holds 0 to 65535")
    if high > 255:
        return Image.fromarray(values.astype(np.uint16))
    picture = Image.fromarray(values.astype(np.uint8)).convert("L")
    picture.putpalette(list(palette) if palette is not None else davis_palette().ravel().tolist())
    return picture


def davis_palette() -> NDArray[np.uint8]:
    """Return the colours [256, 3] of DAVIS (and Pascal VOC) ids: each three bits of an id, lowest first, go to R, G, B."""
    bits = np.arange(256)[:, None] >> np.arange(9)[None] & 1  # [256, 9]
    strengths = np.array([128, 64, 32])
    colors: NDArray[np.uint8] = (bits.reshape(256, 3, 3) * strengths[:, None]).sum(axis=1).astype(np.uint8)
    return colors


def resize_nearest(values: Tensor, size: tuple[int, int], pixel: NearestPixel = "center") -> Tensor:
    """Resize values [..., H, W], taking each from the pixel under its centre (PIL) or its top left corner (OpenCV)."""
    rows, columns = (
        nearest_pixels(num, num_pixels, pixel).to(values.device)
        for num, num_pixels in zip(size, values.shape[-2:], strict=True)
    )
    return values[..., rows[:, None], columns]


def nearest_pixels(num: int, num_pixels: int, pixel: NearestPixel) -> Tensor:
    """Find which of `num_pixels` lies under the centre, or first corner, of each of `num` equal shares, in exact arithmetic."""
    shares = torch.arange(num, device="cpu")
    if pixel == "corner":
        return shares * num_pixels // num
    return (2 * shares + 1) * num_pixels // (2 * num)


def write_mask(path: PathLike, ids: NDArray[Any] | Tensor, palette: Sequence[int] | None = None) -> None:
    """Write ids [H, W] as an indexed PNG with `palette` (DAVIS's if None); see `siammae.labels.to_image`."""
    image = to_image(ids.detach().cpu().numpy() if isinstance(ids, Tensor) else ids, palette)
    with atomic(path) as draft:
        image.save(draft, format="PNG")
