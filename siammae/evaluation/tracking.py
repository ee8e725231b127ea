"""Scores of tracked points as TAP-Vid defines them: positions, occlusion, and both together.

Source: Doersch et al. 2022, "TAP-Vid: A Benchmark for Tracking Any Point in a Video", section 3; rounding and borders as in its
public evaluation_datasets.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = 1, 2, 4, 8, 16  # pixels of a picture of 256 x 256
Queries = Literal["first", "strided"]


def tracking_metrics(
    query_frames: NDArray[np.integer[Any]],
    gt: NDArray[np.float64],
    gt_occluded: NDArray[np.bool_],
    pred: NDArray[np.float64],
    pred_occluded: NDArray[np.bool_],
    queries: Queries,
) -> dict[str, float]:
    """Compute the metrics of one video.

    Args:
        query_frames: the frame in which each of the K points is given, [K].
        gt: true positions (x, y), [K, T, 2], pixels of a picture of 256 x 256.
        gt_occluded: True where a point is hidden, [K, T].
        pred, pred_occluded: predictions of the same shapes; a position that is NaN is wrong.
        queries: "first" counts the frames after the query, "strided" all but the query's own.

    Returns:
        For each threshold `pts_within_N` (the share of visible points less than N pixels away, whether they are predicted
        visible or not) and `jaccard_N` (points both visible and within N, over these and all that are wrong); their means
        `average_pts_within_thresh` and `average_jaccard`; and `occlusion_accuracy`. NaN where nothing counts.

    Raises:
        ValueError: other shapes, or a query outside the video.
    """
    shapes = [array.shape for array in (gt_occluded, pred_occluded)]
    num_points, num_frames = gt.shape[:2] if gt.ndim == 3 else (0, 0)
    fits = gt.ndim == 3 and gt.shape == pred.shape and all(shape == gt.shape[:2] for shape in shapes)
    if not fits or len(query_frames) != num_points:
        raise ValueError(f"tracks have shapes {gt.shape}, {pred.shape} and occlusions {shapes}; expected [K, T, 2] and [K, T]")
    if num_points and not (query_frames.min() >= 0 and query_frames.max() < num_frames):
        raise ValueError(f"queries are in frames {query_frames.min()} to {query_frames.max()}; expected 0 to {num_frames - 1}")
    numbers, given = np.arange(num_frames), np.asarray(query_frames)[:, None]
    counted = numbers > given if queries == "first" else numbers != given
    visible, shown = ~gt_occluded & counted, ~pred_occluded & counted
    squared = np.square(pred - gt).sum(axis=-1)
    metrics = {"occlusion_accuracy": _ratio(((gt_occluded == pred_occluded) & counted).sum(), counted.sum())}
    for threshold in THRESHOLDS:
        within = squared < threshold**2  # False for NaN
        wrong = shown & ~(visible & within)
        metrics[f"pts_within_{threshold}"] = _ratio((within & visible).sum(), visible.sum())
        metrics[f"jaccard_{threshold}"] = _ratio((within & visible & shown).sum(), visible.sum() + wrong.sum())
    for name, measure in (("average_pts_within_thresh", "pts_within"), ("average_jaccard", "jaccard")):
        metrics[name] = float(np.mean([metrics[f"{measure}_{threshold}"] for threshold in THRESHOLDS]))
    return metrics


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")


@dataclass(frozen=True)
class TrackingScores:
    """Scores of a set of videos; a figure of the set is the mean of the videos'.

    Attributes:
        videos: metrics of each video, see `tracking_metrics`.
        frames: for each video the share of visible points less than 4 pixels away, for each frame; NaN where none counts.
    """

    videos: dict[str, dict[str, float]]
    frames: dict[str, NDArray[np.float64]]

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the videos in which it is defined."""
        names = next(iter(self.videos.values()))
        values = {name: [metrics[name] for metrics in self.videos.values()] for name in names}
        return {name: float(np.nanmean(known)) if np.isfinite(known).any() else float("nan") for name, known in values.items()}

    @property
    def headline(self) -> tuple[str, float]:
        return "average Jaccard", self.means["average_jaccard"]

    def table(self) -> str:
        """Format percentages of the set and of every video; Markdown."""
        columns = {
            "average_jaccard": "AJ",
            "average_pts_within_thresh": "delta avg",
            "occlusion_accuracy": "OA",
            **{f"pts_within_{threshold}": f"delta {threshold} px" for threshold in THRESHOLDS},
        }
        head = f"| | {' | '.join(columns.values())} |\n|{'---|' * (1 + len(columns))}\n"
        rows = {"all": self.means, **self.videos}
        return head + "\n".join(
            f"| {name} | {' | '.join(f'{100 * metrics[column]:.1f}' for column in columns)} |" for name, metrics in rows.items()
        )

    def figures(self) -> dict[str, Any]:
        """Return all figures as JSON's types; the report shows `sequences`."""
        return {
            **_plain(self.means),
            "sequences": {
                name: {
                    "score": _plain(metrics)["average_jaccard"],
                    "curve": "share within 4 px",
                    "frames": [None if np.isnan(share) else share for share in self.frames[name].tolist()],
                    "metrics": _plain(metrics),
                }
                for name, metrics in self.videos.items()
            },
        }


def _plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in metrics.items()}
