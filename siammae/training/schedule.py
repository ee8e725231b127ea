"""The learning rate over a run whose length is a number of steps or a number of minutes."""

import math


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Linear rise from 0 over the first `warmup` of the run, then half a cosine down to 0.

    Args:
        progress: share of the run that is done, 0 to 1, in steps or in time.
        peak: highest rate.
        warmup: share of the run in which the rate rises.
    """
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def peak_rate(base_lr: float, batch_size: int) -> float:
    """The linear scaling rule: the base rate is meant for 256 pairs."""
    return base_lr * batch_size / 256
