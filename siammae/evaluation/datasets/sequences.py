"""Sequences of a data set, and the steps that finding them shares: lists of names, pictures, checks, the first mask."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.labels.masks import Mask, as_mask
from siammae.video.pictures import images_in

PathLike = str | os.PathLike[str]
VOID = 255  # the id of pixels without a label
SHOWN = 20  # missing files that a message names


@dataclass(frozen=True)
class AnnotatedFrames:
    """Frames of a sequence and the files that annotate them.

    Attributes:
        name: name of the sequence, and of its predictions.
        frames: pictures, in order.
        annotations: masks of the first frame and of those that are scored; or the files that hold keypoints, and others on
            which their scores depend.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.frames, *self.annotations)

    @property
    def num_frames(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Appearance:
    """Objects that appear after the first frame: the `ids` in an annotation of the frame with number `frame`."""

    frame: int
    annotation: Path
    ids: tuple[int, ...]


@dataclass(frozen=True)
class MaskSequence(AnnotatedFrames):
    """Frames whose first one has a mask.

    Attributes:
        later: objects that are given in a later frame, in order.
    """

    later: tuple[Appearance, ...] = ()


@dataclass(frozen=True)
class PointSequence(AnnotatedFrames):
    """Frames whose first one has keypoints.

    Attributes:
        points: (x, y) of K keypoints in each of T frames, [T, K, 2] float, pixels; NaN where a keypoint is not annotated. T
            may be less than the number of frames.
    """

    points: NDArray[np.float64]


@dataclass(frozen=True)
class TrackSequence(AnnotatedFrames):
    """A video of TAP-Vid, whose frames and annotations are in a pickle; K queries ask for points of its N tracks.

    Attributes:
        key: name or number of the video in the pickle.
        all_tracks: (x, y) of N points in each of T frames, [N, T, 2], pixels of a picture of 256 x 256.
        all_occluded: True where a point is hidden, [N, T].
        rows: for each query its track, [K].
        query_frames: for each query the frame in which the point is given, [K].
        backwards: frames before a query's count too.
    """

    key: str | int
    all_tracks: NDArray[np.float64]
    all_occluded: NDArray[np.bool_]
    rows: NDArray[np.intp]
    query_frames: NDArray[np.intp]
    backwards: bool

    @property
    def num_frames(self) -> int:
        return int(self.all_tracks.shape[1])

    @property
    def tracks(self) -> NDArray[np.float64]:
        """Positions of the queried points, [K, T, 2]."""
        return self.all_tracks[self.rows]

    @property
    def occluded(self) -> NDArray[np.bool_]:
        """True where a queried point is hidden, [K, T]."""
        hidden: NDArray[np.bool_] = np.asarray(self.all_occluded[self.rows])
        return hidden

    @property
    def points(self) -> NDArray[np.float64]:
        """Positions of the queried points where they are visible, else NaN, [T, K, 2], as those of a PointSequence."""
        return np.where(self.occluded[..., None], np.nan, self.tracks).swapaxes(0, 1)


def digest(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of files: of their folders' names, their own names and their bytes, in order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.parent.name}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def read_names(path: PathLike) -> list[str]:
    """Read names of sequences from a text file, one in each line; a path, as in DAVIS 2016's lists, stands for its folder.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no names in it.
    """
    lines = [line.split()[0] for line in Path(path).read_text().splitlines() if line.strip()]
    names = list(dict.fromkeys(Path(line).parent.name if "." in Path(line).name else Path(line).name for line in lines))
    if not names:
        raise ValueError(f"{os.fspath(path)} names no sequence; expected one in each line")
    return names


def pictures(folder: Path) -> dict[str, Path]:
    """List the pictures of a folder, in order, by name without suffix; empty if there is no folder."""
    return {path.stem: path for path in images_in(folder)} if folder.is_dir() else {}


def check_complete(root: PathLike, missing: Sequence[str], expected: str) -> None:
    """Raise FileNotFoundError if files or folders are missing; it says how many, which, and what was expected."""
    if missing:
        lacks = f"lacks {len(missing)} files or folders: {shortened(missing)}"
        raise FileNotFoundError(f"{os.fspath(root)} {lacks}. Expected {expected}")


def shortened(names: Sequence[str]) -> str:
    """List names for a message: the first ones, and the number of the others."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{rest}"


def outside_frame(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark points [..., 2], (x, y), outside a frame of `size` (H, W), [...]; a NaN is not outside."""
    height, width = size
    beyond = (points < -0.5) | (points > np.array([width, height]) - 0.5)
    outside: NDArray[np.bool_] = np.asarray(beyond.any(axis=-1))
    return outside


def check_predictions(
    folder: Path, wanted: Mapping[str, Sequence[Path]], known: Mapping[str, Sequence[Path]], expected: str
) -> None:
    """Check that a folder holds a mask for each annotation in `wanted`, and none but for the frames in `known`, by sequence.

    Raises:
        FileNotFoundError: masks that are missing, all of them named.
        ValueError: masks of frames that the data set does not have, all of them named.
    """
    missing = [
        f"{name}/{path.stem}.png"
        for name, paths in wanted.items()
        for path in paths
        if not (folder / name / f"{path.stem}.png").is_file()
    ]
    check_complete(folder, missing, expected)
    extra = []
    for name, paths in known.items():
        stems = {path.stem for path in paths}
        extra += [f"{name}/{path.name}" for path in sorted((folder / name).glob("*.png")) if path.stem not in stems]
    if extra:
        raise ValueError(f"{folder} has masks of {len(extra)} frames that the data set lacks: {shortened(extra)}")


def first_mask(path: PathLike) -> Mask:
    """Read the mask that propagation starts from: void becomes background, DAVIS 2016's 255 becomes 1."""
    mask = as_mask(path)
    values = mask.values
    ids = (values > 0).astype(np.uint8) if is_binary(values) else np.where(values == VOID, 0, values)
    return Mask(ids, "numpy", np.uint8, mask.palette)


def is_binary(ids: NDArray[Any]) -> bool:
    """Check whether an annotation holds 0 and 255 alone, as DAVIS 2016 stores them."""
    return set(np.unique(ids).tolist()) == {0, VOID}
