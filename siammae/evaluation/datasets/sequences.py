"""Sequences of a data set: what every reader finds and every prediction starts from. Whatever is missing is named at once."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.labels.masks import Mask, as_mask
from siammae.video.pictures import images_in

PathLike = str | os.PathLike[str]
SHOWN = 20  # names of missing files that a message lists


@dataclass(frozen=True)
class MaskSequence:
    """Frames whose first has a mask.

    Attributes:
        name: of the sequence, and of the folder of its predictions.
        frames: pictures, in order.
        annotations: masks, of the first frame and of those that are scored.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.frames, *self.annotations)


@dataclass(frozen=True)
class PointSequence:
    """Frames whose first has keypoints.

    Attributes:
        name: of the sequence, and of the file of its predictions.
        frames: pictures, in order.
        annotations: files that hold the keypoints, and whatever else scores depend on.
        points: (x, y) of K keypoints in each of T frames, [T, K, 2] float, pixels; NaN where one is not annotated. T may be
            less than the number of frames.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]
    points: NDArray[np.float64]

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.frames, *self.annotations)


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of files: of their folders' and own names and their bytes, in order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.parent.name}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def read_names(path: PathLike) -> list[str]:
    """Names of sequences from a text file, one in each line; of a path, such as DAVIS 2016 lists, its folder's name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no names in it.
    """
    lines = [line.split()[0] for line in Path(path).read_text().splitlines() if line.strip()]
    names = list(dict.fromkeys(Path(line).parent.name if "." in Path(line).name else Path(line).name for line in lines))
    if not names:
        raise ValueError(f"{os.fspath(path)} names no sequence; expected one in each line")
    return names


def wanted(sequences: Sequence[str] | None, split: PathLike | None) -> list[str]:
    """Names of the sequences that are asked for, by themselves and by a split's file; empty where nothing is."""
    return [*(sequences or ()), *(read_names(split) if split is not None else ())]


def pictures(folder: Path) -> dict[str, Path]:
    """The pictures of a folder, in order, by name without suffix; empty where there is no folder."""
    return {path.stem: path for path in images_in(folder)} if folder.is_dir() else {}


def check_complete(root: PathLike, missing: Sequence[str], expected: str) -> None:
    """FileNotFoundError where files or folders are missing: how many, which, and what was expected."""
    if missing:
        rest = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        names = f"{', '.join(missing[:SHOWN])}{rest}"
        raise FileNotFoundError(f"{os.fspath(root)} lacks {len(missing)} files or folders: {names}. Expected {expected}")


VOID = 255


def first_mask(path: PathLike) -> Mask:
    """The annotation that propagation starts from: void as background, DAVIS 2016's 255 as 1."""
    mask = as_mask(path)
    values = mask.values
    ids = (values > 0).astype(np.uint8) if is_binary(values) else np.where(values == VOID, 0, values)
    return Mask(ids, "numpy", np.uint8, mask.palette)


def is_binary(ids: NDArray[Any]) -> bool:
    """Whether an annotation is of 0 and 255 alone, as DAVIS 2016 stores them."""
    return set(np.unique(ids).tolist()) == {0, VOID}
