"""Arguments of metrics that do not fit are an error, and tables show percentages."""

from typing import Any

import numpy as np
import pytest

from siammae.evaluation.metrics import boundary_accuracy, keypoint_distances, region_similarity
from siammae.evaluation.pck import KeypointScores

MASK = np.eye(4, dtype=bool)


@pytest.mark.parametrize(
    ("gt", "pred"),
    [(MASK, MASK[:1]), (MASK[:, :1], MASK), (MASK.astype(np.uint8), MASK), (MASK, MASK.astype(int)), (MASK[None], MASK[None])],
)
def test_masks_that_cannot_be_compared(gt: Any, pred: Any) -> None:
    for metric in (region_similarity, boundary_accuracy):
        with pytest.raises(ValueError, match=r"expected two bool \[H, W\]"):
            metric(gt, pred)


@pytest.mark.parametrize(
    ("gt", "pred", "scale"),
    [((2, 3, 3), (2, 3, 3), (2,)), ((3, 2), (3, 2), (3,)), ((2, 3, 2), (2, 1, 2), (2,)), ((2, 3, 2), (2, 3, 2), (3,))],
)
def test_keypoints_that_cannot_be_compared(gt: Any, pred: Any, scale: Any) -> None:
    with pytest.raises(ValueError, match=r"expected \[T, K, 2\] twice and \[T\]"):
        keypoint_distances(np.zeros(gt), np.zeros(pred), np.ones(scale))


def test_the_table_of_keypoints_shows_percentages_of_five_thresholds() -> None:
    distances = {"a": np.array([[0.05, 0.15], [0.25, np.inf]]), "b": np.array([[0.1, np.nan], [0.45, np.nan]])}
    scores = KeypointScores(distances, ("nose", "tail"), 0.1, "joints", 8)
    lines = scores.table().splitlines()
    assert lines[0] == "| | PCK@0.1 | PCK@0.2 | PCK@0.3 | PCK@0.4 | PCK@0.5 |"
    assert lines[2:] == [
        "| all | 25.0 | 50.0 | 62.5 | 62.5 | 75.0 |",
        "| nose | 50.0 | 50.0 | 75.0 | 75.0 | 100.0 |",
        "| tail | 0.0 | 50.0 | 50.0 | 50.0 | 50.0 |",
        "| a | 25.0 | 50.0 | 75.0 | 75.0 | 75.0 |",
        "| b | 50.0 | 50.0 | 50.0 | 50.0 | 100.0 |",
        "",
        "6 of 8 annotated keypoints count",
    ]
    with pytest.raises(ValueError, match="zip"):
        KeypointScores(distances, ("nose", "tail", "ear"), 0.1, "joints", 8).pck(0.1)
