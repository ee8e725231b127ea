"""Distorted copies of a data set in DAVIS's layout, made to measure how scores depend on the quality of a video."""

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from siammae.evaluation.datasets.sequences import MaskSequence
from siammae.files import atomic_folder
from siammae.video.pictures import encode_picture, read_image

Random = np.random.Generator
BLUR = 2.5  # deviation in pixels, at a shorter side of 480
NOISE = 20.0  # deviation in levels of 255
JPEG = 8  # quality
EXPOSURE = 0.45, 10  # factor of the dark stretches, and their length in frames
DROPPED = 0.3  # share of frames
QUALITY = 95  # of the frames that are written


@dataclass(frozen=True)
class Distortion:
    """One way in which a video gets worse.

    Attributes:
        name: its name, and that of its folder.
        text: what it does, in a few words.
        frames: function from the number of frames and a generator to the numbers of the frames that are kept, in order; the
            first is 0, and a number may come twice.
        change: function from a picture, its place in the video and a generator to the distorted picture; None keeps it.
    """

    name: str
    text: str
    frames: Callable[[int, Random], Sequence[int]] = lambda num, random: range(num)
    change: Callable[[Image.Image, int, Random], Image.Image] | None = None


def _drop(num: int, random: Random) -> list[int]:
    """Leave out 3 of 10 frames, but neither the first nor the last."""
    inner = 1 + random.permutation(num - 2)
    dropped = set(inner[: int(DROPPED * num)].tolist())
    return [index for index in range(num) if index not in dropped]


def _blur(picture: Image.Image, index: int, random: Random) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(BLUR * min(picture.size) / 480))


def _noise(picture: Image.Image, index: int, random: Random) -> Image.Image:
    levels: NDArray[np.float64] = np.asarray(picture) + random.normal(0, NOISE, (picture.height, picture.width, 3))
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def _compress(picture: Image.Image, index: int, random: Random) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG)
    return read_image(stream, "a compressed frame").convert("RGB")


def _expose(picture: Image.Image, index: int, random: Random) -> Image.Image:
    factor, length = EXPOSURE
    if index // length % 2 == 0:
        return picture
    return Image.fromarray((np.asarray(picture) * factor).round().astype(np.uint8))


DISTORTIONS = (
    Distortion("dropped", "3 of 10 frames are missing", _drop),
    Distortion("blur", f"Gaussian blur of {BLUR:g} pixels at a shorter side of 480", change=_blur),
    Distortion("noise", f"Gaussian noise of {NOISE:g} levels of 255", change=_noise),
    Distortion("jpeg", f"JPEG of quality {JPEG}", change=_compress),
    Distortion("exposure", f"every second stretch of {EXPOSURE[1]} frames at {EXPOSURE[0]:g} of the light", change=_expose),
    Distortion("half-speed", "every frame twice", lambda num, random: [index // 2 for index in range(2 * num)]),
    Distortion("double-speed", "every second frame", lambda num, random: range(0, num, 2)),
)


def write_distorted(sequences: Sequence[MaskSequence], distortion: Distortion, root: Path) -> dict[str, list[int]]:
    """Write distorted sequences in DAVIS's layout, and return for each the original number of each of its frames.

    The same sequences give the same files: noise and choice depend on the name of the sequence alone. Frames that only move in
    time are copied as they are. A sequence that is complete already is not written again.
    """
    order = {}
    for sequence in sequences:
        random = np.random.default_rng(zlib.crc32(f"{distortion.name} {sequence.name}".encode()))
        numbers = list(distortion.frames(len(sequence.frames), random))
        order[sequence.name] = numbers
        masks = root / "Annotations" / "480p" / sequence.name
        frames = root / "JPEGImages" / "480p" / sequence.name
        for folder, originals in ((masks, sequence.annotations), (frames, sequence.frames)):
            if folder.is_dir():
                continue
            with atomic_folder(folder) as draft:
                for place, number in enumerate(numbers):
                    source = originals[number]
                    target = draft / f"{place:05d}{source.suffix.lower()}"
                    if folder == masks or distortion.change is None:
                        target.write_bytes(source.read_bytes())
                    else:
                        picture = distortion.change(read_image(source).convert("RGB"), place, random)
                        content = encode_picture(picture, ".jpg", quality=QUALITY, subsampling=0)
                        target.with_suffix(".jpg").write_bytes(content)
    return order
