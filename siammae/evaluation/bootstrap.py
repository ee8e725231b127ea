"""Bootstrap intervals: how far a mean over sequences would move with other sequences of the same kind."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0


class Interval(NamedTuple):
    """A mean over sequences and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def bootstrap_mean(scores: NDArray[np.float64], weights: NDArray[np.float64]) -> Interval:
    """Compute the weighted mean of scores [S] of S sequences, and its percentile interval.

    Sequences are drawn with replacement 10,000 times, always the same way. For the difference of two evaluations pass the
    differences of their scores sequence by sequence: what both share, such as hard sequences, then widens no interval.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.

    Raises:
        ValueError: no scores, other shapes, a score that is not finite, or a weight that is not positive.
    """
    if scores.ndim != 1 or not len(scores) or weights.shape != scores.shape:
        raise ValueError(f"scores and weights have shapes {list(scores.shape)} and {list(weights.shape)}; expected [S] twice")
    if not np.isfinite(scores).all() or not (weights > 0).all():
        raise ValueError("scores must be finite and weights positive")
    drawn = np.random.default_rng(SEED).integers(0, len(scores), (RESAMPLES, len(scores)))
    means = (scores * weights)[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.average(scores, weights=weights)), float(low), float(high))
