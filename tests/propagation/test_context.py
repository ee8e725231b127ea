"""What the context keeps: anchors that count for more, and labels that blur less."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from siammae import Encoder, Geometry, PropagationConfig
from siammae.ops import propagate
from siammae.propagation.context import SoftPropagator, sharpened

GRID = (5, 6)
MATCHING = {"radius": 3, "top_k": 4, "temperature": 0.1}


def propagator(exclusive: bool = True, **options: float) -> SoftPropagator:
    """A propagator that is given features, so that it needs no encoder."""
    config = PropagationConfig.from_mapping({**MATCHING, **options})
    return SoftPropagator(cast(Encoder, SimpleNamespace(name="none")), config, cast(Geometry, None), exclusive=exclusive)


def films(seed: int, frames: int = 4) -> tuple[Tensor, Tensor]:
    """Features [T, D, h, w] of unit length, and labels [L, h, w] of the first frame that add up to 1."""
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(frames, 8, *GRID, generator=generator), dim=1)
    return features, torch.rand(3, *GRID, generator=generator).softmax(dim=0)


def test_sharpened_labels_keep_their_sum_and_grow_where_they_are_strong() -> None:
    labels = torch.tensor([[0.6, 0.0, 0.25], [0.3, 0.0, 0.25]])[:, None]
    expected = torch.tensor([[0.9 * 0.36 / 0.45, 0, 0.25], [0.9 * 0.09 / 0.45, 0, 0.25]])[:, None]
    torch.testing.assert_close(sharpened(labels, 2.0), expected)
    torch.testing.assert_close(sharpened(labels[:1], 3.0), labels[:1])  # a single soft label has nothing to be compared with
    torch.testing.assert_close(sharpened(labels, 1.0), labels)


@pytest.mark.parametrize("seed", range(3))
def test_similarities_to_anchors_are_multiplied_and_kept_labels_sharpened(seed: int) -> None:
    features, first = films(seed)
    changed = propagator(anchor_factor=1.3, label_power=1.5)
    changed.anchor(features[0], first)
    seen, kept = [features[0] * 1.3], [first]
    for frame in features[1:]:
        expected = propagate(frame, torch.stack(seen), torch.stack(kept), **MATCHING)
        torch.testing.assert_close(changed.advance(frame), expected)
        seen.append(frame)
        kept.append(expected**1.5 / (expected**1.5).sum(dim=0) * expected.sum(dim=0))
    plain = propagator(label_power=1.0)
    plain.anchor(features[0], first)
    assert not torch.allclose(plain.advance(features[1]), propagate(features[1], features[:1] * 1.3, first[None], **MATCHING))


def test_a_new_object_reaches_older_anchors_at_their_own_similarity() -> None:
    features, first = films(7)
    results = []
    for factor in (1.0, 1.3):
        one = propagator(anchor_factor=factor)
        one.anchor(features[0], first[:2])
        one.anchor(features[1], first)
        results.append(one.context.labels)
    torch.testing.assert_close(*results)


def test_keypoints_are_matched_and_kept_as_they_are() -> None:
    features, first = films(3)
    one, other = propagator(exclusive=False, anchor_factor=1.3, label_power=1.5), propagator(exclusive=False)
    for each in (one, other):
        each.anchor(features[0], first)
    for frame in features[1:]:
        assert torch.equal(one.advance(frame), other.advance(frame))


@pytest.mark.parametrize("name", ["anchor_factor", "label_power"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), 1000, True, "1"])
def test_factors_and_powers_that_cannot_be(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*; expected a positive number, from 0.01 to 100"):
        PropagationConfig.from_mapping({name: value})
