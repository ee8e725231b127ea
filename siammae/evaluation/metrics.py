"""Metrics: pure functions of ground truth and prediction."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.008  # boundaries match within this share of the picture's diagonal
BINS = 4  # parts of a sequence, for the decay

BoolMask = NDArray[np.bool_]
Points = NDArray[np.float64]


def region_similarity(gt: BoolMask, pred: BoolMask) -> float:
    """J of DAVIS: intersection over union of two masks, bool [H, W]; 1 where both are empty.

    Source: Perazzi et al. 2016, section 4; the empty case as in the official davis2017-evaluation.
    """
    _check(gt, pred)
    union = np.count_nonzero(gt | pred)
    return float(np.count_nonzero(gt & pred) / union) if union else 1.0


def mean_region_similarity(gts: Iterable[BoolMask], preds: Iterable[BoolMask]) -> float:
    """Mean J of an object over masks, bool [H, W] each, without the first and the last frame, as in DAVIS."""
    return float(np.mean([region_similarity(gt, pred) for gt, pred in zip(gts, preds, strict=True)][1:-1]))


def boundary_accuracy(gt: BoolMask, pred: BoolMask) -> float:
    """F of DAVIS: how well the outlines of two masks, bool [H, W], agree.

    It is the harmonic mean of precision (the share of `pred`'s outline within 0.8 % of the picture's diagonal, rounded up, of
    `gt`'s) and recall (the reverse). If one has no outline it is 0, if both have none it is 1.

    Source: Perazzi et al. 2016, section 4; outline, disk and empty cases as in the official davis2017-evaluation.
    """
    _check(gt, pred)
    both = gt | pred
    rows, columns = (np.flatnonzero(both.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 1.0
    # an outline reaches one pixel beyond its object; there is none outside that box
    box = slice(max(0, rows[0] - 1), rows[-1] + 2), slice(max(0, columns[0] - 1), columns[-1] + 2)
    gt_outline, pred_outline = _outline(gt[box]), _outline(pred[box])
    num_gt, num_pred = np.count_nonzero(gt_outline), np.count_nonzero(pred_outline)
    if not (num_gt and num_pred):
        return 1.0 if num_gt == num_pred else 0.0
    radius = math.ceil(TOLERANCE * math.hypot(*gt.shape))
    precision = np.count_nonzero(_near(gt_outline, radius) & pred_outline) / num_pred
    recall = np.count_nonzero(_near(pred_outline, radius) & gt_outline) / num_gt
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


class Statistics(NamedTuple):
    """Statistics of an object's score over the frames of a sequence, as DAVIS reports them.

    Attributes:
        mean: mean over the frames.
        recall: share of the frames whose score is above 0.5.
        decay: mean of the first quarter of the frames minus that of the last.
    """

    mean: float
    recall: float
    decay: float


def statistics(scores: Sequence[float]) -> Statistics:
    """Compute mean, recall and decay of an object's scores, one for each frame that counts.

    Quarters overlap by a frame, as in the official davis2017-evaluation. Its 8-bit frame numbers are not copied, so that the
    decay is right for more than 256 frames too.

    Raises:
        ValueError: no score.
    """
    if not len(scores):
        raise ValueError("no scores; a sequence needs three frames or more, since the first and the last do not count")
    values = np.asarray(scores, dtype=np.float64)
    ends = (np.round(np.linspace(1, len(values), BINS + 1) + 1e-10) - 1).astype(int)
    decay = values[ends[0] : ends[1] + 1].mean() - values[ends[-2] : ends[-1] + 1].mean()
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(decay))


def confusion_matrix(gt: NDArray[Any], pred: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class of `gt` (rows) to which `pred` gives each class (columns): [num_classes, num_classes].

    Both are integer [H, W]. Pixels where `gt` has no class (an id outside 0 to `num_classes` - 1, such as a void) do not
    count.

    Raises:
        ValueError: other shapes or types, or an id in `pred` that is no class.
    """
    integers = np.issubdtype(gt.dtype, np.integer) and np.issubdtype(pred.dtype, np.integer)
    if gt.ndim != 2 or gt.shape != pred.shape or not integers:
        shapes = f"{gt.dtype} {list(gt.shape)} and {pred.dtype} {list(pred.shape)}"
        raise ValueError(f"masks are {shapes}; expected two of integers [H, W]")
    if int(pred.min()) < 0 or int(pred.max()) >= num_classes:
        raise ValueError(f"predicted ids run from {pred.min()} to {pred.max()}; expected 0 to {num_classes - 1}")
    counted = (gt >= 0) & (gt < num_classes)
    pairs = gt[counted].astype(np.int64) * num_classes + pred[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def intersection_over_union(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the IoU [C] of each class from a confusion matrix [C, C]; NaN for a class that occurs nowhere."""
    shared = confusion.diagonal().astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - shared
    shares: NDArray[np.float64] = np.divide(shared, union, out=np.full(len(shared), np.nan), where=union > 0)
    return shares


def pixel_accuracy(confusion: NDArray[np.int64]) -> float:
    """Compute the share of pixels that get their own class, from a confusion matrix [C, C]; NaN without pixels."""
    total = int(confusion.sum())
    return float(confusion.trace() / total) if total else math.nan


def frequency_weighted_iou(confusion: NDArray[np.int64]) -> float:
    """Compute the mean IoU of the classes, each weighted by its share of the true pixels, from a confusion matrix [C, C].

    Source: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 5. NaN without pixels.
    """
    pixels = confusion.sum(axis=1)
    total = int(pixels.sum())
    occurs = pixels > 0
    shares = intersection_over_union(confusion)
    return float((pixels[occurs] * shares[occurs]).sum() / total) if total else math.nan


def keypoint_distances(gt: Points, pred: Points, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute distances [T, K] between keypoints [T, K, 2], in units of each frame's `scale` [T]; NaN where either is NaN.

    A prediction at infinity is infinitely far away.

    Raises:
        ValueError: other shapes, or a scale that is not positive where a keypoint counts.
    """
    if gt.ndim != 3 or gt.shape[-1] != 2 or gt.shape != pred.shape or scale.shape != gt.shape[:1]:
        shapes = f"{list(gt.shape)}, {list(pred.shape)} and {list(scale.shape)}"
        raise ValueError(f"keypoints and scales have shapes {shapes}; expected [T, K, 2] twice and [T]")
    distances = np.linalg.norm(gt - pred, axis=-1)
    counted = ~np.isnan(distances).all(axis=1)
    if not np.all(scale[counted] > 0):
        frame = int(np.flatnonzero(counted & ~(scale > 0))[0])
        raise ValueError(f"the scale of frame {frame} is {scale[frame]:g}; expected a positive one")
    scaled: NDArray[np.float64] = distances / np.where(counted, scale, np.nan)[:, None]
    return scaled


def _check(gt: BoolMask, pred: BoolMask) -> None:
    if gt.ndim != 2 or gt.shape != pred.shape or gt.dtype != bool or pred.dtype != bool:
        raise ValueError(f"masks are {gt.dtype} {list(gt.shape)} and {pred.dtype} {list(pred.shape)}; expected two bool [H, W]")


def _outline(mask: BoolMask) -> BoolMask:
    """Mark pixels that differ from the one to the right, below, or below and to the right; bool [H, W]."""
    outline = np.zeros_like(mask)
    outline[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    outline[:-1] |= mask[:-1] ^ mask[1:]
    outline[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return outline


def _near(outline: BoolMask, radius: int) -> BoolMask:
    """Mark pixels within `radius` of an outline, bool [H, W]: the union of its rows, each widened by the disk's width there."""
    height, width = outline.shape
    wide = np.zeros((height, width + 2 * radius), dtype=bool)
    near = np.zeros((height + 2 * radius, width), dtype=bool)
    for reach in range(radius + 1):
        wide[:, radius - reach : radius - reach + width] |= outline
        wide[:, radius + reach : radius + reach + width] |= outline
        for row in range(-radius, radius + 1):
            if math.isqrt(radius**2 - row**2) == reach:
                near[radius + row : radius + row + height] |= wide[:, radius : radius + width]
    return near[radius : radius + height]
