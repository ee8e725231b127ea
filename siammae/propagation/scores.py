"""Doubt: a score for every object in every frame, which tells how much the object looks like that of the anchors.

The looks of an object are features of a few of its cells and of cells around it, from the anchors and from a few confident
frames. They need little memory, which does not grow with the video, and find a lost object again wherever it is.
Letters: T frames, L labels, D channels, K cells, S slots (frames whose looks are kept), O objects, h x w cells.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siammae.propagation.config import PropagationConfig
from siammae.propagation.scenes import Scene

OBJECT_CELLS = 128  # cells of an object that a slot keeps
OTHER_CELLS = 256  # cells of the rest of the frame
MOST_ANCHORS = 8  # the newest anchors whose looks are kept
MEMORY_SLOTS = 4  # confident frames
MEMORY_EVERY = 8  # frames between two of them
CONFIDENT = 0.6  # confidence from which a frame is remembered, and from which an object is found again
NEAR = 8  # cells around an object in which its overlap is measured
# of agreement, likeness, coverage and overlap, fitted to J by benchmarks/doubt.py; and of the first three, for confidence
WEIGHTS, BIAS = (0.0, 1.1, 1.5, 5.5), -5.2
FOUND_WEIGHTS, FOUND_BIAS = (2.7, 1.6, 3.2), -4.7


@dataclass(frozen=True)
class Scores:
    """Scores of the objects of one frame ([O]) or of all frames of a video ([T, O]).

    Attributes:
        ids: the O objects: ids of the mask without the background, or numbers of the soft labels.
        score: float32 in [0, 1]; 1 for the frames whose mask was given.
        lost: bool, whether the score is below `PropagationConfig.lost_below`.
        area: int64, pixels of the object in the mask.
        box: int64 [O, 4] or [T, O, 4], left, top, right, bottom; the last two are exclusive. Zeros where there are no pixels.
    """

    ids: list[int]
    score: NDArray[np.float32]
    lost: NDArray[np.bool_]
    area: NDArray[np.int64]
    box: NDArray[np.int64]

    @classmethod
    def stack(cls, frames: Sequence["Scores"]) -> "Scores":
        """Join the scores of the frames of a video, which have the same objects."""
        columns = [np.stack([getattr(frame, name) for frame in frames]) for name in ("score", "lost", "area", "box")]
        return cls(frames[0].ids, *columns)


def measure(
    ids: Sequence[int], masks: Sequence[NDArray[np.bool_]], score: NDArray[np.float32], lost: NDArray[np.bool_]
) -> Scores:
    """Build the scores of one frame from its objects' masks [H, W]."""
    boxes = np.zeros((len(ids), 4), dtype=np.int64)
    for box, mask in zip(boxes, masks, strict=True):
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return Scores(list(ids), score, lost, np.array([int(mask.sum()) for mask in masks], dtype=np.int64), boxes)


