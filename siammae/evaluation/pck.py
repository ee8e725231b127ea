"""PCK, the percentage of correct keypoints, for JHMDB and BADJA."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from siammae.labels.keypoints import read_tracks

if TYPE_CHECKING:
    from siammae.evaluation.datasets.sequences import PathLike, PointSequence, TrackSequence

S = TypeVar("S", "PointSequence", "TrackSequence")
THRESHOLDS = 0.1, 0.2, 0.3, 0.4, 0.5
PIXELS = 3  # threshold in pixels


@dataclass(frozen=True)
class KeypointScores:
    """Scores of a set of sequences.

    Attributes:
        distances: for each sequence, distances [T, K] in units of the thresholds; NaN where a keypoint does not count,
            infinite where it is lost.
        joints: names of the K keypoints.
        threshold: threshold of the headline.
        over: how shares are averaged. "joints" (JHMDB) takes the mean over joints of each one's share of correct keypoints in
            all sequences; "sequences" (BADJA) takes the mean over sequences of each one's share in all joints.
        num_annotated: number of annotated keypoints in the frames that are scored. Those that do not count are left out of
            every share; `table` says how many they are.
        pixels: distances [T, K] in pixels by sequence, if the data set is scored at a threshold in pixels too.
        lost: True where a keypoint does not count because the prediction lost it, though it could know it, [T, K] by sequence.
    """

    distances: dict[str, NDArray[np.float64]]
    joints: tuple[str, ...]
    threshold: float
    over: str
    num_annotated: int
    pixels: dict[str, NDArray[np.float64]] | None = None
    lost: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def num_counted(self) -> int:
        """Number of keypoints that count."""
        return sum(int(np.count_nonzero(~np.isnan(frames))) for frames in self.distances.values())

    @property
    def num_lost(self) -> int:
        """Number of keypoints that do not count because the prediction lost them."""
        return sum(int(np.count_nonzero(frames)) for frames in self.lost.values())

    @property
    def with_lost(self) -> "KeypointScores":
        """These scores with the lost keypoints counted as wrong."""
        wrong = {name: np.where(frames, np.inf, self.distances[name]) for name, frames in self.lost.items()}
        return replace(self, distances=self.distances | wrong, lost={})

    @property
    def within_pixels(self) -> float:
        """Mean over sequences of each one's share of keypoints less than 3 pixels away; NaN if pixels are not scored."""
        shares = [_share(frames.reshape(-1), PIXELS, axis=0, strict=True) for frames in (self.pixels or {}).values()]
        return float(np.nanmean(shares)) if np.isfinite(shares).any() else math.nan

    def pck(self, threshold: float) -> float:
        """Compute the share of keypoints at most `threshold` away, averaged as `over` says."""
        shares = self.by_joint(threshold) if self.over == "joints" else self.by_sequence(threshold)
        return float(np.nanmean(list(shares.values())))

    def by_joint(self, threshold: float) -> dict[str, float]:
        """Compute the share of each joint in all sequences; NaN if it never counts."""
        shares = _share(np.concatenate(list(self.distances.values())), threshold, axis=0)
        return dict(zip(self.joints, shares.tolist(), strict=True))

    def by_sequence(self, threshold: float) -> dict[str, float]:
        """Compute the share of each sequence, all its joints together; NaN if none counts."""
        return {name: float(_share(frames.reshape(-1), threshold, axis=0)) for name, frames in self.distances.items()}

    @property
    def headline(self) -> tuple[str, float]:
        return f"PCK@{self.threshold:g}", self.pck(self.threshold)

    def table(self) -> str:
        """Format percentages of the set, of every joint that counts anywhere and of every sequence; Markdown."""
        rows = [("all", [self.pck(threshold) for threshold in THRESHOLDS])]
        for shares_at in (self.by_joint, self.by_sequence):
            by_threshold = [shares_at(threshold) for threshold in THRESHOLDS]
            rows += [(name, [shares[name] for shares in by_threshold]) for name in by_threshold[0]]
        head = f"| | {' | '.join(f'PCK@{threshold:g}' for threshold in THRESHOLDS)} |\n|{'---|' * (1 + len(THRESHOLDS))}\n"
        lines = [
            f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |"
            for name, shares in rows
            if np.isfinite(shares).any()
        ]
        notes = [f"{self.num_counted} of {self.num_annotated} annotated keypoints count"]
        if self.num_lost:
            wrong = 100 * self.with_lost.pck(self.threshold)
            notes.append(f"{self.num_lost} are lost; PCK@{self.threshold:g} with these as wrong: {wrong:.1f} %")
        if self.pixels is not None:
            notes.append(f"less than {PIXELS} pixels away: {100 * self.within_pixels:.1f} %")
        return head + "\n".join([*lines, "", "; ".join(notes)])

    def figures(self) -> dict[str, Any]:
        """Return all figures as JSON's types; the report shows `sequences`."""
        shares = self.by_joint(self.threshold)
        return {
            "PCK": {f"{threshold:g}": self.pck(threshold) for threshold in THRESHOLDS},
            "mean over": self.over,
            "counted": self.num_counted,
            "annotated": self.num_annotated,
            **({"lost": self.num_lost, "PCK with lost as wrong": self.with_lost.pck(self.threshold)} if self.num_lost else {}),
            **({} if self.pixels is None else {f"delta {PIXELS} px": self.within_pixels}),
            "by joint": {name: share for name, share in shares.items() if np.isfinite(share)},
            "sequences": {
                name: {
                    "score": None if math.isnan(score) else score,
                    "curve": f"PCK@{self.threshold:g}",
                    "frames": [
                        None if np.isnan(share) else share for share in _share(self.distances[name], self.threshold, axis=1)
                    ],
                }
                for name, score in self.by_sequence(self.threshold).items()
            },
        }


def read_predictions(sequences: Sequence[S], folder: "PathLike") -> Iterator[tuple[S, NDArray[np.float64]]]:
    """Read the predicted points [T, K, 2] of each sequence from the file NAME.csv of a folder.

    Raises:
        FileNotFoundError: files that are missing, all of them named, before any is read.
        ValueError: a file with other frames or points.
    """
    from siammae.evaluation.datasets.sequences import check_complete  # whose front door imports this module

    files = [Path(folder) / f"{sequence.name}.csv" for sequence in sequences]
    check_complete(folder, [path.name for path in files if not path.is_file()], "NAME.csv for every sequence")
    for sequence, path in zip(sequences, files, strict=True):
        yield sequence, read_tracks(path, *sequence.points.shape[:2])


def _share(distances: NDArray[np.float64], threshold: float, axis: int, *, strict: bool = False) -> NDArray[np.float64]:
    """Compute the share of distances up to `threshold` (below it if `strict`) among those that count; NaN if none counts."""
    counted = (~np.isnan(distances)).sum(axis=axis)
    correct = (distances < threshold if strict else distances <= threshold).sum(axis=axis)
    shares: NDArray[np.float64] = np.divide(correct, counted, out=np.full(np.shape(counted), np.nan), where=counted > 0)
    return shares
