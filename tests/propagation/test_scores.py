"""Doubt: objects that are lost are named, get no pixels, and are found again; what is kept does not grow."""

import csv
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from siammae import LabelPropagator, PropagationConfig, propagate_labels
from siammae.encoder import Encoder
from siammae.models import load_model
from siammae.propagation import folder as folders
from siammae.propagation import propagate_to_folder
from siammae.propagation.scenes import Scene
from siammae.propagation.scores import Looks
from siammae.propagation.table import DRAFT_FILE, SCORES_FILE, describe_lost, read_lost
from siammae.synthetic import render_clip
from siammae.visualize import overlay

Frames = NDArray[np.uint8]
CONFIG = {"radius": 2, "edges": "none", "context_frames": 4}
SIZE = (64, 160)
OBJECT = slice(24, 40)


def pillar(steps: int = 13) -> tuple[Frames, NDArray[np.uint8]]:
    """A textured square that moves 8 pixels a frame, goes behind a pillar of 56 pixels and comes out: frames and masks."""
    generator = np.random.default_rng(3)
    ground = generator.integers(0, 90, (*SIZE, 3), dtype=np.uint8)
    thing = generator.integers(160, 256, (16, 16, 3), dtype=np.uint8)
    frames, masks = [], []
    for step in range(steps):
        frame, mask, left = ground.copy(), np.zeros(SIZE, np.uint8), 16 + 8 * step
        frame[OBJECT, left : left + 16], mask[OBJECT, left : left + 16] = thing, 1
        frame[:, 48:104], mask[:, 48:104] = [10, 120, 10], 0
        frames.append(frame)
        masks.append(mask)
    return np.stack(frames), np.stack(masks)


