"""Mutated pictures as masks and frames."""

import sys
import warnings
from io import BytesIO
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL"]):
    import numpy as np
    from PIL import Image, ImageFile  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))
from harness import fuzz

from siammae.labels import as_mask
from siammae.video import as_frame

SUFFIXES = (".png", ".gif", ".tif", ".jpg", ".bmp", ".webp", ".ppm")


def seeds() -> dict[str, bytes]:
    ids = np.arange(35, dtype=np.uint8).reshape(5, 7) % 3
    found = {}
    for mode in ("1", "L", "P", "RGB", "CMYK", "I;16"):
        picture = Image.fromarray(ids.astype(np.uint16)) if mode == "I;16" else Image.fromarray(ids).convert(mode)
        for suffix in SUFFIXES:
            file = BytesIO()
            try:
                picture.save(file, format=Image.registered_extensions()[suffix])
            except (OSError, ValueError):
                continue  # this format has no such mode
            found[f"{mode.replace(';', '')}{suffix}"] = file.getvalue()
    return found


Image.MAX_IMAGE_PIXELS = 4096 * 2304  # at the usual limit, whole pictures of some kilobytes take longer than the time allowed


def read(path: Path) -> None:
    try:
        as_mask(path, empty=True)
    finally:
        as_frame(path)


warnings.simplefilter("ignore")
fuzz(read, seeds(), SUFFIXES)
