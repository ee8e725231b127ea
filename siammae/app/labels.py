"""The labels that a person makes: masks, points, prompts and names of objects, with unlimited undo and redo."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siammae.files import atomic, remove_drafts
from siammae.labels.masks import as_mask, write_mask
from siammae.video.pictures import read_image

Ids = NDArray[np.uint8]
Kind = Literal["mask", "points", "prompts", "objects", "trim"]
Key = tuple[Kind, int]
Change = dict[Key, tuple[Any, Any]]  # the value before, the value after; None where there is none

MAX_OBJECTS = 64
MAX_POINTS = 64


class Labels:
    """A store of values by kind and frame, in a folder; each change can be undone.

    The values are: "mask", ids [H, W] packed by `pack`; "points", {number: (x, y)}; "prompts", {id of an object: its Prompt};
    and of frame 0 "objects", {id: name}, and "trim", {0: first frame, 1: last frame + 1, 2: step}. A value is replaced, never
    changed.

    Attributes:
        folder: folder that keeps the values: masks as anchors/00012.png, the others in labels.json.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._values: dict[Key, Any] = {("objects", 0): {1: "Object 1"}}
        self._undo: list[Change] = []
        self._redo: list[Change] = []
        (folder / "anchors").mkdir(exist_ok=True)
        remove_drafts(folder / "anchors")
        self._read()

    def _read(self) -> None:
        for path in (self.folder / "anchors").glob("[0-9]*.png"):
            self._values["mask", int(path.stem)] = pack(as_mask(path, empty=True).values.astype(np.uint8))
        if (path := self.folder / "labels.json").exists():
            for kind, frames in json.loads(path.read_text()).items():
                for frame, value in frames.items():
                    self._values[kind, int(frame)] = {int(number): entry for number, entry in value.items()}

    def get(self, kind: Kind, frame: int) -> Any:
        """Return a value, or None where there is none."""
        return self._values.get((kind, frame))

    def frames(self, kind: Kind) -> list[int]:
        """List the frames that have a value of a kind, ascending."""
        return sorted(frame for name, frame in self._values if name == kind)

    def mask(self, frame: int) -> Ids | None:
        """Return a copy of the ids [H, W] of an anchor, or None."""
        packed = self.get("mask", frame)
        return None if packed is None else unpack(packed)

    @property
    def objects(self) -> dict[int, str]:
        return dict(self._values["objects", 0])

    @property
    def undoable(self) -> int:
        return len(self._undo)

    @property
    def redoable(self) -> int:
        return len(self._redo)

    def change(self, values: Mapping[Key, Any]) -> Change:
        """Set values, or remove them where None; what does not differ from before is left out of the returned change."""
        change = {key: (self._values.get(key), value) for key, value in values.items() if self._values.get(key) != value}
        if change:
            self._apply({key: after for key, (_, after) in change.items()})
            self._undo.append(change)
            self._redo.clear()
        return change

    def undo(self) -> Change:
        """Take back the last change; returns what changed now, nothing where there is nothing to undo."""
        return self._move(self._undo, self._redo)

    def redo(self) -> Change:
        """Make the change that was taken back last; returns what changed now."""
        return self._move(self._redo, self._undo)

    def _move(self, source: list[Change], target: list[Change]) -> Change:
        if not source:
            return {}
        change = source[-1]
        turned = {key: (after, before) for key, (before, after) in change.items()}
        self._apply({key: after for key, (_, after) in turned.items()})
        target.append({key: (after, before) for key, (before, after) in source.pop().items()})
        return turned

    def _apply(self, values: Mapping[Key, Any]) -> None:
        for (kind, frame), value in values.items():
            if kind == "mask":
                path = self.folder / "anchors" / f"{frame:05d}.png"
                path.unlink(missing_ok=True) if value is None else write_mask(path, unpack(value))
            if value is None:
                self._values.pop((kind, frame), None)
            else:
                self._values[kind, frame] = value
        if any(kind != "mask" for kind, _ in values):
            self._write()

    def _write(self) -> None:
        kept: dict[str, dict[int, Any]] = {}
        for (kind, frame), value in self._values.items():
            if kind != "mask":
                kept.setdefault(kind, {})[frame] = value
        with atomic(self.folder / "labels.json") as draft:
            draft.write_text(json.dumps(kept))


def pack(ids: Ids) -> bytes:
    """Compress ids [H, W] without loss."""
    data = io.BytesIO()
    Image.fromarray(ids).save(data, "PNG", compress_level=1)
    return data.getvalue()


def unpack(packed: bytes) -> Ids:
    """Return the ids [H, W] that `pack` compressed."""
    return np.array(read_image(io.BytesIO(packed)))
