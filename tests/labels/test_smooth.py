"""Masks with smooth edges are known from masks of many or small objects."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from siammae import LabelPropagator
from siammae.encoder import Encoder
from siammae.labels import as_mask
from siammae.labels.smooth import shades
from siammae.synthetic import render_clip

Ids = NDArray[np.uint8]
Saved = Callable[[Image.Image, Path], Path]


def two_objects(kind: int) -> Image.Image:
    image = Image.new("L", (160, 120))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 80, 90), fill=kind)
    draw.polygon([(90, 30), (150, 50), (100, 110)], fill=kind // 2)
    return image


def as_jpeg(quality: int) -> Saved:
    def save(image: Image.Image, folder: Path) -> Path:
        image.save(folder / "mask.jpg", quality=quality)
        return folder / "mask.jpg"

    return save


def jpeg_as_png(image: Image.Image, folder: Path) -> Path:
    Image.open(as_jpeg(80)(image, folder)).save(folder / "mask.png")
    return folder / "mask.png"


def resized(image: Image.Image, folder: Path) -> Path:
    image.resize((320, 240), Image.Resampling.BILINEAR).resize((160, 120)).save(folder / "mask.png")
    return folder / "mask.png"


def blurred(image: Image.Image, folder: Path) -> Path:
    image.filter(ImageFilter.GaussianBlur(1)).save(folder / "mask.png")
    return folder / "mask.png"


@pytest.mark.parametrize(
    "save", [as_jpeg(75), as_jpeg(95), jpeg_as_png, resized, blurred], ids=["75", "95", "png", "size", "blur"]
)
@pytest.mark.parametrize("kind", [255, 128])
def test_smooth_edges_are_named_as_the_cause(tmp_path: Path, encoder: Encoder, save: Saved, kind: int) -> None:
    path = save(two_objects(kind), tmp_path)
    frame = np.zeros((120, 160, 3), np.uint8)
    for mask in (path, Image.open(path), as_mask(path).values):
        with pytest.raises(
            ValueError, match=r"the mask has smooth edges: .*ids \((\d+, ){5}\.\.\.\) .*as JPEG, resizing.*Save it as PNG"
        ):
            LabelPropagator(frame, mask, encoder, size=48)
    propagator = LabelPropagator(frame, np.array(two_objects(kind)), encoder, size=48)
    with pytest.raises(ValueError, match="the mask has smooth edges"):
        propagator.add(frame, path)
    assert propagator.ids == [0, kind // 2, kind]


def insects() -> Ids:
    ids = np.zeros((60, 80), np.uint8)
    for index in range(1, 40):
        row, column = divmod(index, 8)
        ids[10 * row + 5 : 10 * row + 7, 10 * column + 5 : 10 * column + 7] = index
    return ids


def outlined() -> Ids:
    ids = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((20, 20), np.uint8))
    ids[19::20] = ids[:, 19::20] = 255
    return ids


@pytest.mark.parametrize(
    "ids",
    [
        insects(),
        outlined(),
        render_clip(1, (96, 160), num_objects=6).masks[0],
        np.kron(np.random.default_rng(0).integers(0, 200, (8, 8), dtype=np.uint8), np.ones((3, 3), np.uint8)),
        np.array(two_objects(255)),
        np.arange(4, dtype=np.uint8).reshape(2, 2),
    ],
    ids=["insects", "outlines of void", "animals", "patchwork", "two objects", "tiny"],
)
def test_other_masks_have_no_shades(ids: Ids) -> None:
    assert shades(ids) == []
