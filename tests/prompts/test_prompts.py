"""Masks from prompts: what the evidence means, that an object is found, that clicks correct it, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from siammae import Segmenter, segment
from siammae.encoder import Encoder
from siammae.prompts import evidence


class Colors(Encoder):
    """An encoder whose features are the mean colors of its patches."""

    def forward(self, images: torch.Tensor, *, layer: int = -1) -> torch.Tensor:
        return F.avg_pool2d(images, self.patch_size)


SIZE = (96, 160)
DISK = (48.0, 100.0, 30.0)  # row, column, radius
BOX = (66, 14, 134, 82)  # around it, with a margin


def draw_disk(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def draw_frame(*disks: tuple[np.ndarray, tuple[int, int, int]]) -> np.ndarray:
    """A frame [H, W, 3] of disks on a noisy green meadow."""
    frame = np.broadcast_to(np.array([60, 140, 70]), (*SIZE, 3)).copy()
    for disk, color in disks:
        frame[disk] = color
    return (frame + np.random.default_rng(0).integers(-12, 13, frame.shape)).clip(0, 255).astype(np.uint8)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.fixture(scope="module")
def colors() -> Encoder:
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, depth=1, patch_size=8)
    encoder = Encoder.from_timm(vit)
    encoder.__class__ = Colors
    return encoder


@pytest.fixture(scope="module")
def red_disk(colors: Encoder) -> Segmenter:
    return Segmenter(colors, draw_frame((draw_disk(*DISK), (200, 60, 50))), size=96)


def test_the_expected_steps_are_those_of_the_markov_chain() -> None:
    """Kemeny and Snell 1960: the sum of the powers of the steps among the unknown cells, applied to ones."""
    weights = evidence.affinity(F.normalize(torch.rand(12, 4, generator=torch.Generator().manual_seed(0)), dim=1))
    unknown = torch.arange(12) < 7
    chain = (weights / weights.sum(dim=1, keepdim=True))[:7, :7].double()
    expected, power = torch.zeros(7, dtype=torch.float64), torch.ones(7, dtype=torch.float64)
    for _ in range(3000):
        expected, power = expected + power, chain @ power
    torch.testing.assert_close(evidence.steps_to_background(weights, unknown).double(), expected, rtol=1e-3, atol=0)


def test_the_chance_to_reach_a_click_is_that_of_the_markov_chain() -> None:
    weights = evidence.affinity(F.normalize(torch.rand(12, 4, generator=torch.Generator().manual_seed(0)), dim=1))
    ends = torch.tensor([1.0, -1.0] + [0.0] * 10)
    chain = (weights / weights.sum(dim=1, keepdim=True)).double() / (1 + evidence.LEAK)
    chance = (ends > 0).double()
    for _ in range(3000):
        chance = torch.where(ends == 0, chain @ chance, chance)
    torch.testing.assert_close(evidence.chance_to_reach(weights, ends).double(), chance, rtol=1e-3, atol=1e-6)


def test_shares_mix_between_similar_cells_alone() -> None:
    weights = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    smooth = evidence.smooth_shares(weights, torch.tensor([1.0, 0, 0, 0]))
    trust = evidence.TRUST
    torch.testing.assert_close(smooth, torch.tensor([1 + trust, 1, 0, 0]) / (2 + trust))


def test_the_split_has_the_largest_variance_between_its_groups() -> None:
    values = torch.cat([torch.randn(30, generator=torch.Generator().manual_seed(1)), torch.tensor([8.0, 9.0, 8.5])])
    threshold = evidence.split(values)

    def within(threshold: float) -> float:
        groups = values[values <= threshold], values[values > threshold]
        return sum(float((group - group.mean()).square().sum()) for group in groups)

    assert 3 < threshold < 8
    assert all(within(threshold) <= within(float(value)) + 1e-4 for value in values if value < values.max())


def test_a_click_corrects_its_own_cell_and_similar_ones_near_it() -> None:
    before = torch.tensor([-1.0, -1.0, -1.0, 2.0])
    similarity = torch.tensor([[1.0], [0.9], [0.1], [0.9]])
    after = evidence.correct(before, similarity, torch.tensor([[0.0], [1], [1], [1]]), torch.tensor([0]), torch.tensor([True]))
    assert after[0] == pytest.approx(evidence.CERTAIN, abs=0.05)
    assert before[1] < before[1] + 0.5 < after[1] < after[0]
    assert after[2] < -0.9
    far = evidence.correct(before, similarity, torch.full((4, 1), 50.0), torch.tensor([3]), torch.tensor([True]))
    torch.testing.assert_close(far, before)  # it agreed with the evidence already


def test_a_box_becomes_the_object_in_it(red_disk: Segmenter) -> None:
    mask = red_disk.segment(box=BOX)
    assert mask.shape == SIZE
    assert mask.dtype == np.uint8
    assert iou(mask == 1, draw_disk(*DISK)) > 0.95


def test_a_mask_stays_in_its_box(red_disk: Segmenter) -> None:
    mask = red_disk.segment(box=(66, 14, 100, 82))
    assert mask[:, :66].sum() == mask[:, 101:].sum() == 0
    assert mask[:, 95:101].any()


def test_a_click_alone_finds_what_looks_like_it(red_disk: Segmenter) -> None:
    assert iou(red_disk.segment(points=[[100, 48]]) == 1, draw_disk(*DISK)) > 0.9


def test_a_rough_mask_becomes_the_object_under_it(red_disk: Segmenter) -> None:
    rough = draw_disk(48, 96, 40)
    assert iou(rough, draw_disk(*DISK)) < 0.6
    assert iou(red_disk.segment(mask=rough) == 1, draw_disk(*DISK)) > 0.9


def test_a_mask_that_fits_stays_and_a_click_corrects_it(red_disk: Segmenter) -> None:
    disk = draw_disk(*DISK)
    assert iou(red_disk.segment(mask=disk) == 1, disk) > 0.93
    too_much = disk | draw_disk(20, 20, 14)
    assert iou(red_disk.segment(mask=too_much, points=[[20, 20]], labels=[0]) == 1, disk) > 0.9


def test_clicks_add_to_a_box_and_take_away(colors: Encoder) -> None:
    red, blue = draw_disk(48, 60, 20), draw_disk(48, 110, 20)
    segmenter = Segmenter(colors, draw_frame((red, (200, 60, 50)), (blue, (60, 60, 220))), size=96)
    both = {"box": (30, 20, 140, 76)}
    assert iou(segmenter.segment(**both) == 1, red | blue) > 0.9
    assert iou(segmenter.segment(**both, points=[[110, 48], [60, 48]], labels=[0, 1]) == 1, red) > 0.9
    assert iou(segmenter.segment(**both, points=[[60, 48], [110, 48]], labels=[0, 1]) == 1, blue) > 0.9
    assert iou(segmenter.segment(mask=red, points=[[110, 48]]) == 1, red | blue) > 0.8


def test_several_objects_share_one_mask(colors: Encoder) -> None:
    red, blue = draw_disk(48, 50, 20), draw_disk(48, 110, 20)
    frame = draw_frame((red, (200, 60, 50)), (blue, (60, 60, 220)))
    boxes = [(26, 24, 74, 72), (86, 24, 134, 72)]
    mask = segment(frame, box=boxes, model=colors, size=96)
    assert iou(mask == 1, red) > 0.9
    assert iou(mask == 2, blue) > 0.9
    named = segment(frame, box={7: boxes[0]}, points={200: [[110, 48]]}, model=colors, size=96)
    assert set(np.unique(named)) == {0, 7, 200}
    assert iou(named == 200, blue) > 0.9


def test_frames_of_every_form_give_one_mask(colors: Encoder, red_disk: Segmenter) -> None:
    frame = draw_frame((draw_disk(*DISK), (200, 60, 50)))
    as_tensor = segment(torch.from_numpy(frame).permute(2, 0, 1), box=BOX, model=colors, size=96)
    assert (as_tensor == red_disk.segment(box=BOX)).all()


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ({}, "there is no prompt"),
        ({"box": (10, 10, 10, 40)}, r"box 1 \(10, 10, 10, 40\) has no area"),
        ({"box": (30, 10, 20, 40)}, "expected left < right"),
        ({"box": (200, 10, 240, 40)}, "lies outside the frame of 160 x 96 pixels"),
        ({"box": (10, 10, 40)}, r"box 1 has shape \[3\]"),
        ({"box": (10, 10, 40, float("nan"))}, "not finite"),
        ({"box": "all"}, "box is 'all'"),
        ({"box": {0: (10, 10, 40, 40)}}, "box has the id 0"),
        ({"box": {"dog": (10, 10, 40, 40)}}, "an id of box is 'dog'"),
        ({"box": {}}, "box is empty"),
        ({"box": (0, 0, 159, 95)}, "object 1 fills the whole frame"),
        ({"mask": draw_disk(10, 10, 1)}, "object 1 is lost on the grid"),
        ({"box": BOX, "points": [[160, 10]]}, r"point \(160, 10\) of object 1 lies outside the frame"),
        ({"box": BOX, "points": [[20, 20]]}, "outside its box"),
        ({"points": [[20, 20], [22, 22]], "labels": [1, 0]}, "contradict each other: they lie in one cell"),
        ({"points": {1: [[20, 20]], 2: [[22, 22]]}}, "of object 1 and .* of object 2 contradict each other"),
        ({"points": [[20, 20]], "labels": [0]}, "only minus clicks"),
        ({"points": [[20, 20]], "labels": [2]}, r"labels of object 1 are \[2\]"),
        ({"points": [[20, 20]], "labels": [1, 1]}, "for each of 1 points"),
        ({"points": [20, 20]}, r"\[K, 2\]"),
        ({"labels": [1], "box": BOX}, "there are no points"),
        ({"points": {1: [[20, 20]]}, "labels": [1]}, "expected labels by id too"),
        ({"points": {1: [[20, 20]]}, "labels": {2: [1]}}, r"labels have ids \[2\]"),
        ({"box": [BOX, BOX], "points": [[100, 48]]}, "give them by id"),
        ({"mask": np.ones((4, 4), np.uint8)}, "the mask has 4 x 4 pixels; expected the frame's 160 x 96"),
        ({"mask": np.zeros(SIZE, np.uint8)}, "nothing but background"),
        ({"mask": np.full(SIZE, 1, np.float32)[None]}, "soft labels"),
        ({"mask": np.where(draw_disk(*DISK), 300, 0)}, "ids 300 to 300"),
    ],
)
def test_prompts_that_cannot_be(red_disk: Segmenter, prompt: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        red_disk.segment(**prompt)


def test_a_grid_that_is_too_fine_is_refused(colors: Encoder) -> None:
    with pytest.raises(ValueError, match="more than 8192"):
        Segmenter(colors, draw_frame(), size=720)


def test_a_small_box_is_looked_at_closely_and_its_view_is_kept(colors: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    small = draw_disk(30, 50, 9)
    seen: list[torch.Size] = []
    plain = type(colors).forward

    def forward(self: Encoder, images: torch.Tensor, *, layer: int = -1) -> torch.Tensor:
        seen.append(images.shape)
        return plain(self, images, layer=layer)

    monkeypatch.setattr(type(colors), "forward", forward)
    segmenter = Segmenter(colors, draw_frame((small, (200, 60, 50))), size=96)
    assert seen == [(1, 3, 96, 160)]
    box = (39, 19, 61, 41)
    assert iou(segmenter.segment(box=box) == 1, small) > 0.9
    assert len(seen) == 2
    assert seen[1][2] > 3 * 45 * 96 / 160
    segmenter.segment(box=box, points=[[50, 30]])
    assert len(seen) == 2


def test_one_call_encodes_a_small_box_alone(colors: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = type(colors).forward
    monkeypatch.setattr(type(colors), "forward", lambda self, images, layer=-1: calls.append(1) or plain(self, images))
    segment(draw_frame((draw_disk(30, 50, 9), (200, 60, 50))), box=(39, 19, 61, 41), model=colors, size=96)
    assert len(calls) == 1
