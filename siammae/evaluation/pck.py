"""PCK, the percentage of correct keypoints: what JHMDB and BADJA share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.datasets.sequences import PathLike, PointSequence, check_complete
from siammae.labels.keypoints import read_tracks

THRESHOLDS = 0.1, 0.2, 0.3, 0.4, 0.5


@dataclass(frozen=True)
class KeypointScores:
    """Of a set of sequences.

    Attributes:
        distances: of each sequence, [T, K] in units in which thresholds are given; NaN where a keypoint does not count,
            infinite where it is lost.
        joints: names of the K keypoints.
        threshold: of the headline.
        over: "joints" (JHMDB): the mean over joints of each one's share of correct ones, all sequences together. "sequences"
            (BADJA): the mean over sequences of each one's share of correct ones, all joints together.
    """

    distances: dict[str, NDArray[np.float64]]
    joints: tuple[str, ...]
    threshold: float
    over: str

    def pck(self, threshold: float) -> float:
        """Share of correct keypoints, those at most `threshold` away, as `over` says."""
        parts = self.by_joint(threshold) if self.over == "joints" else self.by_sequence(threshold)
        return float(np.nanmean(list(parts.values())))

    def by_joint(self, threshold: float) -> dict[str, float]:
        """Of each joint in all sequences; NaN where it never counts."""
        shares = _share(np.concatenate(list(self.distances.values())), threshold, axis=0)
        return dict(zip(self.joints, shares.tolist(), strict=True))

    def by_sequence(self, threshold: float) -> dict[str, float]:
        """Of each sequence, all its joints together; NaN where none counts."""
        return {name: float(_share(frames.reshape(-1), threshold, axis=0)) for name, frames in self.distances.items()}

    @property
    def headline(self) -> tuple[str, float]:
        return f"PCK@{self.threshold:g}", self.pck(self.threshold)

    def table(self) -> str:
        """Percentages of the set, of every joint that counts anywhere and of every sequence; Markdown."""
        rows = [("all", [self.pck(threshold) for threshold in THRESHOLDS])]
        for parts in (self.by_joint, self.by_sequence):
            by_threshold = [parts(threshold) for threshold in THRESHOLDS]
            rows += [(name, [shares[name] for shares in by_threshold]) for name in by_threshold[0]]
        head = f"| | {' | '.join(f'PCK@{threshold:g}' for threshold in THRESHOLDS)} |\n|{'---|' * (1 + len(THRESHOLDS))}\n"
        return head + "\n".join(
            f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |"
            for name, shares in rows
            if np.isfinite(shares).any()
        )

    def figures(self) -> dict[str, Any]:
        """Everything, in types that JSON has; `sequences` is what a report shows."""
        shares = self.by_joint(self.threshold)
        return {
            "PCK": {f"{threshold:g}": self.pck(threshold) for threshold in THRESHOLDS},
            "mean over": self.over,
            "by joint": {name: share for name, share in shares.items() if np.isfinite(share)},
            "sequences": {
                name: {
                    "score": score,
                    "curve": f"PCK@{self.threshold:g}",
                    "frames": [
                        None if np.isnan(share) else share for share in _share(self.distances[name], self.threshold, axis=1)
                    ],
                }
                for name, score in self.by_sequence(self.threshold).items()
            },
        }


def predictions(found: Sequence[PointSequence], folder: PathLike) -> Iterator[tuple[PointSequence, NDArray[np.float64]]]:
    """Each sequence with its predicted points [T, K, 2], from the files NAME.csv of a folder.

    Raises:
        FileNotFoundError: files that are missing, all of them named, before any is read.
        ValueError: a file with other frames or points.
    """
    files = [Path(folder) / f"{one.name}.csv" for one in found]
    check_complete(folder, [path.name for path in files if not path.is_file()], "NAME.csv for every sequence")
    for one, path in zip(found, files, strict=True):
        yield one, read_tracks(path, *one.points.shape[:2])


def _share(distances: NDArray[np.float64], threshold: float, axis: int) -> NDArray[np.float64]:
    counted = (~np.isnan(distances)).sum(axis=axis)
    correct = (distances <= threshold).sum(axis=axis)
    shares: NDArray[np.float64] = np.divide(correct, counted, out=np.full(np.shape(counted), np.nan), where=counted > 0)
    return shares
