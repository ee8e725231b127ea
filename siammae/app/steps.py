"""The order of propagation and its steps: from the labels of a few frames to those of all, one frame at a time.

Letters: H x W pixels, K points.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from siammae.encoder import Encoder
from siammae.geometry import InputSize
from siammae.propagation.keypoints import KeypointPropagator
from siammae.propagation.masks import LabelPropagator
from siammae.video.frames import Frames

Ids = NDArray[np.uint8]
Points = NDArray[np.float32]
Track = tuple[Points, Points]  # points [K, 2] and scores [K] of one frame
FrameScores = dict[int, tuple[float, bool]]  # by id of an object, its score in [0, 1] and whether it is lost


@dataclass(frozen=True)
class Plan:
    """The frames to propagate to: forwards from an anchor, then backwards from the first anchor."""

    forwards: list[int]
    backwards: list[int]

    def __len__(self) -> int:
        return len(self.forwards) + len(self.backwards)


def plan_steps(numbers: Sequence[int], anchors: Sequence[int], done: Collection[int], changed: Collection[int]) -> Plan:
    """Choose the frames that need propagation; results of unchanged labels are kept.

    Args:
        numbers: frames to have labels, ascending.
        anchors: those that a person labelled, ascending, at least one.
        done: frames that have results.
        changed: frames whose labels were changed or removed since.
    """
    first, after = anchors[0], [number for number in numbers if number >= anchors[0]]
    outdated = min([number for number in after if number not in done] + list(changed), default=None)
    restart = outdated is not None and outdated <= first
    forwards: list[int] = []
    if outdated is not None:
        begin = first if restart else max(anchor for anchor in anchors if anchor <= outdated)
        forwards = [number for number in after if number >= begin]
    before = [number for number in numbers if number < first][::-1]
    return Plan(forwards, before if restart or any(number not in done for number in before) else [])


def propagate_masks(
    source: Frames, anchors: Mapping[int, Ids], plan: Plan, encoder: Encoder, size: InputSize
) -> Iterator[tuple[int, Ids, FrameScores]]:
    """Yield the number of each frame of a plan, its ids [H, W], and the scores of its objects.

    Forwards, the first anchor starts the propagation, and each later one is a correction; backwards, the first anchor alone
    counts.
    """
    first = min(anchors)

    def start() -> LabelPropagator[Any]:
        return LabelPropagator(source[first], anchors[first], encoder, size=size)

    if plan.forwards:
        propagator = start()
        for number in sorted(anchor for anchor in anchors if first < anchor < plan.forwards[0]):
            propagator.add(source[number], anchors[number])
        for number, frame in _visit(source, plan.forwards):
            if number == first:
                yield number, anchors[first], _scores(propagator)
            elif number in anchors:
                propagator.add(frame, anchors[number])
                yield number, anchors[number], _scores(propagator)
            else:
                yield number, propagator.step(frame), _scores(propagator)
    if plan.backwards:
        propagator = start()
        for number, frame in _visit(source, plan.backwards):
            yield number, propagator.step(frame), _scores(propagator)


def _scores(propagator: LabelPropagator[Any]) -> FrameScores:
    scores = propagator.scores
    rows = zip(scores.ids, scores.score.tolist(), scores.lost.tolist(), strict=True)
    return {number: (score, is_lost) for number, score, is_lost in rows}


def propagate_points(
    source: Frames, anchors: Mapping[int, Points], plan: Plan, encoder: Encoder, size: InputSize
) -> Iterator[tuple[int, Track]]:
    """Yield the number of each frame of a plan, and its points [K, 2] with their scores [K].

    The points of an anchor go up to the next anchor, those of the first one backwards too.
    """
    for number, frame in _visit(source, plan.forwards):
        if number in anchors:
            propagator = KeypointPropagator(frame, anchors[number], encoder, size=size)
        else:
            propagator.step(frame)
        yield number, (propagator.points, propagator.scores)
    if plan.backwards:
        first = min(anchors)
        propagator = KeypointPropagator(source[first], anchors[first], encoder, size=size)
        for number, frame in _visit(source, plan.backwards):
            yield number, propagator.step(frame)


def _visit(source: Frames, numbers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield the frames of numbers that ascend or descend, reading the video in one sweep."""
    if not numbers:
        return
    first, last = numbers[0], numbers[-1]
    step = 1 if last >= first else -1
    end, chosen = last + step, set(numbers)
    part: Frames = source[first : end if end >= 0 else None : step]
    for number, frame in zip(range(first, end, step), part, strict=True):
        if number in chosen:
            yield number, frame
