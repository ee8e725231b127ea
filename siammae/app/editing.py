"""Changes of a project's labels by a person: drawing, points, names of objects, the choice of frames, undo and redo.

Letters: H x W pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from siammae.app.drawing import Shape, check_path, draw_shape
from siammae.app.labels import MAX_OBJECTS, MAX_POINTS, Change, Ids, Key, pack
from siammae.app.project import Project


class Editing(Project):
    """A project whose labels can be changed. A change becomes one step of undo, and is returned."""

    def draw(self, index: int, shape: Shape, path: Sequence[Sequence[float]], number: int, width: float) -> Change:
        """Draw an object on a frame, which makes it an anchor; strokes change its propagated mask, if it has one.

        Args:
            index: number of the frame.
            shape, path, width: see `draw_shape`.
            number: id of the object; a new one is added.
        """
        with self._open():
            self._check_number(number, MAX_OBJECTS, "object")
            return self._set_mask(index, draw_shape(self.mask(index), shape, path, number, width))

    def set_mask(self, index: int, ids: Ids) -> Change:
        """Make ids [H, W] the labels of a frame."""
        with self._open():
            self._check_index(index)
            if ids.shape != self.frame_size:
                (height, width), (frame_height, frame_width) = ids.shape, self.frame_size
                raise ValueError(f"the mask is {width} x {height} pixels; the frames are {frame_width} x {frame_height}")
            if outside := [number for number in np.unique(ids).tolist() if not 0 <= number <= MAX_OBJECTS]:
                raise ValueError(f"the mask holds the id {outside[-1]}; the app takes ids from 0 to {MAX_OBJECTS}")
            return self._set_mask(index, ids.astype(np.uint8))

    def _set_mask(self, index: int, ids: Ids, prompts: dict[int, Any] | None = None) -> Change:
        """Make ids [H, W] the labels of a frame; prompts that did not lead to them are dropped."""
        objects = self.labels.objects
        for number in np.unique(ids[ids > 0]).tolist():
            objects.setdefault(number, f"Object {number}")
        return self._change({("mask", index): pack(ids), ("objects", 0): objects, ("prompts", index): prompts})

    def place_point(self, index: int, number: int, place: Sequence[float] | None) -> Change:
        """Set point `number` of a frame to (x, y), which makes the frame an anchor, or remove it there if None."""
        with self._open():
            self._check_index(index)
            self._check_number(number, MAX_POINTS, "point")
            given = {i + 1: (float(x), float(y)) for i, (x, y) in enumerate(self.points(index)) if np.isfinite(x + y)}
            if place is None:
                given.pop(number, None)
            else:
                x, y = check_path([place], self.frame_size)[0].tolist()
                given[number] = (x, y)
            return self._change({("points", index): dict(sorted(given.items())) or None})

    def discard(self, index: int) -> Change:
        """Remove the hand-made labels of a frame."""
        with self._open():
            self._check_index(index)
            return self._change({("mask", index): None, ("points", index): None, ("prompts", index): None})

    def name_object(self, number: int, name: str) -> Change:
        """Add an object, or give it another name."""
        with self._open():
            self._check_number(number, MAX_OBJECTS, "object")
            text = " ".join(name.split())[:60] or f"Object {number}"
            return self._change({("objects", 0): dict(sorted({**self.labels.objects, number: text}.items()))})

    def remove_object(self, number: int) -> Change:
        """Remove an object from the list and from all anchors."""
        with self._open():
            objects = self.labels.objects
            if objects.pop(number, None) is None:
                raise ValueError(f"there is no object {number}")
            values: dict[Key, Any] = {("objects", 0): objects or {1: "Object 1"}}
            for index in self.labels.frames("mask"):
                ids = self.labels.mask(index)
                if ids is not None and (ids == number).any():
                    left = np.where(ids == number, 0, ids).astype(np.uint8)
                    values["mask", index] = pack(left) if left.any() else None
            for index in self.labels.frames("prompts"):
                prompts = {key: prompt for key, prompt in self.labels.get("prompts", index).items() if key != number}
                values["prompts", index] = prompts or None
            return self._change(values)

    def set_trim(self, start: int, stop: int, step: int) -> Change:
        """Choose the frames to label: every `step`-th from `start` up to, not with, `stop`."""
        with self._open():
            if not 0 <= start < stop <= self.num_frames:
                raise ValueError(f"frames {start} to {stop - 1}: expected a part of 0 to {self.num_frames - 1}")
            if not 1 <= step <= self.num_frames:
                raise ValueError(f"every {step}. frame: expected 1 to {self.num_frames}")
            return self._change({("trim", 0): {0: start, 1: stop, 2: step}})

    def undo(self) -> Change:
        """Take back the last change of any frame; returns what changed, nothing where there is nothing to undo."""
        with self._open():
            return self._note(self.labels.undo())

    def redo(self) -> Change:
        """Make the change that was taken back last; returns what changed."""
        with self._open():
            return self._note(self.labels.redo())

    def _change(self, values: dict[Key, Any]) -> Change:
        return self._note(self.labels.change(values))

    def _note(self, change: Change) -> Change:
        """Remember which results a change makes outdated."""
        kinds = {kind for kind, _ in change}
        self.results.changed |= {index for kind, index in change if kind == "mask"}
        self.results.points_changed |= "points" in kinds
        if kinds & {"mask", "points"}:
            self.results.save()
        self.revision += bool(change)
        return change

    def _check_number(self, number: int, most: int, what: str) -> None:
        if not 1 <= number <= most:
            raise ValueError(f"{what} {number}: expected 1 to {most}")
