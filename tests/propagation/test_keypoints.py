"""KeypointPropagator: the verbs of LabelPropagator for points."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from siammae import KeypointPropagator, PropagationConfig, propagate_keypoints
from siammae.encoder import Encoder
from siammae.labels import read_tracks, write_tracks
from siammae.propagation import propagate_keypoints_to_file
from siammae.visualize import draw_keypoints

Frames = NDArray[np.uint8]
SIZE = (96, 128)
NEAR = {"top_k": 1, "radius": 2, "foreign_below": 0}  # textures of noise move by more than a cell
NAN = [np.nan, np.nan]
FIRST, SECOND = [44.0, 40.0], [76.0, 56.0]


def moving(texture: Frames, num_frames: int, step: int = 8) -> Frames:
    """A window over the texture that moves left by `step` pixels a frame: what it shows moves right."""
    return np.stack([texture[64:160, 64 - t * step : 192 - t * step] for t in range(num_frames)])


def make(frame: Frames, points: Any, encoder: Encoder, **config: Any) -> KeypointPropagator[Any]:
    return KeypointPropagator(frame, points, encoder, size=SIZE, config={**NEAR, **config})


@pytest.mark.parametrize("preset", ["default", "dino", "crw"])
@pytest.mark.parametrize("tensors", [False, True])
def test_streaming_equals_batch_bit_for_bit(encoder: Encoder, texture: Frames, preset: str, tensors: bool) -> None:
    frames, points = moving(texture, 6), np.array([FIRST, SECOND, NAN])
    given: Any = torch.from_numpy(points) if tensors else points
    tracks, scores = propagate_keypoints(frames, given, encoder, size=96, config=preset)
    propagator = KeypointPropagator(frames[0], given, encoder, size=96, config=preset)
    for t in range(6):
        now = propagator.step(frames[t]) if t else (propagator.points, propagator.scores)
        for actual, expected in zip(now, (tracks[t], scores[t]), strict=True):
            assert type(actual) is type(given)
            assert np.array_equal(actual, expected, equal_nan=True)
            assert actual.dtype == expected.dtype == (torch.float32 if tensors else np.float32)


@pytest.mark.parametrize("preset", ["default", "dino"])
@pytest.mark.parametrize("kind", ["black", "noise"])
def test_points_are_lost_in_a_foreign_frame_and_are_back_afterwards(
    colours: Encoder, texture: Frames, preset: str, kind: str
) -> None:
    frames = moving(texture, 5)
    noise = np.random.default_rng(5).integers(0, 256, frames[2].shape, dtype=np.uint8)
    frames[2] = noise if kind == "noise" else 0
    propagator = make(frames[0], [FIRST, SECOND], colours, preset=preset, foreign_below=0.35)
    for t, frame in enumerate(frames[1:], start=1):
        points, scores = propagator.step(frame)
        if preset == "dino":  # a script's protocol knows no lost points
            assert np.isfinite(points).all()
        elif t == 2:
            assert np.isnan(points).all()
            assert not scores.any()
        else:
            assert np.abs(points - [[x + 8 * t, y] for x, y in (FIRST, SECOND)]).max() < 3
            assert scores.all()


def test_a_correction_takes_the_point_to_another_place(colours: Encoder, texture: Frames) -> None:
    frames = moving(texture, 5)
    propagator = make(frames[0], [FIRST], colours)
    propagator.step(frames[1])
    propagator.add(frames[1], [[80.0, 64.0]])
    assert propagator.points.tolist() == [[80.0, 64.0]]
    assert propagator.scores.tolist() == [1]
    for t in range(2, 5):
        points, _ = propagator.step(frames[t])
        assert np.abs(points - [[80 + 8 * (t - 1), 64]]).max() < 2


@pytest.mark.parametrize("near", [[60.0, 60.0], [47.0, 43.0]], ids=["another cell", "the same cell"])
def test_points_may_be_added_midway_and_leave_the_others_alone(colours: Encoder, texture: Frames, near: list[float]) -> None:
    frames = moving(texture, 6)
    propagator, alone = make(frames[0], [FIRST], colours), make(frames[0], [FIRST], colours)
    for t in (1, 2):
        propagator.step(frames[t])
        alone.step(frames[t])
    now = propagator.points[0]
    propagator.add(frames[2], [now, near])
    alone.add(frames[2], [now])
    for t in range(3, 6):
        points, scores = propagator.step(frames[t])
        kept, kept_scores = alone.step(frames[t])
        assert np.array_equal(points[0], kept[0])
        assert scores[0] == kept_scores[0]
        assert np.abs(points[1] - [near[0] + 8 * (t - 2), near[1]]).max() < 4


def test_a_new_point_is_known_to_the_earlier_anchors_too(colours: Encoder, texture: Frames) -> None:
    still = moving(texture, 1)[0]
    hidden = still.copy()
    hidden[:] = 0  # nothing of the second anchor can be found again
    propagator = make(still, [FIRST], colours, context_frames=0)
    propagator.add(still, [FIRST, SECOND])
    features = propagator.state_dict()["labels"]  # [2, 2, h, w], the newest anchor first
    assert torch.allclose(features[1, 1], features[0, 1], atol=1e-4)
    assert torch.equal(features[1, 0], features[0, 0])


def test_a_point_that_is_not_visible_in_an_anchor_is_found_by_the_others(colours: Encoder, texture: Frames) -> None:
    frames = moving(texture, 3, step=0)
    propagator = make(frames[0], [FIRST, SECOND], colours, top_k=2)
    propagator.add(frames[1], [NAN, SECOND])
    assert propagator.scores.tolist() == [0, 1]
    points, scores = propagator.step(frames[2])
    assert np.abs(points - [FIRST, SECOND]).max() < 2
    assert scores[0] == pytest.approx(scores[1] / 2, abs=0.05)  # one of the two anchors knows it


def test_a_restored_propagator_goes_on_as_if_nothing_had_been(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 7)
    steady, restored = (make(frames[0], [FIRST, SECOND], encoder, context_frames=2) for _ in range(2))
    for t in range(1, 5):
        steady.step(frames[t])
    state = steady.state_dict()
    restored.load_state_dict(state)
    for _ in range(2):  # the state is a snapshot
        assert np.array_equal(restored.points, steady.points)
        assert np.array_equal(restored.scores, steady.scores)
        for t in (5, 6):
            steady.step(frames[t])
            restored.step(frames[t])
        assert np.array_equal(restored.points, steady.points)
        steady.load_state_dict(state)
        restored.load_state_dict(state)
    with pytest.raises(ValueError, match="frame 5 is 96 x 100 pixels"):
        restored.step(frames[5][:, :100])


def test_reset_forgets(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 3)
    propagator = KeypointPropagator(frames[0], [FIRST, SECOND], encoder, size=96, config=NEAR)
    propagator.step(frames[1])
    propagator.reset(frames[1][:80, :96], torch.tensor([[20.0, 30.0]]))
    fresh = KeypointPropagator(frames[1][:80, :96], torch.tensor([[20.0, 30.0]]), encoder, size=96, config=NEAR)
    after, expected = propagator.step(frames[2][:80, :96]), fresh.step(frames[2][:80, :96])
    assert all(torch.equal(a, b) for a, b in zip(after, expected, strict=True))


def test_a_refused_addition_changes_nothing(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 3)
    propagator, untouched = (make(frames[0], [FIRST, SECOND], encoder) for _ in range(2))
    for points, message in (
        ([FIRST], "there are 1 points; expected at least the 2 known so far"),
        ([FIRST, [128.0, 5.0]], r"point 1 is at \[128.0, 5.0\], outside the frame of 128 x 96"),
        ([[1.0, 2.0, 3.0]] * 2, r"\[2, 3\]; expected \[K, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            propagator.add(frames[1], points)
    with pytest.raises(ValueError, match="frame 1 is 96 x 100 pixels"):
        propagator.add(frames[1][:, :100], [FIRST, SECOND])
    assert np.array_equal(propagator.step(frames[1])[0], untouched.step(frames[1])[0])


def test_points_are_copied(encoder: Encoder, texture: Frames) -> None:
    points = torch.tensor([FIRST])
    propagator = make(moving(texture, 1)[0], points, encoder)
    points += 7
    assert propagator.points.tolist() == [FIRST]


def test_the_file_of_an_interrupted_run_holds_the_frames_before(colours: Encoder, texture: Frames, tmp_path: Path) -> None:
    frames, points0 = moving(texture, 3), [FIRST, SECOND]

    def interrupted() -> Iterator[Any]:
        yield from frames
        raise KeyboardInterrupt

    points = propagate_keypoints_to_file(frames, points0, tmp_path / "whole.csv", colours, size=SIZE)
    assert np.array_equal(points, propagate_keypoints(frames, points0, colours, size=SIZE)[0])
    with pytest.raises(KeyboardInterrupt):
        propagate_keypoints_to_file(interrupted(), points0, tmp_path / "cut.csv", colours, size=SIZE)
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert np.allclose(read_tracks(tmp_path / "cut.csv", 3, 2), points, atol=5e-4)


def test_redrawn_maps_spread_out_less(colours: Encoder, texture: Frames) -> None:
    """The texture moves by half a cell a frame, so every map is a mixture of neighboring cells."""

    def spread(**config: Any) -> float:
        frames = moving(texture, 9, step=4)
        propagator = KeypointPropagator(
            frames[0], [FIRST], colours, size=SIZE, config={"context_frames": 1, "foreign_below": 0, **config}
        )
        for frame in frames[1:]:
            propagator.step(frame)
        heat = propagator.state_dict()["last_labels"][0]
        return float(heat.sum() / heat.max())  # in cells

    assert spread(point_redraw=0.5) < 0.95 * spread(point_redraw=0)


def test_presets_keep_the_maps_that_were_propagated(colours: Encoder, texture: Frames) -> None:
    frames = moving(texture, 4, step=4)
    for preset in ("dino", "crw", "cropmae"):
        propagator = KeypointPropagator(frames[0], [FIRST], colours, size=SIZE, config=preset)
        for frame in frames[1:]:
            propagator.step(frame)
        state = propagator.state_dict()
        assert any(torch.equal(labels, state["last_labels"]) for labels in state["labels"])


def test_a_point_that_has_left_is_lost_until_it_comes_back(colours: Encoder, tmp_path: Path) -> None:
    still = np.random.default_rng(3).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    threshold = PropagationConfig().point_lost_below
    assert 0 < threshold < 0.5
    propagator = make(still, [FIRST, SECOND], colours, context_frames=0, restrict_anchors=False, top_k=2)
    propagator.add(still, [FIRST, NAN])
    for _ in range(2):
        propagator._propagator.relabel(lambda labels: labels * torch.tensor([1.0, threshold]).view(2, 1, 1))
    points, scores = propagator.step(still)
    assert np.abs(points[0] - FIRST).max() < 2
    assert np.isnan(points[1]).all()
    assert scores.tolist() == [pytest.approx(1, abs=1e-3), 0]
    write_tracks(tmp_path / "t.csv", points[None], scores[None])
    assert (tmp_path / "t.csv").read_text().splitlines()[2] == "0,1,,,0.0000"
    assert np.array_equal(draw_keypoints(still, points), draw_keypoints(still, points[:1]))
    propagator._propagator.relabel(lambda labels: labels / torch.tensor([1.0, threshold]).view(2, 1, 1) ** 2)
    points, scores = propagator.step(still)
    assert np.abs(points - [FIRST, SECOND]).max() < 2
    assert scores[1] > threshold


@pytest.mark.parametrize("preset", ["dino", "crw", "cropmae"])
def test_presets_give_every_point_a_place(encoder: Encoder, texture: Frames, preset: str) -> None:
    frames = moving(texture, 4)
    propagators = [
        KeypointPropagator(frames[0], [FIRST], encoder, size=96, config={"preset": preset, **changes})
        for changes in ({}, {"point_lost_below": 0.1})
    ]
    for propagator in propagators:
        propagator._propagator.relabel(lambda labels: labels * 1e-6)
    (kept, low), (lost, none) = (propagator.step(frames[1]) for propagator in propagators)
    assert np.isfinite(kept).all()
    assert 0 < low[0] < 2e-6
    assert np.isnan(lost).all()
    assert none[0] == 0
