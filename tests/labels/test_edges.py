"""Edges: soft labels enlarged along the picture's edges, against the published formulas written as loops in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siammae import LabelPropagator, propagate_labels
from siammae.encoder import Encoder
from siammae.labels import (
    EdgeFilter,
    as_mask,
    flatten_labels,
    labels_to_grid,
    strongest_label,
    to_shares,
    upsample,
)
from siammae.labels.edges import CHROMA, NEAR, PIXELS_PER_CELL, window_mean

Array = NDArray[np.float64]
GRID, FRAME = (3, 5), (30, 50)
COLOR, RADIUS, EPS = 0.2, 0.2, 1e-3


def smooth_noise(size: tuple[int, int], seed: int = 0) -> Tensor:
    """A picture [3, H, W] in [0, 1] of soft spots of color."""
    spots = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(spots, size=size, mode="bicubic", align_corners=False)[0].clamp(0, 1)


def some_labels(num: int, seed: int = 1) -> Tensor:
    return torch.softmax(4 * torch.randn(num, *GRID, generator=torch.Generator().manual_seed(seed)), dim=0)


def joint_bilateral(plane: Array, guide: Array) -> Array:
    """Equation 3 of Kopf et al. 2007 over the 3 x 3 cells around a pixel's own; outside the grid its nearest cell counts."""
    height, width = plane.shape
    guide = guide.mean(axis=0) + CHROMA * (guide - guide.mean(axis=0))
    colors = guide.reshape(3, height, PIXELS_PER_CELL, width, PIXELS_PER_CELL).mean(axis=(2, 4))
    result = np.zeros(guide.shape[1:])
    for y, x in np.ndindex(result.shape):
        total = weights = 0.0
        for row in range(y // PIXELS_PER_CELL - 1, y // PIXELS_PER_CELL + 2):
            for column in range(x // PIXELS_PER_CELL - 1, x // PIXELS_PER_CELL + 2):
                cell = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
                away = ((y + 0.5) / PIXELS_PER_CELL - 0.5 - row) ** 2 + ((x + 0.5) / PIXELS_PER_CELL - 0.5 - column) ** 2
                other = ((guide[:, y, x] - colors[:, *cell]) ** 2).sum()
                weight = np.exp(-away / (2 * NEAR**2) - other / (2 * COLOR**2))
                total, weights = total + weight * plane[cell], weights + weight
        result[y, x] = total / weights
    return result


def guided(plane: Array, guide: Array, radius: int) -> tuple[Array, Array]:
    """Equations 14 and 15 of He et al. 2013, and the means of 16: slopes [3, m, n] and offsets [m, n]."""
    height, width = plane.shape
    slopes, offsets = np.zeros((3, height, width)), np.zeros((height, width))

    def window(y: int, x: int) -> tuple[slice, slice]:
        return slice(max(0, y - radius), y + radius + 1), slice(max(0, x - radius), x + radius + 1)

    for y, x in np.ndindex(height, width):
        pixels, values = guide[:, *window(y, x)].reshape(3, -1), plane[window(y, x)].ravel()
        mean = pixels.mean(axis=1)
        covariance = pixels @ pixels.T / pixels.shape[1] - np.outer(mean, mean)
        slopes[:, y, x] = np.linalg.solve(covariance + EPS * np.eye(3), pixels @ values / len(values) - mean * values.mean())
        offsets[y, x] = values.mean() - slopes[:, y, x] @ mean
    means = np.zeros((4, height, width))
    for y, x in np.ndindex(height, width):
        means[:3, y, x] = slopes[:, *window(y, x)].mean(axis=(1, 2))
        means[3, y, x] = offsets[window(y, x)].mean()
    return means[:3], means[3]


@pytest.mark.parametrize("size", [FRAME, (12, 20)], ids=["at the frame's size", "at another size"])
def test_the_filter_is_that_of_the_papers(size: tuple[int, int]) -> None:
    frame, labels = smooth_noise(FRAME), some_labels(2)
    edges = EdgeFilter(frame, GRID, color=COLOR, radius=RADIUS, eps=EPS)

    def resize(planes: Any, size: tuple[int, int], antialias: bool) -> Array:
        tensor = torch.as_tensor(planes, dtype=torch.float64)
        return F.interpolate(tensor[None], size=size, mode="bilinear", antialias=antialias, align_corners=False)[0].numpy()

    guide = resize(frame, (GRID[0] * PIXELS_PER_CELL, GRID[1] * PIXELS_PER_CELL), True)
    picture = frame.double().numpy() if size == FRAME else resize(frame, size, True)
    for plane, enlarged in zip(labels.double().numpy(), edges(labels, size), strict=True):
        slopes, offsets = guided(joint_bilateral(plane, guide), guide, radius=2)  # a fifth of the guide's 12 rows
        expected = (resize(slopes, size, False) * picture).sum(axis=0) + resize(offsets[None], size, False)[0]
        assert np.abs(expected - enlarged.numpy()).max() < 1e-4


@pytest.mark.parametrize("radius", [1, 3, 30])
def test_window_means_leave_out_what_lies_outside(radius: int) -> None:
    planes = torch.rand(2, 7, 11, generator=torch.Generator().manual_seed(0))
    means = window_mean(planes, radius)
    for y, x in np.ndindex(7, 11):
        window = planes[:, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        assert torch.allclose(means[:, y, x], window.mean(dim=(1, 2)), atol=1e-6)


def test_a_gray_picture_is_no_special_case() -> None:
    frame = smooth_noise(FRAME)[:1].expand(3, -1, -1)  # the covariance of its colors has rank 1
    enlarged = EdgeFilter(frame, GRID, color=COLOR, radius=RADIUS, eps=1e-6)(some_labels(2), FRAME)
    gray = guided(np.ones((12, 20)), np.ones((3, 12, 20)), 2)
    assert np.allclose(gray[0], 0)
    assert torch.isfinite(enlarged).all()
    assert enlarged.abs().max() < 2
    assert torch.allclose(enlarged.sum(dim=0), torch.ones(FRAME), atol=1e-4)


def test_labels_do_not_influence_one_another_and_still_share_each_pixel_out() -> None:
    frame, labels = (255 * smooth_noise(FRAME)).byte(), some_labels(37)
    edges = EdgeFilter(frame, GRID, color=COLOR, radius=RADIUS, eps=EPS)
    together = edges(labels, FRAME)
    assert torch.allclose(together.sum(dim=0), torch.ones(FRAME), atol=1e-4)
    assert torch.allclose(together[20:21], edges(labels[20:21], FRAME), atol=1e-6)
    winner = strongest_label(labels, FRAME, enlarge=edges)  # 16 labels at a time
    assert torch.allclose(together.gather(0, winner[None])[0], together.amax(dim=0), atol=1e-6)
    assert torch.allclose(edges(torch.ones(1, *GRID), FRAME), torch.ones(1, *FRAME), atol=1e-5)


def test_flat_labels_keep_their_sum_and_order_and_come_back() -> None:
    labels = torch.tensor([[0.9, 0.2, 0.3, 0.0, 1.0], [0.1, 0.5, 0.0, 0.0, 0.8]])[:, None]
    flat = flatten_labels(labels, 0.5)
    assert torch.allclose(flat[:, 0, 0], torch.tensor([0.75, 0.25]))
    assert torch.allclose(flat[:, 0, 2], torch.tensor([0.3**0.5 / (0.3**0.5 + 0.7**0.5), 0]))  # 0.7 have no label
    assert torch.allclose(flat[:, 0, 4].sum(), torch.tensor(1.8))
    assert torch.equal(flat.argmax(dim=0), labels.argmax(dim=0))
    assert torch.allclose(flatten_labels(flat, 2), labels, atol=1e-6)


def test_shares_keep_the_sum_and_the_strongest_label() -> None:
    planes = torch.tensor([[1.3, -0.1, 0.5, 0.2], [-0.3, 1.1, 0.5, 0.3], [0.0, 0.0, 0.0, -0.1]])[:, None]
    shares = to_shares(planes)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert torch.allclose(shares.sum(dim=0), planes.sum(dim=0), atol=1e-6)
    assert torch.equal(shares.argmax(dim=0), planes.argmax(dim=0))


def disk(size: tuple[int, int] = (96, 128)) -> NDArray[np.uint8]:
    rows, columns = np.indices(size)
    return ((rows - 50) ** 2 + (columns - 60) ** 2 < 30**2).astype(np.uint8)


def painted(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A red disk on green, with a little noise: [H, W, 3]."""
    noise = np.random.default_rng(0).integers(0, 30, (*mask.shape, 3))
    return (np.where(mask[..., None], [190, 60, 40], [50, 140, 60]) + noise).astype(np.uint8)


def overlap(mask: Any, other: Any) -> float:
    return float((np.asarray(mask) & np.asarray(other)).sum() / (np.asarray(mask) | np.asarray(other)).sum())


def test_a_mask_follows_the_edges_of_its_object() -> None:
    mask = disk()
    frame = torch.from_numpy(painted(mask)).permute(2, 0, 1)
    soft = labels_to_grid(as_mask(mask), [0, 1], (6, 8))
    edges = EdgeFilter(frame, (6, 8), color=0.15, radius=0.017, eps=1e-4)
    plain, refined = (strongest_label(soft, mask.shape, enlarge=enlarge).numpy() for enlarge in (upsample, edges))
    assert overlap(plain, mask) < 0.95
    assert overlap(refined, mask) > 0.98


@pytest.mark.parametrize("changes", [{}, {"decode_at": "input"}, {"normalize_objects": True}], ids=str)
def test_edges_change_masks_and_soft_labels_but_never_the_context(encoder: Encoder, changes: dict[str, Any]) -> None:
    mask = disk()
    frames = [painted(mask)] * 3
    propagators = [
        LabelPropagator(frames[0], mask, encoder, size=96, config={"edges": edges, **changes}) for edges in ("guided", "none")
    ]
    for frame in frames[1:]:
        refined, plain = (propagator.step(frame) for propagator in propagators)
        assert overlap(refined, mask) > overlap(plain, mask) + 0.01
        assert torch.equal(propagators[0].labels, propagators[1].labels)
    soft = np.stack([1 - mask, mask]).astype(np.float32)
    maps = propagate_labels(frames, soft, encoder, size=96, config={"edges": "guided"})
    assert overlap(maps[2, 1] > 0.5, mask) > 0.97
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_a_restored_propagator_decodes_the_frame_it_was_saved_at(encoder: Encoder) -> None:
    mask = disk()
    frames = [np.roll(painted(mask), 4 * shift, axis=1) for shift in range(3)]
    propagator, other = (LabelPropagator(frames[0], mask, encoder, size=96) for _ in range(2))
    buffer = torch.from_numpy(frames[1]).permute(2, 0, 1).clone()
    expected = propagator.step(buffer)
    buffer.zero_()  # a camera writes its next frame to the same place
    assert np.array_equal(propagator.decode(), expected)
    other.load_state_dict(propagator.state_dict())
    assert np.array_equal(other.decode(), expected)
    assert np.array_equal(other.step(frames[2]), propagator.step(frames[2]))
