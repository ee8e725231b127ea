"""Single frames, read from paths, PIL images, arrays and tensors, and written as pictures."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from siammae.errors import VideoError
from siammae.files import PathLike, atomic, check_output
from siammae.video.limits import check_pixels, check_regular, local_path

ROUNDING = 1e-6  # what floats in [0, 1] may exceed it by
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # the only ones of Pillow's that are read
VALUES = "uint8 in 0..255, uint16, or float in [0, 1]"
SUBFILE, NO_FRAME = 254, 1 | 4  # TIFF's tag of what a page is: 1 a smaller copy, 4 a mask
SIXTEEN_BITS = ("PNG", "PPM")  # formats whose grey pictures of mode I hold 16 bits


def images_in(folder: Path) -> list[Path]:
    """List the pictures of a folder, without hidden files, in the natural order of their names."""
    images = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."))
    return sorted(images, key=natural_order)


def natural_order(path: Path) -> list[list[tuple[int, str]]]:
    """Return a sort key that puts frame9 before frame10, and all files of a folder before those of the next one."""
    return [
        [(int(digits), "") if digits.isdecimal() else (-1, digits) for digits in re.split(r"(\d+)", name)]
        for name in path.parts
    ]


def as_frame(item: Any, label: str = "the frame") -> Tensor:
    """Return one frame [3, H, W], uint8 or float in [0, 1], as a copy.

    Args:
        item: a path; a PIL image; an array [H, W, 3], or grey [H, W] or [H, W, 1]; a tensor [3, H, W], or grey [H, W] or
            [1, H, W]. Arrays and tensors hold uint8, uint16 or floats in [0, 1]; of uint16, and of pictures of 16 bits, the
            upper 8 bits are taken.
        label: name of the frame in errors.

    Raises:
        ValueError: another shape, type or range.
        FileNotFoundError, VideoError: the file is missing, or not a picture.
    """
    if isinstance(item, str | os.PathLike):
        item = read_image(item)
    if isinstance(item, Image.Image):
        item = _picture_values(item, label)
    if isinstance(item, np.ndarray):
        _check_shape(item.shape, 2, label)
        if item.dtype.kind not in "iuf":
            raise ValueError(f"{label} holds {item.dtype}; expected {VALUES}")
        values = _upper_bits(item)
        values = np.array(values, dtype=values.dtype.newbyteorder("="), order="C")
        tensor = torch.from_numpy(values)
        tensor = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    elif isinstance(item, Tensor):
        _check_shape(item.shape, 0, label)
        deep = item.dtype == torch.uint16
        tensor = (item.detach().to(torch.int32) >> 8).to(torch.uint8) if deep else item.detach().clone()
        tensor = tensor[None] if tensor.ndim == 2 else tensor
    else:
        raise ValueError(f"{label} is a {type(item).__name__}; expected a path, a PIL image, an array or a tensor")
    if len(tensor) == 1:
        tensor = tensor.repeat(3, 1, 1)
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise ValueError(f"{label} holds {tensor.dtype}; expected {VALUES}")
    tensor = tensor.float()
    check_range(tensor, label)
    return tensor.clamp(0, 1)


def check_range(frame: Tensor, label: str = "the frame") -> None:
    """Raise ValueError, with what to do, for floats outside [0, 1] by more than rounding."""
    low, high = (float(value) for value in frame.detach().aminmax())
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return
    if not (math.isfinite(low) and math.isfinite(high)):
        remedy = "replace what is not finite"
    elif low < 0:
        remedy = "pass the frames as they were before they were normalised, which the model does itself"
    else:
        remedy = "divide them by the largest value that they can have, such as 255"
    raise ValueError(f"{label} holds floats from {low:.8g} to {high:.8g}; expected [0, 1] (or uint8 in 0..255): {remedy}")


def _upper_bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return the upper 8 bits of values of 16 bits, and others as they are."""
    return (values >> 8).astype(np.uint8) if values.dtype.kind == "u" and values.dtype.itemsize == 2 else values


def _picture_values(picture: Image.Image, label: str) -> NDArray[Any]:
    """Return the upright pixels of a picture: colours uint8 [H, W, 3], deep grey uint16 or float32 [H, W]."""
    check_pixels(picture.width, picture.height, label)
    with _decoding(label):
        deep = picture.mode.startswith(("I", "F"))
        plain = picture.convert("RGBA") if picture.mode == "P" else picture  # Pillow warns of transparent colours otherwise
        values = np.asarray(upright(plain) if deep else upright(plain).convert("RGB"))
    if picture.mode == "I":
        if picture.format not in SIXTEEN_BITS or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"{label} is a grey picture of 32 bits; expected 8 or 16 bits, or floats in [0, 1]")
        values = values.astype(np.uint16)
    return values


