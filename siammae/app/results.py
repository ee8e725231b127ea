"""The results of propagation, kept in the project's folder: masks, points and scores of frames.

Letters: H x W pixels, K points.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.app.steps import FrameScores, Ids, Track
from siammae.files import atomic, remove_drafts
from siammae.labels.masks import as_mask, write_mask


class Results:
    """Masks as masks/00012.png; points, scores and the frames whose labels have changed since in results.json.

    Attributes:
        tracks: by frame, points [K, 2] and scores [K].
        scores: by frame and id of an object, its score in [0, 1] and whether it is lost.
        changed: frames whose masks a person has changed since the last propagation.
        points_changed: True where points have changed since.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "masks").mkdir(exist_ok=True)
        remove_drafts(folder / "masks")
        self.masks = {int(path.stem) for path in (folder / "masks").glob("[0-9]*.png")}
        self.tracks: dict[int, Track] = {}
        self.scores: dict[int, FrameScores] = {}
        self.changed: set[int] = set()
        self.points_changed = False
        if (path := folder / "results.json").exists():
            self._read(json.loads(path.read_text()))

    def _read(self, kept: Any) -> None:
        self.changed, self.points_changed = set(kept["changed"]), kept["points_changed"]
        for frame, rows in kept["tracks"].items():
            table = np.array(rows, np.float32).reshape(-1, 3)
            self.tracks[int(frame)] = table[:, :2], table[:, 2]
        for frame, scores in kept["scores"].items():
            self.scores[int(frame)] = {int(number): (score, lost) for number, (score, lost) in scores.items()}

    def save(self) -> None:
        """Write all but the masks, which `write_mask` has written."""
        tracks = {frame: np.c_[points, scores].tolist() for frame, (points, scores) in self.tracks.items()}
        kept = {
            "changed": sorted(self.changed),
            "points_changed": self.points_changed,
            "tracks": tracks,
            "scores": self.scores,
        }
        with atomic(self.folder / "results.json") as draft:
            draft.write_text(json.dumps(kept))

    def path(self, frame: int) -> Path:
        """Return the file of a frame's mask."""
        return self.folder / "masks" / f"{frame:05d}.png"

    def mask(self, frame: int) -> Ids | None:
        """Read the ids [H, W] of a frame, or None where it has none."""
        if frame not in self.masks:
            return None
        ids: NDArray[np.uint8] = as_mask(self.path(frame), empty=True).values
        return ids

    def write_mask(self, frame: int, ids: Ids, scores: FrameScores) -> None:
        """Write the ids [H, W] of a frame, and keep the scores of its objects."""
        write_mask(self.path(frame), ids)
        self.scores[frame] = scores
        self.masks.add(frame)

    def remove_mask(self, frame: int) -> None:
        """Remove the mask of a frame, where there is one."""
        self.masks.discard(frame)
        self.scores.pop(frame, None)
        self.path(frame).unlink(missing_ok=True)