class Looks:
    """Looks of the objects in the anchors and in a few confident frames.

    Args:
        exclusive: True if an object has the cells where its label is the strongest; otherwise those where it is 0.5 or more.
    """

    def __init__(self, exclusive: bool) -> None:
        self.exclusive = exclusive
        cpu: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
        self._cells = torch.empty(0, 0, 0, 0, **cpu)  # [S, L, OBJECT_CELLS + OTHER_CELLS, D]: newest anchor first, then memory
        self._known = torch.empty(0, 0, dtype=torch.bool, device="cpu")  # [S, L]: the slot shows the object
        self._range = torch.empty(0, 0, 2, **cpu)  # [S, L, 2]: similarity within the object, and to what is around it
        self._counts = [0, 0]  # anchors; frames remembered since the last anchor

    def anchor(self, features: Tensor, labels: Tensor) -> None:
        """Add the looks of an anchor with features [D, h, w] and labels [L, h, w]; forget the remembered frames."""
        anchors, num = min(self._counts[0], MOST_ANCHORS - 1), len(labels)
        old = [_grown(part[:anchors], num) for part in (self._cells, self._known, self._range)] if anchors else None
        new = self._look(features, labels)
        empty = [part.new_zeros(MEMORY_SLOTS, *part.shape[1:]) for part in new]
        parts = [new, *([old] if old else []), empty]
        with torch.inference_mode(False):
            self._cells, self._known, self._range = (torch.cat(same).clone() for same in zip(*parts, strict=True))
        self._counts = [anchors + 1, 0]

    def remember(self, features: Tensor, labels: Tensor, rows: Sequence[int]) -> None:
        """Keep the looks of the objects `rows` in a confident frame, in place of the oldest."""
        cells, known, ranges = self._look(features, labels)
        slot = self._counts[0] + self._counts[1] % MEMORY_SLOTS
        for row in rows:
            self._cells[slot, row], self._known[slot, row], self._range[slot, row] = (
                cells[0, row],
                known[0, row],
                ranges[0, row],
            )
        self._counts[1] += 1

    def relabel(self, sources: Sequence[int | None]) -> None:
        """Renumber the labels: label i becomes what was label `sources[i]`; None is an object that nothing shows."""
        index = torch.tensor([0 if source is None else source for source in sources], device=self._cells.device)
        gone = [row for row, source in enumerate(sources) if source is None]
        with torch.inference_mode(False):
            self._cells, self._known, self._range = (part[:, index].clone() for part in (self._cells, self._known, self._range))
        self._known[:, gone] = False

    def score(self, features: Tensor, labels: Tensor, rows: Sequence[int]) -> list[float]:
        """Score the objects `rows` of a frame with features [D, h, w] of unit length and labels [L, h, w]."""
        return [self._score(features, self.inside(labels, row), row) for row in rows]

    def _score(self, features: Tensor, inside: Tensor, row: int) -> float:
        signals = self.signals(features, inside, row)
        return 0.0 if signals is None else logistic((*signals, self.overlap(features, inside, row)), WEIGHTS, BIAS)

    def confidence(self, features: Tensor, inside: Tensor, row: int) -> float:
        """Score an object's cells, True in `inside` [h, w], without their overlap, in [0, 1]."""
        signals = self.signals(features, inside, row)
        return 0.0 if signals is None else logistic(signals, FOUND_WEIGHTS, FOUND_BIAS)

    def signals(self, features: Tensor, inside: Tensor, row: int) -> tuple[float, float, float] | None:
        """Compare an object's cells, True in `inside` [h, w], with its looks.

        Returns:
            Agreement, the share of the cells that are more similar to the object than to what is around it, in all slots; and,
            by the anchors alone, likeness, the mean similarity of the cells to the object, and coverage, that of the object's
            cells to those in the frame. The last two are 1 at the anchors' own similarity within the object and 0 at their
            similarity to what is around it. None if the object has no cells, or no slot shows it.
        """
        slots = self._known[:, row]
        if not bool(inside.any()) or not bool(slots.any()):
            return None
        mine = _sample(features[:, inside].T, OBJECT_CELLS)  # [K, D]
        own, other = self._cells[slots, row].split([OBJECT_CELLS, OTHER_CELLS], dim=1)
        similarity = torch.einsum("kd,scd->skc", mine, own)
        to_own = similarity.amax(dim=(0, 2))  # [K]
        to_other = torch.einsum("kd,scd->skc", mine, other).amax(dim=(0, 2))
        anchors = max(int(slots[: self._counts[0]].sum()), 1)  # without an anchor that shows it, the oldest slot counts
        high, low = self._range[slots, row][:anchors].mean(dim=0).tolist()
        like = float(similarity[:anchors].amax(dim=(0, 2)).mean())
        covered = float(similarity[:anchors].amax(dim=1).mean(dim=1).max())
        values = [(value - low) / max(high - low, 0.05) for value in (like, covered)]
        likeness, coverage = (min(max(value, -1.0), 1.2) for value in values)
        return float((to_own > to_other).float().mean()), likeness, coverage

    def overlap(self, features: Tensor, inside: Tensor, row: int) -> float:
        """Compare an object's cells, True in `inside` [h, w], with those that look like it: intersection over union.

        Cells look like it if they are at most `NEAR` cells away and more similar to the object than to what is around it, in
        the newest anchor and the frame remembered last.
        """
        known = torch.nonzero(self._known[:, row]).flatten().tolist()
        newest = [0, self._counts[0] + (self._counts[1] - 1) % MEMORY_SLOTS]
        slots = [slot for slot in newest if slot in known] or known[:1]
        near = F.max_pool2d(inside[None].float(), 2 * NEAR + 1, stride=1, padding=NEAR)[0] > 0
        own, other = self._cells[slots, row].split([OBJECT_CELLS, OTHER_CELLS], dim=1)
        cells, mine = features[:, near], inside[near]
        alike = (own.flatten(0, 1) @ cells).amax(dim=0) > (other.flatten(0, 1) @ cells).amax(dim=0)
        return float((alike & mine).sum() / (alike | mine).sum())

    def find(self, features: Tensor, row: int) -> tuple[Tensor, float] | None:
        """Search a whole frame for a lost object.

        Returns:
            A map [h, w] of the cells that show it, 0 or 1, and its score; None if nothing scores `CONFIDENT` or more.
        """
        slots = self._known[:, row]
        if not bool(slots.any()):
            return None
        own, other = self._cells[slots, row].split([OBJECT_CELLS, OTHER_CELLS], dim=1)
        cells = features.flatten(1).T  # [h * w, D]
        to_own = (cells @ own.flatten(0, 1).T).amax(dim=1)
        to_other = (cells @ other.flatten(0, 1).T).amax(dim=1)
        high, low = self._range[slots, row].mean(dim=0).tolist()
        inside = ((to_own > to_other) & (to_own > (high + low) / 2)).reshape(features.shape[-2:])
        score = self.confidence(features, inside, row)
        return (inside.float(), score) if score >= CONFIDENT else None

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that `load_state_dict` needs."""
        counts = torch.tensor(self._counts, device="cpu")
        return {
            "looks": self._cells.clone(),
            "looks_known": self._known.clone(),
            "looks_range": self._range.clone(),
            "looks_counts": counts,
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become the looks whose `state_dict` this is."""
        device = self._cells.device
        with torch.inference_mode(False):
            names = "looks", "looks_known", "looks_range"
            self._cells, self._known, self._range = (state[name].to(device).clone() for name in names)
        self._counts = state["looks_counts"].tolist()

    def inside(self, labels: Tensor, row: int) -> Tensor:
        """Return the cells [h, w] of an object in labels [L, h, w]."""
        return labels.argmax(dim=0) == row if self.exclusive else labels[row] >= 0.5

    def _look(self, features: Tensor, labels: Tensor) -> list[Tensor]:
        """Return one slot: cells [1, L, K, D], known [1, L] and range [1, L, 2]."""
        size = OBJECT_CELLS + OTHER_CELLS
        cells = features.new_zeros(1, len(labels), size, len(features))
        known = torch.zeros(1, len(labels), dtype=torch.bool, device=features.device)
        ranges = features.new_zeros(1, len(labels), 2)
        for row, label in enumerate(labels):
            inside = self.inside(labels, row)
            if not bool(inside.any()) and float(label.max()) > 0:
                inside = label >= label.max() / 2  # smaller than a cell
            if not bool(inside.any()):
                continue
            own, other = features[:, inside].T, features[:, ~inside].T
            cells[0, row, :OBJECT_CELLS] = _sample(own, OBJECT_CELLS)
            if len(other):  # around an object that fills the frame there is nothing, which nothing is similar to
                cells[0, row, OBJECT_CELLS:] = _sample(other, OTHER_CELLS)
            few = own[_places(min(len(own), OBJECT_CELLS), len(own))]
            within = few @ few.T
            within.fill_diagonal_(-math.inf)
            high = float(within.amax(dim=1).mean()) if len(few) > 1 else 0.9
            ranges[0, row, 0], ranges[0, row, 1] = high, float((few @ cells[0, row, OBJECT_CELLS:].T).mean())
            known[0, row] = True
        return [cells, known, ranges]