def as_picture(item: Any, label: str = "the frame") -> NDArray[np.uint8]:
    """Return any frame that `as_frame` takes as an array [H, W, 3], uint8, for drawing and writing.

    Floats are rounded to the nearest of 256 levels. The array is contiguous and a copy. Errors as in `as_frame`; `label` names
    the frame in them.
    """
    frame = as_frame(item, label)  # [3, H, W]
    if frame.is_floating_point():
        frame = (frame * 255).round().to(torch.uint8)
    return np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())


def _check_shape(shape: Sequence[int], channels: int, label: str) -> None:
    """Raise ValueError unless a frame has two axes, or its axis `channels` counts three colours or one grey value."""
    if len(shape) in (2, 3) and min(shape) > 0 and (len(shape) == 2 or shape[channels] in (1, 3)):
        return
    remedy = f", or grey {'[H, W], [H, W, 1]' if channels == 2 else '[H, W], [1, H, W]'}"
    if len(shape) == 3 and shape[channels] == 4:
        remedy = "; drop the fourth channel (alpha), and keep the order R, G, B"
    elif len(shape) == 3 and shape[2 - channels] == 3:
        remedy = f"; move the channels: {'frame.transpose(1, 2, 0)' if channels == 2 else 'frame.permute(2, 0, 1)'}"
    raise ValueError(f"{label} has shape {list(shape)}; expected {'[H, W, 3]' if channels == 2 else '[3, H, W]'}, RGB{remedy}")


def read_image(source: str | os.PathLike[str] | BytesIO, label: str | None = None) -> Image.Image:
    """Read and decode a picture, upright as its EXIF orientation says.

    Raises:
        FileNotFoundError: no such file.
        VideoError: it is no picture, is damaged, or holds several frames.
    """
    label = label or ("the picture" if isinstance(source, BytesIO) else os.fspath(source))
    with open_picture(source, label) as image:
        first = next(frame_pages(image), 0)
        if len(list(islice(frame_pages(image), 2))) > 1:
            raise VideoError(f"{label} holds several frames; expected one picture (read_frames reads them from its path)")
        image.seek(first)
        image.load()
        with suppress(Exception):  # Pillow raises many kinds for damaged EXIF data, without which a picture is as it is
            ImageOps.exif_transpose(image, in_place=True)
        return image


@contextmanager
def open_picture(source: str | os.PathLike[str] | BytesIO, label: str) -> Iterator[ImageFile.ImageFile]:
    """Open a picture file with Pillow; errors as in `read_image`, also those of the block."""
    if not isinstance(source, BytesIO):
        source = local_path(source)
        check_regular(source)
    try:
        # as a file and not by its name, by which Pillow maps TIFF files into memory and mistakes the shape of turned ones
        with _decoding(label), _file(source) as file, Image.open(file, formats=FORMATS) as image:
            check_pixels(image.width, image.height, label)
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"no such picture: {label}") from None


def _file(source: str | BytesIO) -> Any:
    return nullcontext(source) if isinstance(source, BytesIO) else open(source, "rb")


def frame_pages(image: ImageFile.ImageFile) -> Iterator[int]:
    """Turn an open picture file to each of its pages that are frames, and yield their numbers.

    Smaller copies and masks in TIFF files are none, nor the still picture of an animated PNG, nor what phones store behind a
    photo (MPO).
    """
    for page in count(1 if getattr(image, "default_image", False) else 0):
        try:
            image.seek(page)
        except EOFError:
            return
        if not (isinstance(image, TiffImageFile) and image.tag_v2.get(SUBFILE, 0) & NO_FRAME):
            yield page
        if image.format == "MPO":
            return


def upright(picture: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF orientation says; damaged EXIF data is ignored."""
    with suppress(Exception):
        return ImageOps.exif_transpose(picture)
    return picture


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
    except UnidentifiedImageError as error:
        raise VideoError(f"{label} cannot be read as a picture: it is none of {', '.join(FORMATS)}") from error
    except Exception as error:
        raise VideoError(f"{label} cannot be read as a picture: {str(error) or type(error).__name__}") from error


def write_picture(path: PathLike, frame: Any) -> None:
    """Write any frame that `as_frame` takes as a picture, in the format that the suffix names.

    Raises:
        ValueError: another suffix, and what `as_frame` raises.
        FileNotFoundError: the folder of `path` does not exist.
    """
    suffix = check_output(path, IMAGE_SUFFIXES | {".gif"})
    content = encode_picture(Image.fromarray(as_picture(frame)), suffix)
    with atomic(path) as draft:
        draft.write_bytes(content)


def encode_picture(picture: Image.Image, suffix: str, **options: Any) -> bytes:
    """Return a picture file of the format that a suffix names; what Pillow writes to a full disk itself may end in silence."""
    encoded = BytesIO()
    picture.save(encoded, format=Image.registered_extensions()[suffix], **options)
    return encoded.getvalue()
