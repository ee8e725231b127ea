"""The masks of a whole video, read one at a time, with the names of its objects."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from siammae.errors import whole_number
from siammae.files import PathLike
from siammae.labels.masks import MaskLike, as_mask
from siammae.video.pictures import natural_order

SCORES_FILE = "scores.csv"  # what propagation writes beside the masks: frame, object, score, ...

Names: TypeAlias = Mapping[int, str] | str | None
Box: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class LabeledObject:
    """One object in one frame.

    Attributes:
        id: its id, the same in all frames.
        name: its name, which several objects may share.
        category: place of the name in `VideoMasks.categories`.
        mask: its pixels, bool [H, W]; at least one is True.
        box: (left, top, right, bottom) in pixels, the last two exclusive.
        score: confidence from 0 to 1, or None if none is known.
    """

    id: int
    name: str
    category: int
    mask: NDArray[np.bool_]
    box: Box
    score: float | None

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())


@dataclass(frozen=True)
class LabeledFrame:
    """One frame: its position from 0 on, its name without suffix, its ids [H, W], and its objects by ascending ids."""

    position: int
    name: str
    ids: NDArray[np.int64]
    objects: list[LabeledObject]


class VideoMasks:
    """The masks of a video; iterating yields a LabeledFrame for each. All masks are checked when this is made.

    Args:
        masks: folder of PNG masks, as `siammae propagate` writes it, whose scores are read too; or ids [T, H, W], or a list of
            masks that `siammae.labels.as_mask` takes, soft labels excluded.
        names: name of every object by its id, such as {1: "horse", 2: "dog"}; several objects may share a name, and ids that
            never occur may have one. A text names all objects. None names them "object 1", "object 2", ...
        void_id: id that means "unknown": its pixels belong to no object.
        title: name of the video, in the formats that have one.

    Attributes:
        folder: folder of the masks, or None.
        frames: name of each frame, without suffix: that of its mask's file, or its number in five digits.
        size: (H, W).
        ids: ids of the objects, ascending.
        names: name of each object, by its id.
        categories: the different names, in the order of the ids.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no masks, masks of different sizes or no masks of ids, ids below 0, no object at all, an object without a
            name, or scores of another number of frames.
    """

    def __init__(
        self,
        masks: PathLike | Sequence[MaskLike] | Any,
        names: Names = None,
        *,
        void_id: int | None = None,
        title: str = "video",
    ) -> None:
        self._masks, self.frames, self._label = _sources(masks)
        self.folder = Path(masks) if isinstance(masks, str | os.PathLike) else None
        self.title = title
        self._void_id = whole_number(void_id, "void_id", "an id, a whole number, or None")
        occurring: set[int] = set()
        self.size = self._read(0).shape
        for position in range(len(self.frames)):
            ids = self._read(position)
            if ids.shape != self.size:
                sizes = [f"{height} x {width}" for height, width in (ids.shape, self.size)]
                raise ValueError(
                    f"{self._label}: the mask of frame {self.frames[position]} is {sizes[0]} pixels, those before it are "
                    f"{sizes[1]} (height x width); all masks of a video must have one size"
                )
            occurring.update(np.unique(ids).tolist())
        self.ids = sorted(occurring - {0})
        if not self.ids:
            raise ValueError(f"{self._label} holds no object: every pixel of every mask is background (0)")
        self.names = name_objects(names, self.ids)
        self.categories = list(dict.fromkeys(self.names[label] for label in sorted(self.names)))
        self._scores = self._read_scores()

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[LabeledFrame]:
        return map(self.at, range(len(self)))

    def _object(self, position: int, label: int, mask: NDArray[np.bool_], box: Box) -> LabeledObject:
        name = self.names[label]
        return LabeledObject(label, name, self.categories.index(name), mask, box, self._scores.get((position, label)))

    def at(self, position: int) -> LabeledFrame:
        """Return the frame at a position."""
        ids = self._read(position)
        return LabeledFrame(
            position, self.frames[position], ids, [self._object(position, *found) for found in find_objects(ids)]
        )

    def _read(self, position: int) -> NDArray[np.int64]:
        return read_ids(self._masks[position], f"{self._label}: the mask of frame {self.frames[position]}", self._void_id)

    def _read_scores(self) -> dict[tuple[int, int], float]:
        """Read the scores of the objects, by position and id, if the folder holds their table."""
        if self.folder is None or not (self.folder / SCORES_FILE).is_file():
            return {}
        path = self.folder / SCORES_FILE
        with path.open(newline="") as file:
            try:
                rows = [(int(row["frame"]), int(row["object"]), float(row["score"])) for row in csv.DictReader(file)]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} is no table of scores, or is damaged: {error}; remove it to do without") from error
        numbers = sorted({number for number, _, _ in rows})
        if len(numbers) != len(self.frames):
            raise ValueError(
                f"{path} has scores of {len(numbers)} frames, but there are {len(self.frames)} masks beside it; put the "
                "missing ones back, or remove the table to do without scores"
            )
        positions = {number: position for position, number in enumerate(numbers)}
        return {(positions[number], label): score for number, label, score in rows}


def _sources(masks: Any) -> tuple[Sequence[MaskLike], list[str], str]:
    """Return the masks, the names of their frames, and what to call them in messages."""
    if isinstance(masks, str | os.PathLike):
        folder = Path(masks)
        if not folder.is_dir():
            raise FileNotFoundError(f"no such folder of masks: {folder}; expected a folder that siammae propagate wrote")
        paths = sorted((path for path in folder.glob("*.png") if not path.name.startswith(".")), key=natural_order)
        if not paths:
            raise ValueError(f"{folder} holds no masks; expected one PNG for each frame, as siammae propagate writes them")
        return paths, [path.stem for path in paths], str(folder)
    if isinstance(masks, np.ndarray | torch.Tensor) and masks.ndim != 3:
        raise ValueError(f"masks have shape {list(masks.shape)}; expected ids [T, H, W]")
    if not isinstance(masks, np.ndarray | torch.Tensor | Sequence):
        raise ValueError(f"masks are a {type(masks).__name__}; expected a folder, ids [T, H, W] or a list of masks")
    if not len(masks):
        raise ValueError("there are no masks; expected one for each frame")
    return list(masks), [f"{position:05d}" for position in range(len(masks))], "the masks"


def read_ids(mask: MaskLike, label: str, void_id: int | None) -> NDArray[np.int64]:
    """Read the ids [H, W] of a mask, in any form; the void becomes background.

    Raises:
        ValueError: soft labels, or ids below 0; `label` names the mask.
    """
    parsed = as_mask(mask, empty=True)
    if parsed.soft:
        raise ValueError(f"{label} holds soft labels; expected ids [H, W]: propagate a mask of ids")
    low, high = int(parsed.values.min(initial=0)), int(parsed.values.max(initial=0))
    if low < 0 or high > np.iinfo(np.int64).max:
        raise ValueError(f"{label} holds ids from {low} to {high}; expected 0 for the background, and ids above it")
    ids = parsed.values.astype(np.int64)
    return ids if void_id is None else np.where(ids == void_id, 0, ids)


def find_objects(ids: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.bool_], Box]]:
    """Yield the id, the pixels [H, W] and the box of each object among ids [H, W], by ascending ids."""
    for label in np.unique(ids[ids != 0]).tolist():
        mask: NDArray[np.bool_] = ids == label
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        yield label, mask, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def name_objects(names: Names, ids: Sequence[int]) -> dict[int, str]:
    """Return the name of every id; ValueError for an id without one, or a name that files cannot hold."""
    if names is None:
        return {label: f"object {label}" for label in ids}
    given = dict.fromkeys(ids, names) if isinstance(names, str) else dict(names)
    for label, name in given.items():
        if isinstance(label, bool) or not isinstance(label, Integral) or label < 1:
            raise ValueError(f"names has the id {label!r}; expected the id of an object, a whole number above 0")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ValueError(f"object {label} is called {name!r}; expected a name of one line")
    if missing := [label for label in ids if label not in given]:
        remedy = ", ".join(f'{label}: "NAME"' for label in missing[:3])
        raise ValueError(f"objects {missing} have no name; give one to every object: {remedy}")
    return {int(label): name for label, name in given.items()}
