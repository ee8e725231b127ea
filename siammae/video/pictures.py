"""Single frames, read from paths, PIL images, arrays and tensors, and written as pictures."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from siammae.errors import VideoError
from siammae.files import PathLike, atomic
from siammae.video.limits import check_pixels, check_regular

ROUNDING = 1e-6  # what floats in [0, 1] may exceed it by
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def images_in(folder: Path) -> list[Path]:
    """List the pictures of a folder, without hidden files, in the natural order of their names."""
    images = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."))
    return sorted(images, key=natural_order)


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts frame9 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def as_frame(item: Any, label: str = "the frame") -> Tensor:
    """Return one frame [3, H, W], uint8 or float in [0, 1], from a path, a PIL image, an array [H, W, 3] or a tensor [3, H, W].

    `label` names the frame in errors: ValueError for another shape, type or range; VideoError or FileNotFoundError for a path.
    """
    if isinstance(item, str | os.PathLike):
        item = read_image(item)
    if isinstance(item, Image.Image):
        if item.mode.startswith(("I", "F")):
            raise ValueError(f"{label} is a picture of mode {item.mode}, more than 8 bits a colour; convert it to RGB first")
        check_pixels(item.width, item.height, label)
        with _decoding(label):
            picture = item.convert("RGBA") if item.mode == "P" else item  # Pillow warns of transparent colours otherwise
            pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    if isinstance(item, np.ndarray):
        _check_shape(item.shape, 2, label)
        if item.dtype.kind not in "iuf":
            raise ValueError(f"{label} holds {item.dtype}; expected uint8 in 0..255 or float in [0, 1]")
        tensor = torch.from_numpy(np.array(item, order="C")).permute(2, 0, 1)
    elif isinstance(item, Tensor):
        _check_shape(item.shape, 0, label)
        tensor = item
    else:
        raise ValueError(f"{label} is a {type(item).__name__}; expected a path, a PIL image, an array or a tensor")
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise ValueError(f"{label} holds {tensor.dtype}; expected uint8 in 0..255 or float in [0, 1]")
    tensor = tensor.float()
    low, high = (float(value) for value in tensor.detach().aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(f"{label} holds floats from {low:.9g} to {high:.9g}; expected [0, 1] (or uint8 in 0..255)")
    return tensor if low >= 0 and high <= 1 else tensor.clamp(0, 1)


def as_picture(item: Any, label: str = "the frame") -> NDArray[np.uint8]:
    """Return any frame that `as_frame` takes as an array [H, W, 3], uint8, for drawing and writing.

    Floats are rounded to the nearest of 256 levels. The array is contiguous and may share memory with a tensor that is given:
    copy it before you write into it. Errors as in `as_frame`; `label` names the frame in them.
    """
    frame = as_frame(item, label).detach()  # [3, H, W]
    if frame.is_floating_point():
        frame = (frame * 255).round().to(torch.uint8)
    return np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())


def _check_shape(shape: Sequence[int], channels: int, label: str) -> None:
    """Raise ValueError unless the axis `channels` of a frame's shape counts the three colours."""
    if len(shape) == 3 and min(shape) > 0 and shape[channels] == 3:
        return
    remedy = ""
    if len(shape) == 3 and shape[channels] == 4:
        remedy = "; drop the fourth channel (alpha), and keep the order R, G, B"
    elif len(shape) == 3 and shape[2 - channels] == 3:
        remedy = f"; move the channels: {'frame.transpose(1, 2, 0)' if channels == 2 else 'frame.permute(2, 0, 1)'}"
    raise ValueError(f"{label} has shape {list(shape)}; expected {'[H, W, 3]' if channels == 2 else '[3, H, W]'}, RGB{remedy}")


def read_image(source: str | os.PathLike[str] | BytesIO, label: str | None = None) -> Image.Image:
    """Read and decode a picture (the first page of a file); raises FileNotFoundError or VideoError."""
    if not isinstance(source, BytesIO):
        check_regular(source)
        label = label or os.fspath(source)
    label = label or "the picture"
    try:
        with _decoding(label), Image.open(source) as image:
            check_pixels(image.width, image.height, label)
            image.load()
            return image
    except FileNotFoundError:
        raise FileNotFoundError(f"no such picture: {label}") from None


@contextmanager
def _decoding(label: str) -> Iterator[None]:
    """Turn what Pillow raises, for damaged data any exception, into a VideoError."""
    try:
        yield
    except (VideoError, FileNotFoundError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise VideoError(
            f"{label} has more pixels than the limit: {error}; if you trust it, set PIL.Image.MAX_IMAGE_PIXELS higher"
        ) from error
    except Exception as error:
        raise VideoError(f"{label} cannot be read as a picture: {str(error) or type(error).__name__}") from error


def write_picture(path: PathLike, frame: Any) -> None:
    """Write any frame that `as_frame` takes as a picture, in the format that the suffix names."""
    with atomic(path) as draft:
        Image.fromarray(as_picture(frame)).save(draft)