def jaccard(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(((one == 1) & (other == 1)).sum() / ((one == 1) | (other == 1)).sum())


def test_an_object_that_comes_out_behind_a_pillar_is_found_again(colours: Encoder) -> None:
    frames, truth = pillar()
    masks, scores = propagate_labels(frames, truth[0], colours, size=SIZE, config=CONFIG, return_scores=True)
    hidden = [index for index, mask in enumerate(truth) if not mask.any()]
    assert hidden
    assert scores.lost[hidden, 0].all()
    assert not masks[hidden].any()
    assert not scores.lost[-1, 0]
    assert jaccard(masks[-1], truth[-1]) > 0.7
    without = propagate_labels(frames, truth[0], colours, size=SIZE, config={**CONFIG, "keep_lost": True})
    assert jaccard(without[-1], truth[-1]) < 0.1


@pytest.mark.parametrize("size", [(64, 96), (8, 8)])
def test_an_object_that_fills_the_frame_is_not_lost(
    colours: Encoder, texture: NDArray[np.uint8], size: tuple[int, int]
) -> None:
    frames = np.stack([texture[: size[0], : size[1]]] * 3)
    mask = np.full(size, 3, np.uint8)
    masks, scores = propagate_labels(frames, mask, colours, size=size, config=CONFIG, return_scores=True)
    assert np.array_equal(masks, np.stack([mask] * 3))
    assert not scores.lost.any()
    soft = propagate_labels(frames, np.ones((1, *size), np.float32), colours, size=size, config=CONFIG)
    assert soft.min() > 0.99


@pytest.fixture(scope="module")
def small() -> Encoder:
    return load_model("vitt8d6")


@pytest.mark.parametrize("kind", ["black", "white", "noise", "foreign"])
def test_frames_without_the_object_are_lost_and_the_next_ones_are_not(small: Encoder, kind: str) -> None:
    clip = render_clip(6, (128, 192), num_objects=1, seed=1)
    frames = clip.frames.copy()
    noise = np.random.default_rng(9).integers(0, 256, (2, 128, 192, 3), dtype=np.uint8)
    foreign = np.stack([pillar(1)[0][0].repeat(2, axis=0).repeat(2, axis=1)[:, :192]] * 2)
    frames[2:4] = {"black": 0, "white": 255, "noise": noise, "foreign": foreign}[kind]
    first = np.uint8(clip.masks[0] > 0)
    masks, scores = propagate_labels(frames, first, small, size=128, return_scores=True)
    assert scores.lost[:, 0].tolist() == [False, False, True, True, False, False]
    assert [bool(mask.any()) for mask in masks] == [True, True, False, False, True, True]


@pytest.mark.parametrize("name", ["vits8", "vitt8d6", "vitt8d6-features"])
def test_a_cut_to_another_shot_loses_the_object_until_its_own_shot_is_back(name: str, real_data: Path) -> None:
    shots = real_data / "davis2016"
    camel = [shots / "JPEGImages/480p/camel" / f"{index:05d}.jpg" for index in range(3)]
    others = [shots / "JPEGImages/480p" / sequence / "00008.jpg" for sequence in ("cows", "blackswan")]
    model = load_model(name)
    propagator = LabelPropagator(camel[0], shots / "Annotations/480p/camel/00000.png", model)
    black = np.zeros((*propagator.step(camel[1]).shape, 3), np.uint8)
    assert not propagator.scores.lost.any()
    for frame in (others[0], black, others[1]):
        assert not propagator.step(frame).any()
        assert propagator.scores.lost.all()
        assert propagator.scores.score.tolist() == [0]
    assert propagator.step(camel[2]).any()
    assert not propagator.scores.lost.any()


def test_no_frame_is_foreign_at_zero(colours: Encoder) -> None:
    frames, truth = pillar(2)
    for value, lost in ((0.0, False), (0.9, True)):
        propagator = LabelPropagator(frames[0], truth[0], colours, size=SIZE, config={**CONFIG, "foreign_below": value})
        propagator.step(np.roll(frames[1], 64, axis=1))
        assert propagator.scores.lost.tolist() == [lost]


def test_frames_go_on_from_the_last_of_their_scene_and_from_the_anchor() -> None:
    ground = F.normalize(torch.randn(32, 12, 60, generator=torch.Generator().manual_seed(0)), dim=0)
    views = [ground[:, :, left : left + 20] for left in range(0, 40, 2)]
    scene = Scene()
    scene.anchor(views[0])
    for view in views[1:]:
        assert scene.continuity(view) > 0.8
        scene.keep(view)
    assert scene.continuity(views[0]) == pytest.approx(1, abs=1e-5)
    assert scene.continuity(views[-1]) == pytest.approx(1, abs=1e-5)
    assert scene.continuity(views[9]) < 0.2
    assert scene.continuity(torch.ones(32, 12, 20) / 32**0.5) == 0


def test_area_and_box_are_those_of_the_mask(colours: Encoder) -> None:
    frames, truth = pillar(2)
    masks, scores = propagate_labels(frames, truth[0], colours, size=SIZE, config=CONFIG, return_scores=True)
    assert scores.ids == [1]
    assert scores.box[0, 0].tolist() == [16, 24, 32, 40]
    for mask, area, box in zip(masks, scores.area[:, 0], scores.box[:, 0], strict=True):
        rows, columns = np.nonzero(mask)
        assert area == len(rows)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_keeping_the_lost_changes_no_mask(colours: Encoder) -> None:
    frames, truth = pillar()
    config = {**CONFIG, "keep_lost": True}
    kept = propagate_labels(frames, truth[0], colours, size=SIZE, config={**config, "lost_below": 1.0})
    assert np.array_equal(kept, propagate_labels(frames, truth[0], colours, size=SIZE, config={**config, "lost_below": 0.0}))
    assert all(PropagationConfig.preset(name).keep_lost for name in ("dino", "crw", "cropmae"))


def test_what_is_kept_does_not_grow_and_a_restored_propagator_goes_on(colours: Encoder) -> None:
    frames, truth = pillar()
    propagator, other = (LabelPropagator(frames[0], truth[0], colours, size=SIZE, config=CONFIG) for _ in range(2))
    sizes = []
    for index in [*range(1, 9), *range(1, 9)]:
        propagator.step(frames[index])
        sizes.append(sum(tensor.numel() for tensor in propagator.state_dict().values()))
    assert len(set(sizes)) == 1
    other.load_state_dict(propagator.state_dict())
    assert other.scores.score.tolist() == propagator.scores.score.tolist()
    for frame in frames[8:]:
        assert np.array_equal(propagator.step(frame), other.step(frame))
        assert other.scores.score.tolist() == propagator.scores.score.tolist()


def test_scores_follow_objects_that_are_added_and_removed(colours: Encoder) -> None:
    frames, truth = pillar(3)
    propagator = LabelPropagator(frames[0], truth[0], colours, size=SIZE, config=CONFIG)
    both = truth[1].copy()
    both[:16, 120:144] = 5
    propagator.add(frames[1], both)
    propagator.step(frames[2])
    assert propagator.scores.ids == [1, 5]
    assert not propagator.scores.lost.any()
    before = propagator.scores.score[1]
    propagator.remove([1])
    assert propagator.scores.ids == [5]
    assert propagator.scores.score.tolist() == [before]
    propagator.step(frames[2])
    assert propagator.scores.ids == [5]
    assert not propagator.scores.lost.any()


def test_soft_labels_and_masks_without_background_have_scores(colours: Encoder) -> None:
    frames, truth = pillar(2)
    soft = np.stack([truth[0] == 0, truth[0] == 1]).astype(np.float32)
    black = np.stack([frames[0], np.zeros_like(frames[0])])
    planes, scores = propagate_labels(black, soft, colours, size=SIZE, config=CONFIG, return_scores=True)
    assert scores.ids == [0, 1]
    assert scores.lost[1, 1]
    assert not planes[1, 1].any()
    full, scores = propagate_labels(black, truth[0] + 1, colours, size=SIZE, config=CONFIG, return_scores=True)
    assert scores.ids == [1, 2]
    assert scores.lost[1, 1]
    assert set(np.unique(full[1])) <= {0, 1}


def test_a_resumed_run_writes_the_same_table(colours: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, truth = pillar()
    monkeypatch.setattr(folders, "SECONDS_BETWEEN_STATES", 0.0)
    options = {"size": SIZE, "config": CONFIG, "start": 1, "progress": False}
    whole = propagate_to_folder(frames, truth[1], tmp_path / "whole", colours, **options)
    step = LabelPropagator.step
    calls = iter(range(100))

    def stops(self: LabelPropagator[NDArray[np.uint8]], frame: torch.Tensor) -> NDArray[np.uint8]:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return step(self, frame)

    monkeypatch.setattr(LabelPropagator, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        propagate_to_folder(frames, truth[1], tmp_path / "cut", colours, **options)
    monkeypatch.setattr(LabelPropagator, "step", step)
    cut = propagate_to_folder(frames, truth[1], tmp_path / "cut", colours, resume=True, **options)
    assert (cut / SCORES_FILE).read_bytes() == (whole / SCORES_FILE).read_bytes()
    assert not (cut / DRAFT_FILE).exists()
    with (cut / SCORES_FILE).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(len(frames)))
    hidden = {index for index, mask in enumerate(truth) if not mask.any()}
    assert hidden <= set(read_lost(cut))


def test_lost_objects_are_told_by_ranges_of_frames() -> None:
    lost = {**{frame: {2} for frame in range(31, 61)}, 70: {2, 5}}
    assert describe_lost(lost) == ["object 2 is lost in frames 31 to 60, 70", "object 5 is lost in frame 70"]


def test_an_overlay_marks_lost_objects_in_red() -> None:
    frame, mask = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
    mask[40:60, 40:60] = 1
    plain, marked = overlay(frame, mask), overlay(frame, mask, lost=[1])
    assert marked[50, 50, 0] > plain[50, 50, 0]
    assert (marked[:20] != plain[:20]).any()  # the line that names the object
    assert np.array_equal(overlay(frame, mask, lost=[]), plain)


def unit(*degrees: float) -> torch.Tensor:
    """Features [2, 1, w] of unit length, by their angles."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()])[:, None]


def test_signals_by_hand() -> None:
    looks = Looks(exclusive=False)
    looks.anchor(unit(0, 10, 90, 90), torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]))
    high = np.cos(np.deg2rad(10))
    low = (0 + np.cos(np.deg2rad(80))) / 2
    inside = torch.tensor([[True, True, False, False]])

    def cosines(*degrees: float) -> float:
        return float(np.cos(np.deg2rad(degrees)).mean())

    agreement, likeness, coverage = looks.signals(unit(-30, 60, 90, 90), inside, 0)  # type: ignore[misc]
    assert agreement == 0.5  # the cell at 60 degrees is nearer to 90 than to 10
    assert likeness == pytest.approx((cosines(30, 50) - low) / (high - low), abs=1e-5)
    assert coverage == pytest.approx((cosines(30, 40) - low) / (high - low), abs=1e-5)
    looks.remember(unit(-30, -30, -60, -60), torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]), [0])
    again = looks.signals(unit(-30, 60, 90, 90), inside, 0)
    assert again is not None
    assert again[1:] == pytest.approx((likeness, coverage), abs=1e-5)  # by the anchor alone
    assert looks.signals(unit(0, 0, 0, 0), torch.zeros(1, 4, dtype=torch.bool), 0) is None


def test_an_object_smaller_than_a_cell_is_known_by_its_strongest_cells() -> None:
    looks, cells = Looks(exclusive=True), unit(0, 90, 90, 90)
    looks.anchor(cells, torch.tensor([[[0.7, 1.0, 1.0, 1.0]], [[0.3, 0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]]))
    assert looks.signals(cells, torch.tensor([[True, False, False, False]]), 1) is not None
    assert looks.signals(cells, torch.tensor([[True, False, False, False]]), 2) is None  # nowhere at all


def test_area_of_soft_labels_counts_pixels_from_one_half_on(colours: Encoder, texture: Frames) -> None:
    soft = np.zeros((1, 64, 96), np.float32)
    soft[0, 8:24, 8:32], soft[0, 40:48, 40:64] = 1, 0.4
    soft[0, 32:40, 8:16] = 0.5
    frames = np.stack([texture[:64, :96]] * 2)
    _, scores = propagate_labels(frames, soft, colours, size=(64, 96), config=CONFIG, return_scores=True)
    assert (scores.area[0, 0], scores.box[0, 0].tolist()) == (16 * 24 + 64, [8, 8, 32, 40])


def test_many_ranges_of_lost_frames_are_shortened() -> None:
    (sentence,) = describe_lost({frame: {3} for frame in (1, 2, 5, 7, 9, 11, 13, 14, 17, 20)})
    assert sentence == "object 3 is lost in frames 1 to 2, 5, 7, 9, 11, 13 to 14 and 2 more ranges"


@pytest.mark.parametrize("name", [SCORES_FILE, DRAFT_FILE])
def test_lost_objects_are_read_by_frame_and_object(tmp_path: Path, name: str) -> None:
    rows = ["4,2,0.1000,1,0,0 0 0 0", "4,9,0.0500,1,0,0 0 0 0", "5,2,0.9000,0,7,1 1 3 5", "17,9,0.1500,1,0,0 0 0 0"]
    lines = (
        [f"{place},{row}" for place, row in enumerate(rows)]
        if name == DRAFT_FILE
        else ["frame,object,score,lost,area,box", *rows]
    )
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    assert read_lost(tmp_path) == {4: {2, 9}, 17: {9}}
    assert read_lost(tmp_path / "nowhere") == {}


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        PropagationConfig().top_k = 3  # type: ignore[misc]
