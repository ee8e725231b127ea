"""Propagators that go through any sequence of calls stand where a plain replay of the same anchors and steps stands."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from numpy.typing import NDArray

from siammae import KeypointPropagator, LabelPropagator
from siammae.models.build import build_encoder

HEIGHT, WIDTH = 32, 48
TEXTURE = np.random.default_rng(0).integers(0, 256, (80, 128, 3), dtype=np.uint8)
CONFIG = {"context_frames": 2, "radius": 2, "top_k": 2}
NUMBERS = st.integers(0, 40)
CALLS = settings(max_examples=25, stateful_step_count=12, deadline=None)


ENCODER = build_encoder("vit_tiny_patch16_224", {"depth": 1, "patch_size": 8}, name="tiny").eval()


def frame_of(number: int) -> NDArray[np.uint8]:
    """One of 41 frames, no two alike."""
    return TEXTURE[number : number + HEIGHT, 2 * number : 2 * number + WIDTH]


def mask_of(number: int, ids: list[int]) -> NDArray[np.int64]:
    """A mask in which each id has a square, at a place that depends on the number."""
    mask = np.zeros((HEIGHT, WIDTH), np.int64)
    for place, label in enumerate(ids):
        left = 16 * ((place + number) % 3)
        mask[8:24, left : left + 16] = label
    return mask


class Machine(RuleBasedStateMachine):
    """The calls that both kinds of propagators share.

    The model is the list of calls since the last reset. `check` replays it in a new propagator and compares.
    """

    propagator: Any
    calls: list[tuple[str, Any]]
    saved: tuple[dict[str, torch.Tensor], list[tuple[str, Any]]] | None

    def labels_of(self, number: int) -> Any:
        raise NotImplementedError

    def make(self, number: int, labels: Any) -> Any:
        raise NotImplementedError

    def result(self, propagator: Any) -> list[Any]:
        raise NotImplementedError

    @initialize(number=NUMBERS)
    def start(self, number: int) -> None:
        labels = self.labels_of(number)
        self.propagator = self.make(number, labels)
        self.calls, self.saved = [("reset", (number, labels))], None

    @rule(number=NUMBERS)
    def step(self, number: int) -> None:
        self.propagator.step(frame_of(number))
        self.calls.append(("step", number))
        self.check()

    @rule(number=NUMBERS)
    def reset(self, number: int) -> None:
        labels = self.labels_of(number)
        self.propagator.reset(frame_of(number), labels)
        self.calls = [("reset", (number, labels))]
        self.check()

    @rule()
    def save(self) -> None:
        self.saved = self.propagator.state_dict(), list(self.calls)

    @precondition(lambda self: self.saved is not None)
    @rule(elsewhere=st.booleans())
    def load(self, elsewhere: bool) -> None:
        assert self.saved is not None
        if elsewhere:
            self.propagator = self.make(7, self.labels_of(7))
        self.propagator.load_state_dict(self.saved[0])
        self.calls = list(self.saved[1])
        self.check()

    @rule()
    def copy(self) -> None:
        left, self.propagator = self.propagator, copy.deepcopy(self.propagator)
        left.step(frame_of(3))  # what happens to the original is nothing to the copy
        self.check()

    @rule(call=st.sampled_from(["step", "add", "reset"]))
    def give_what_does_not_fit(self, call: str) -> None:
        small, labels = frame_of(0)[:, :-8], self.labels_of(1)
        arguments = {"step": (small,), "add": (small, labels), "reset": (frame_of(0), np.zeros((1, 5)))}[call]
        with pytest.raises(ValueError):  # noqa: PT011  # the messages are tested elsewhere
            getattr(self.propagator, call)(*arguments)
        self.check()

    @rule()
    def load_what_does_not_fit(self) -> None:
        state = dict(self.propagator.state_dict())
        del state["features"]
        with pytest.raises(ValueError, match="the state lacks features"):
            self.propagator.load_state_dict(state)
        self.check()

    def check(self) -> None:
        """Compare with a replay of the calls, now and one frame later."""
        (_, first), *calls = self.calls
        replay = self.make(*first)
        for name, arguments in calls:
            if name == "step":
                replay.step(frame_of(arguments))
            elif name == "add":
                replay.add(frame_of(arguments[0]), arguments[1])
            else:
                replay.remove(arguments)
        ahead = copy.deepcopy(self.propagator), replay
        for _ in range(2):
            for ours, theirs in zip(*(self.result(each) for each in ahead), strict=True):
                assert np.array_equal(ours, theirs, equal_nan=True)
            for each in ahead:
                each.step(frame_of(5))


class Labels(Machine):
    """A LabelPropagator."""

    def labels_of(self, number: int) -> Any:
        return mask_of(number, [1, 4])

    def make(self, number: int, labels: Any) -> Any:
        return LabelPropagator(frame_of(number), labels, ENCODER, size=(HEIGHT, WIDTH), config=CONFIG)

    def result(self, propagator: Any) -> list[Any]:
        return [propagator.decode(), propagator.labels.numpy(), np.array(propagator.ids)]

    @rule(number=NUMBERS, ids=st.lists(st.integers(0, 5), max_size=3, unique=True))
    def add(self, number: int, ids: list[int]) -> None:
        mask = mask_of(number, ids)
        self.propagator.add(frame_of(number), mask)
        self.calls.append(("add", (number, mask)))
        self.check()

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        objects = [label for label in self.propagator.ids if label]
        gone = data.draw(st.lists(st.sampled_from(objects), unique=True)) if objects else []
        self.propagator.remove(gone)
        self.calls.append(("remove", gone))
        self.check()

    @rule()
    def remove_what_is_not_there(self) -> None:
        with pytest.raises(ValueError, match="are not propagated"):
            self.propagator.remove([99])
        self.check()


class Keypoints(Machine):
    """A KeypointPropagator."""

    def labels_of(self, number: int) -> Any:
        return np.array([[4.0 + number, 10.0], [30.0, 20.0]], np.float32)

    def make(self, number: int, labels: Any) -> Any:
        return KeypointPropagator(frame_of(number), labels, ENCODER, size=(HEIGHT, WIDTH), config=CONFIG)

    def result(self, propagator: Any) -> list[Any]:
        return [propagator.points, propagator.scores]

    @rule(number=NUMBERS, more=st.integers(0, 2), hidden=st.booleans())
    def add(self, number: int, more: int, hidden: bool) -> None:
        count = len(self.propagator.points) + more
        points = np.stack([np.linspace(2, WIDTH - 3, count), np.full(count, number % HEIGHT)], axis=1)
        points[0] = np.nan if hidden else points[0]
        self.propagator.add(frame_of(number), points)
        self.calls.append(("add", (number, points)))
        self.check()


@pytest.mark.filterwarnings("ignore:ids .* are too small")
@pytest.mark.usefixtures("one_thread")
class TestLabels(Labels.TestCase):  # type: ignore[name-defined,misc]
    settings = CALLS


@pytest.mark.usefixtures("one_thread")
class TestKeypoints(Keypoints.TestCase):  # type: ignore[name-defined,misc]
    settings = CALLS
