"""Scores as pure functions of ground truth and prediction."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def region_similarity(gt: NDArray[np.bool_], pred: NDArray[np.bool_]) -> float:
    """J of DAVIS: intersection over union of two masks, bool [H, W]; 1 where both are empty.

    Source: Perazzi et al. 2016, section 4; the empty case as in the official davis2017-evaluation.
    """
    if gt.shape != pred.shape or gt.dtype != bool or pred.dtype != bool:
        raise ValueError(f"masks are {gt.dtype} {list(gt.shape)} and {pred.dtype} {list(pred.shape)}; expected two bool [H, W]")
    union = np.count_nonzero(gt | pred)
    return np.count_nonzero(gt & pred) / union if union else 1.0


def mean_region_similarity(gts: Iterable[NDArray[np.bool_]], preds: Iterable[NDArray[np.bool_]]) -> float:
    """Mean J of an object over a sequence of masks, bool [H, W] each, without the first and the last frame, as DAVIS counts."""
    return float(np.mean([region_similarity(gt, pred) for gt, pred in zip(gts, preds, strict=True)][1:-1]))
