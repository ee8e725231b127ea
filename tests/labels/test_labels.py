"""Masks and keypoints to soft labels on the grid, and back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from siammae.labels import (
    as_mask,
    davis_palette,
    grid_to_points,
    labels_to_grid,
    points_to_crw_grid,
    points_to_grid,
    redraw_points,
    resize_nearest,
    strongest_label,
    upsample,
)
from siammae.labels.grid import coverage

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(cells=st.integers(1, 20), pixels=st.integers(1, 60))
def test_cells_cover_all_pixels_equally(cells: int, pixels: int) -> None:
    table = coverage(cells, pixels)
    assert torch.allclose(table.sum(dim=1), torch.ones(cells), atol=1e-5)
    assert torch.allclose(table.sum(dim=0), torch.full((pixels,), cells / pixels), atol=1e-4)


@settings(deadline=None)
@given(size=sizes, grid=sizes, ids=st.sets(st.integers(-5, 300), min_size=1, max_size=5), seed=st.integers(0, 99))
@pytest.mark.parametrize("reduction", ["area", "bilinear", "nearest"])
def test_soft_labels_share_each_cell_out(
    reduction: str, size: tuple[int, int], grid: tuple[int, int], ids: set[int], seed: int
) -> None:
    values = np.random.default_rng(seed).choice(sorted(ids | {1}), size)
    values.flat[0] = 1
    mask = as_mask(values)
    soft = labels_to_grid(mask, mask.ids(), grid, reduction)
    assert soft.shape == (len(mask.ids()), *grid)
    assert soft.min() >= 0
    assert torch.allclose(soft.sum(dim=0), torch.ones(grid), atol=1e-4)


@settings(deadline=None)
@given(grid=st.tuples(st.integers(1, 6), st.integers(1, 6)), scale=st.integers(1, 5), seed=st.integers(0, 99))
@pytest.mark.parametrize("reduction", ["area", "nearest"])
def test_masks_made_of_whole_cells_survive_the_grid(reduction: str, grid: tuple[int, int], scale: int, seed: int) -> None:
    cells = np.random.default_rng(seed).choice([-3, 1, 70000], grid)
    mask = as_mask(cells.repeat(scale, axis=0).repeat(scale, axis=1))
    soft = labels_to_grid(mask, mask.ids(), grid, reduction)
    back = resize_nearest(strongest_label(soft, grid), mask.size)
    assert (np.array(mask.ids())[back.numpy()] == mask.values).all()


def test_area_is_the_exact_share_of_a_cell() -> None:
    values = np.zeros((3, 3), dtype=int)
    values[1, 1] = 1
    soft = labels_to_grid(as_mask(values), [0, 1], (2, 2), "area")
    assert torch.allclose(soft[1], torch.full((2, 2), 0.25 / 2.25))


def test_thin_objects_vanish_only_under_nearest() -> None:
    values = np.zeros((64, 64), dtype=np.uint8)
    values[:, 3] = 1
    mask = as_mask(values)
    assert labels_to_grid(mask, [0, 1], (4, 4), "nearest")[1].sum() == 0
    assert labels_to_grid(mask, [0, 1], (4, 4), "area")[1, :, 0].tolist() == [1 / 16] * 4


def test_bilinear_samples_at_cell_centers() -> None:
    plane = torch.zeros(1, 1, 4, 4)
    plane[0, 0, 1, 1] = 1
    soft = labels_to_grid(as_mask(plane[0].numpy()), [0], (2, 2), "bilinear")
    assert torch.equal(soft, F.interpolate(plane, size=(2, 2), mode="bilinear", align_corners=False)[0])
    assert soft[0, 0, 0] == 0.25


def test_strongest_label_agrees_with_a_dense_argmax_over_many_labels() -> None:
    soft = torch.rand(37, 5, 7, generator=torch.Generator().manual_seed(0))
    dense = upsample(soft, (41, 50)).argmax(dim=0)
    assert torch.equal(strongest_label(soft, (41, 50)), dense)


def test_normalizing_lets_a_weak_object_win_where_it_is_strongest() -> None:
    soft = torch.tensor([[0.9, 0.6, 0.9], [0.1, 0.4, 0.1]])[:, None]  # background and an object, [2, 1, 3]
    assert strongest_label(soft, (1, 3)).tolist() == [[0, 0, 0]]
    assert strongest_label(soft, (1, 3), normalize=True).tolist() == [[0, 1, 0]]
    empty = torch.stack([soft[0], torch.zeros(1, 3)])
    assert strongest_label(empty, (1, 3), normalize=True).tolist() == [[0, 0, 0]]


def test_palette_is_that_of_davis() -> None:
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128]]
    assert davis_palette()[:8].tolist() == expected
    assert davis_palette()[[8, 255]].tolist() == [[64, 0, 0], [224, 224, 192]]
    assert len(np.unique(davis_palette(), axis=0)) == 256


@settings(deadline=None)
@given(x=st.floats(0, 12), y=st.floats(0, 6))
def test_points_survive_the_grid(x: float, y: float) -> None:
    heat = points_to_grid(torch.tensor([[x, y]]), (7, 13))
    points, scores = grid_to_points(heat, top_k=9)
    assert scores.item() == pytest.approx(1)
    assert torch.allclose(points, torch.tensor([[x, y]]), atol=0.3)


def test_invisible_points_have_no_heat_and_come_back_invisible() -> None:
    heat = points_to_grid(torch.tensor([[float("nan"), 2.0], [1.0, 2.0]]), (4, 5))
    assert heat[0].sum() == 0
    points, scores = grid_to_points(heat)
    assert points[0].isnan().all()
    assert points[1].isfinite().all()
    assert scores.tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, bool])
def test_arrays_and_tensors_come_back_as_they_were(dtype: type) -> None:
    values = np.array([[0, 1], [1, 0]], dtype=dtype)
    mask = as_mask(values)
    assert mask.like(mask.values).dtype == dtype
    tensor = torch.from_numpy(values)
    back = as_mask(tensor).like(as_mask(tensor).values.astype(np.int64))
    assert torch.equal(back, tensor)
    assert back.dtype == tensor.dtype


@pytest.mark.parametrize("mode", ["P", "L", "1", "I"])
def test_pictures_come_back_as_they_were(mode: str) -> None:
    values = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    picture = Image.fromarray(values * 255).convert("1") if mode == "1" else Image.fromarray(values).convert(mode)
    if mode == "P":
        picture = Image.fromarray(values)
        picture.putpalette(list(range(255, -1, -1)) * 3)
    mask = as_mask(picture)
    back = mask.like(mask.values)
    assert (np.array(back) == np.array(picture)).all()
    assert back.mode == picture.mode
    assert back.getpalette() == picture.getpalette()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 4), dtype=int), "nothing but background"),
        (np.zeros((2, 4, 4), dtype=np.float32), "nothing but background"),
        (np.full((1, 4, 4), 1.5, dtype=np.float32), r"from 0 to 1.5; expected \[0, 1\]"),
        (np.full((1, 4, 4), np.nan, dtype=np.float32), r"expected \[0, 1\]"),
        (np.ones((4, 4), dtype=np.float32), r"\[4, 4\] and type float32; expected integer or bool ids \[H, W\]"),
        (np.ones((4, 4, 3), dtype=np.uint8), r"\[4, 4, 3\] and type uint8; expected"),
        (Image.new("RGB", (4, 4), "red"), "RGB picture; expected ids"),
        ([[1, 0]], "is a list; expected"),
    ],
)
def test_masks_that_cannot_be(mask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_mask(mask)


@pytest.mark.parametrize("apart", [1, 16, 17, 32])
def test_ties_between_labels_go_to_the_lower_index(apart: int) -> None:
    soft = torch.zeros(40, 2, 3)
    soft[3] = soft[3 + apart] = 0.5
    assert (strongest_label(soft, (4, 6)) == 3).all()


def test_cells_far_from_the_highest_do_not_move_a_point() -> None:
    heat = torch.zeros(1, 5, 9)
    heat[0, 2, 1], heat[0, 2, 2], heat[0, 2, 8] = 1.0, 0.5, 0.9
    points, scores = grid_to_points(heat, top_k=30, radius=3)
    assert points[0].tolist() == pytest.approx([4 / 3, 2])
    assert scores.tolist() == [1]
    assert grid_to_points(heat, top_k=30)[0][0, 0] > 3
    assert torch.isnan(grid_to_points(heat * 0, top_k=30, radius=3)[0]).all()


def test_redrawn_points_are_a_mix_of_gaussian_and_map() -> None:
    heat = torch.rand(4, 5, 9, generator=torch.Generator().manual_seed(0)) / 3
    heat[3] = 0
    points = torch.tensor([[2.0, 3.0], [7.5, 1.0], [torch.nan, torch.nan], [1.0, 1.0]])
    mixed = redraw_points(heat, points, 0.25, sigma=0.75)
    expected = 0.25 * points_to_grid(points, (5, 9), 0.75) + 0.75 * heat / heat.amax(dim=(1, 2), keepdim=True)
    assert torch.equal(mixed[:2], expected[:2])
    assert torch.equal(mixed[2:], heat[2:])  # a lost point, and an empty map


def test_normalized_maps_span_0_to_1_each() -> None:
    soft = torch.tensor([[[0.5, 0.9, 0.6, 0.7]], [[0.2, 0.3, 0.4, 0.3]], [[0.3, 0.1, 0.3, 0.3]]])
    assert strongest_label(soft, (1, 4)).tolist() == [[0, 0, 0, 0]]
    assert strongest_label(soft, (1, 4), normalize=True).tolist() == [[2, 0, 1, 2]]  # 0, 1, .25, .5 | 0, .5, 1, .5 | 1, 0, 1, 1


@pytest.mark.parametrize("sigma", [0.5, 0.75])
def test_crws_maps_are_gaussians_around_whole_cells(sigma: float) -> None:
    size = int(np.ceil(6 * sigma + 1))
    (heat,) = points_to_crw_grid(torch.tensor([[7.0, 6.0]]), (20, 24), sigma)
    rows, columns = heat.nonzero().unbind(dim=1)
    assert (len(rows), heat.max()) == (size**2, 1)
    row, column = divmod(int(heat.argmax()), 24)
    for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
        assert float(heat[y, x]) == pytest.approx(np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2)), rel=1e-5)


def test_bool_masks_hold_two_ids() -> None:
    mask = as_mask(np.eye(2, dtype=bool))
    mask.check_ids([0, 1])
    for label in (-1, 2):
        with pytest.raises(ValueError, match="do not all fit into the bool"):
            mask.check_ids([0, label])