def logistic(signals: Sequence[float], weights: Sequence[float], bias: float) -> float:
    """Map signals to a score in [0, 1]."""
    return 1 / (1 + math.exp(-bias - sum(weight * value for weight, value in zip(weights, signals, strict=True))))


def _sample(cells: Tensor, num: int) -> Tensor:
    """Take `num` of the cells [n, D], evenly; some of them repeatedly if there are fewer."""
    return cells[_places(num, len(cells))]


def _places(num: int, length: int) -> Tensor:
    return torch.linspace(0, length - 1, num, dtype=torch.float32, device="cpu").round().long()


def _grown(part: Tensor, num: int) -> Any:
    """Extend [S, L, ...] to `num` labels, with zeros."""
    return torch.cat([part, part.new_zeros(len(part), num - part.shape[1], *part.shape[2:])], dim=1)


class Judge:
    """The scores of the objects frame by frame, and what follows from them.

    Args:
        exclusive: see `Looks`.
        config: `foreign_below`, `lost_below` and `keep_lost` are used.

    Attributes:
        looks: what the objects look like.
        scene: what the frames look like as a whole.
        score: [O] of the last frame.
    """

    def __init__(self, exclusive: bool, config: PropagationConfig) -> None:
        self.looks, self.scene, self.exclusive, self.config = Looks(exclusive), Scene(), exclusive, config
        self.rows: list[int] = []
        self.score = np.zeros(0, dtype=np.float32)
        self._frames = 0

    @property
    def lost(self) -> NDArray[np.bool_]:
        return self.score < self.config.lost_below

    def anchor(self, features: Tensor, labels: Tensor, rows: list[int]) -> None:
        """Start from an anchor, or add one, with features [D, h, w] and labels [L, h, w], of which `rows` are objects."""
        self.looks.anchor(features, labels)
        self.scene.anchor(features)
        self.rows, self.score, self._frames = rows, np.ones(len(rows), dtype=np.float32), 0

    def revise(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score the objects of a frame with features [D, h, w] and labels [L, h, w], and search the lost ones.

        Returns:
            The labels with the objects that were found, and the same for the context, or None if all objects are lost.
        """
        keep_lost = self.config.keep_lost
        self._frames += 1
        if self.scene.continuity(features) < self.config.foreign_below:
            self.score = np.zeros(len(self.rows), dtype=np.float32)
            return labels, labels if keep_lost or not self.rows else None
        self.scene.keep(features)
        self.score = np.array(self.looks.score(features, labels, self.rows), dtype=np.float32)
        if not keep_lost:
            for place in np.flatnonzero(self.lost).tolist():
                if (found := self.looks.find(features, self.rows[place])) is not None:
                    shown, self.score[place] = found
                    labels = labels * (1 - shown) if self.exclusive else labels.clone()
                    labels[self.rows[place]] = shown
        if self._frames % MEMORY_EVERY == 0:
            kept = [row for row, lost in zip(self.rows, self.lost.tolist(), strict=True) if keep_lost or not lost]
            insides = {row: self.looks.inside(labels, row) for row in kept}
            confident = [row for row in kept if self.looks.confidence(features, insides[row], row) >= CONFIDENT]
            if confident:
                self.looks.remember(features, labels, confident)
        return labels, labels if keep_lost or not self.rows or not bool(self.lost.all()) else None

    def without_lost(self, labels: Tensor) -> tuple[Tensor, list[int]]:
        """Return labels [L, h, w] in which the lost objects have no cells, and the rows that they lost."""
        gone = [] if self.config.keep_lost else [self.rows[place] for place in np.flatnonzero(self.lost).tolist()]
        if gone:
            labels = labels.clone()
            labels[gone] = 0
        return labels, gone

    def relabel(self, sources: Sequence[int | None], rows: list[int]) -> None:
        """Renumber the labels (see `Looks.relabel`); the objects are `rows` from now on."""
        scores = dict(zip(self.rows, self.score.tolist(), strict=True))
        self.looks.relabel(sources)
        self.rows = rows
        kept = [sources[row] for row in rows]
        self.score = np.array([0.0 if source is None else scores[source] for source in kept], dtype=np.float32)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that `load_state_dict` needs."""
        return {
            **self.looks.state_dict(),
            **self.scene.state_dict(),
            "object_scores": torch.from_numpy(self.score.copy()),
            "score_rows": torch.tensor(self.rows, dtype=torch.int64, device="cpu"),
            "scored_frames": torch.tensor(self._frames, device="cpu"),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become the judge whose `state_dict` this is."""
        self.looks.load_state_dict(state)
        self.scene.load_state_dict(state)
        self.score, self.rows = state["object_scores"].cpu().numpy().copy(), state["score_rows"].tolist()
        self._frames = int(state["scored_frames"])
