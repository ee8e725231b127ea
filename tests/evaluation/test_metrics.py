"""Scores against cases worked out by hand."""

import numpy as np
import pytest

from siammae.evaluation.metrics import mean_region_similarity


def test_the_first_and_the_last_frame_do_not_count() -> None:
    gts = np.zeros((4, 1, 4), dtype=bool)
    preds = gts.copy()
    gts[1, 0, :2] = preds[1, 0, 1:3] = True  # one of three
    gts[2, 0, :2] = preds[2, 0, :1] = True  # one of two
    gts[0] = gts[3] = True  # none
    assert mean_region_similarity(gts, preds) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_sequences_of_different_lengths_are_refused() -> None:
    masks = np.zeros((3, 1, 1), dtype=bool)
    with pytest.raises(ValueError, match="shorter"):
        mean_region_similarity(masks, masks[:2])
