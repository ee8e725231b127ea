"""On the CPU every implementation of `siammae.ops.propagate` means what the reference means in float64; torch knows it."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from siammae import PropagationConfig, ops, read_frames
from siammae.encoder import Encoder
from siammae.features import encode
from siammae.geometry import Geometry, frame_size
from siammae.ops import Window, reference, tiled
from siammae.ops import dispatch as operator
from siammae.ops.reference import Search
from siammae.propagation.context import SoftPropagator

GAP = 1e-5  # similarities closer than this may be told apart differently in float32


def close_features(num: int, channels: int, height: int, width: int, *, noise: float = 0.5) -> Tensor:
    """Features [num, D, h, w] of unit length that are hard to tell apart: small deviations from one direction."""
    random = torch.Generator().manual_seed(num * channels + height)
    frames = 1 + noise * torch.randn(num, channels, height, width, generator=random)
    return F.normalize(frames, dim=1).contiguous(memory_format=torch.channels_last)


def agrees_with_float64(
    query: Tensor, context: Tensor, labels: Tensor, radii: Sequence[float], top_k: int, **options: Any
) -> None:
    """Demand the same matches, up to similarities that differ by less than GAP, and the same labels where none do."""
    mixed, matches = ops.propagate(
        query, context, labels, radius=radii, top_k=top_k, temperature=0.1, return_matches=True, **options
    )
    window, strict = options.get("window", "circle"), options.get("strict", False)
    exact = [tensor.double()[None] for tensor in (query, context, labels)]
    search = Search(radii, top_k, 0.1, window, strict, keep_ties=False)
    _, found, _ = reference.propagate(*exact, search._replace(top_k=top_k + 1))
    expected, values, _ = (part[0] for part in reference.propagate(*exact, search))
    assert torch.equal(matches.similarities == -math.inf, values == -math.inf)
    assert torch.equal(matches.indices == -1, values == -math.inf)
    torch.testing.assert_close(matches.similarities.double(), values, rtol=0, atol=GAP)
    clear = torch.ones_like(values[0], dtype=torch.bool)
    if found.shape[1] > top_k:
        clear = (found[0, top_k - 1] - found[0, top_k] > GAP) | (found[0, top_k] == -math.inf)
    assert clear.double().mean() > 0.5
    assert float((mixed.double() - expected).abs().amax(dim=0)[clear].max()) < 1e-4


SIZES = [  # grid, D, N, L, radius, k
    ((1, 1), 1, 1, 1, 0, 1),
    ((1, 40), 5, 3, 2, 4.5, 7),
    ((30, 1), 16, 2, 3, 2, 5),
    ((13, 29), 24, 4, 2, 6, 5),
    ((31, 26), 384, 2, 300, 3, 32),
    ((27, 25), 1280, 1, 2, math.inf, 10),
    ((12, 12), 64, 40, 5, 1, 32),
]


@pytest.mark.parametrize(("grid", "channels", "num", "labels", "radius", "top_k"), SIZES)
@pytest.mark.parametrize("options", [{}, {"window": "square"}, {"strict": True}], ids=["circle", "square", "strict"])
def test_tiles_agree_with_the_reference_in_float64(
    grid: tuple[int, int], channels: int, num: int, labels: int, radius: float, top_k: int, options: dict[str, Any]
) -> None:
    frames = close_features(num + 1, channels, *grid)
    soft = torch.rand(num, labels, *grid, generator=torch.Generator().manual_seed(1))
    radii = [radius + (options.get("strict", False) and radius == 0)] * num
    agrees_with_float64(frames[0], frames[1:], soft, radii, top_k, implementation="tiled", **options)


def test_a_large_grid_is_its_parts() -> None:
    frames, labels = close_features(3, 8, 135, 240), torch.rand(2, 2, 135, 240)
    options: dict[str, Any] = {"radius": 5, "top_k": 5, "temperature": 0.1}
    whole = ops.propagate(frames[0], frames[1:], labels, **options)
    for rows, columns in ((slice(0, 40), slice(0, 40)), (slice(100, 135), slice(205, 240)), (slice(50, 90), slice(100, 140))):
        part = (..., rows, columns)
        alone = ops.propagate(frames[0][part], frames[1:][part], labels[part], implementation="reference", **options)
        inner = (..., *(slice(0 if s.start == 0 else 5, None if s.stop in (135, 240) else -5) for s in (rows, columns)))
        torch.testing.assert_close(whole[part][inner], alone[inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", ["circle", "square"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("radius", [0.29 * 100, 29 + 1e-8, 5**0.5, 25.000000001**0.5, 1e-30, 1e30])
def test_a_radius_is_rounded_in_one_way(window: Window, strict: bool, radius: float) -> None:
    exact = round(radius * radius, 3) if window == "circle" else round(radius, 3)  # as it was meant
    rows, columns = torch.meshgrid(torch.arange(-32, 33), torch.arange(-32, 33), indexing="ij")
    distance = rows**2 + columns**2 if window == "circle" else torch.maximum(rows.abs(), columns.abs())
    expected = (distance < exact) | (distance == 0) if strict else distance <= exact
    same = torch.ones(1, 65, 65)
    reached = torch.zeros(1, 1, 65, 65)
    reached[0, 0, 32, 32] = 1  # of equally similar cells of a window, each counts 1 / number
    options: dict[str, Any] = {"radius": radius, "top_k": 1, "temperature": 1.0, "window": window, "strict": strict}
    for implementation in ("reference", "tiled"):
        labels = ops.propagate(same, same[None], reached, keep_ties=True, implementation=implementation, **options)
        assert torch.equal(labels[0] > 0, expected)


def test_every_context_frame_has_its_own_radius() -> None:
    frames, labels = close_features(6, 32, 17, 23), torch.rand(5, 3, 17, 23)
    agrees_with_float64(frames[0], frames[1:], labels, [math.inf, 0, 3, 3, 2.5], 9, implementation="tiled")


@pytest.mark.parametrize("implementation", ["reference", "tiled"])
def test_real_features_agree_with_float64(implementation: ops.Implementation, real_data: Path, encoder: Encoder) -> None:
    frames = list(islice(read_frames(real_data / "davis2016" / "JPEGImages" / "480p" / "dog"), 4))
    geometry = Geometry.of(frame_size(frames[0]), encoder, 160)
    with torch.inference_mode():
        features = F.normalize(encode(encoder, frames, geometry, -1).float(), dim=1)
    labels = torch.rand(3, 2, *geometry.grid)
    agrees_with_float64(features[-1], features[:-1], labels, [math.inf, 12, 12], 5, implementation=implementation)


@pytest.mark.parametrize("keep_ties", [False, True])
@pytest.mark.parametrize(("tile", "group", "at_once"), [(3, 16, 10**6), (5, 2, 500), (12, 4, 2000), (40, 16, 10**7)])
def test_labels_do_not_depend_on_how_the_work_is_cut(
    tile: int, group: int, at_once: int, keep_ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    signs = (2.0 * torch.randint(2, (1, 16, 14, 19), generator=random) - 1) / 4  # many equal similarities, computed exactly
    frames, labels = signs.repeat(5, 1, 1, 1), torch.rand(4, 3, 14, 19, generator=random)
    arguments = {"radius": [math.inf, 4, 4, 2], "top_k": 6, "temperature": 0.1, "keep_ties": keep_ties, "return_matches": True}
    expected, expected_matches = ops.propagate(frames[0], frames[1:], labels, implementation="reference", **arguments)
    for name, value in {"STRIP": tile, "BAND": group, "SIMILARITIES_AT_ONCE": at_once}.items():
        monkeypatch.setattr(tiled, name, value)
    actual, matches = ops.propagate(frames[0], frames[1:], labels, implementation="tiled", **arguments)
    assert torch.equal(matches.indices, expected_matches.indices)
    assert torch.equal(matches.similarities, expected_matches.similarities)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_threads_change_nothing_and_keep_their_number() -> None:
    frames, labels = close_features(5, 48, 40, 33), torch.rand(4, 3, 40, 33)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(ops.propagate(frames[0], frames[1:], labels, radius=6, top_k=5, temperature=0.1))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("implementation", ["reference", "tiled"])
def test_a_batch_of_videos_is_the_videos_one_by_one(implementation: ops.Implementation) -> None:
    frames, labels = close_features(9, 16, 14, 15).unflatten(0, (3, 3)), torch.rand(3, 2, 4, 14, 15)
    options: dict[str, Any] = {"radius": 3, "top_k": 4, "temperature": 0.1, "implementation": implementation}
    mixed, matches = ops.propagate(frames[:, 0], frames[:, 1:], labels, return_matches=True, **options)
    for video in range(3):
        alone, its = ops.propagate(frames[video, 0], frames[video, 1:], labels[video], return_matches=True, **options)
        assert torch.equal(mixed[video], alone)
        assert torch.equal(matches.indices[video], its.indices)
    assert matches.similarities.shape == (3, 4, 14, 15)


def test_matches_say_where_labels_come_from() -> None:
    query = F.one_hot(torch.tensor([[0, 1], [2, 3]]), 4).permute(2, 0, 1).float()
    context = torch.stack([query.roll(1, dims=2), query])  # in the first frame all is one column to the right
    labels = torch.eye(8).view(8, 2, 2, 2).transpose(0, 1)  # [N, L, h, w]: a label for every cell of the context
    mixed, matches = ops.propagate(query, context, labels, radius=1, top_k=1, temperature=0.1, return_matches=True)
    assert matches.indices.tolist() == [[[1, 0], [3, 2]]]  # of equals the first frame's
    assert matches.similarities.tolist() == [[[1, 1], [1, 1]]]
    assert torch.equal(mixed.argmax(dim=0), matches.indices[0])


def test_torch_knows_the_operation() -> None:
    frames, labels = close_features(4, 16, 7, 6), torch.rand(3, 2, 7, 6)
    tensors = frames[None, 0], frames[None, 1:], labels[None]
    for name in ("reference", "tiled"):
        arguments = (*tensors, name, [math.inf, 2.0, 2.0], 5, 0.1, "circle", False, True, "auto", None)
        torch.library.opcheck(operator.propagate, arguments)


def test_the_operation_compiles_into_one_graph() -> None:
    frames, labels = close_features(4, 16, 7, 6), torch.rand(3, 2, 7, 6)

    def step(image: Tensor) -> Tensor:
        query = F.normalize(image, dim=0)
        return ops.propagate(query, frames[1:], labels, radius=[math.inf, 2, 2], top_k=5, temperature=0.1).argmax(dim=0)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(frames[0]), step(frames[0]))


def test_the_step_of_a_propagator_compiles_into_one_graph(encoder: Encoder) -> None:
    geometry = Geometry.of((64, 96), encoder, 64)
    frames = close_features(6, 192, *geometry.grid)
    plain, other = (SoftPropagator(encoder, PropagationConfig(context_frames=2), geometry) for _ in range(2))
    for propagator in (plain, other):
        propagator.anchor(frames[0], torch.rand(2, *geometry.grid, generator=torch.Generator().manual_seed(0)))
    compiled = torch.compile(other.advance, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for frame in frames[1:]:
            assert torch.equal(compiled(frame), plain.advance(frame))


@pytest.mark.parametrize(
    ("implementation", "top_k", "reason"),
    [("cuda", 5, "cannot run: .*; 'auto' takes one that can"), ("dense", 5, "expected auto, reference, tiled, cuda")],
)
def test_an_implementation_that_cannot_run_says_why(implementation: Any, top_k: int, reason: str) -> None:
    frames = torch.ones(2, 1, 2, 2)
    with pytest.raises(ValueError, match=reason):
        ops.propagate(frames[0], frames[1:], frames[1:], radius=1, top_k=top_k, temperature=1, implementation=implementation)


def test_wrong_precision_and_half_copies_are_refused() -> None:
    frames = torch.ones(2, 1, 2, 2)
    arguments: dict[str, Any] = {"radius": 1, "top_k": 1, "temperature": 1.0}
    with pytest.raises(ValueError, match="precision is 'bf16'; expected 'auto' or 'float32'"):
        ops.propagate(frames[0], frames[1:], frames[1:], precision="bf16", **arguments)
    with pytest.raises(ValueError, match="expected a float16 copy of context"):
        ops.propagate(frames[0], frames[1:], frames[1:], context_half=frames[1:], **arguments)


@pytest.mark.parametrize(("factor", "largest"), [(1e5, "inf"), (1e-7, "1.19209e-07"), (1e-9, "0")])
def test_half_copies_that_lost_the_features_are_refused(factor: float, largest: str) -> None:
    frames = torch.full((2, 1, 2, 2), factor)
    arguments: dict[str, Any] = {"radius": 1, "top_k": 1, "temperature": 1.0}
    with pytest.raises(ValueError, match=f"lost its features: the largest number is {largest} where context has {factor:g};"):
        ops.propagate(frames[0], frames[1:], frames[1:], context_half=frames[1:].half(), **arguments)
    scaled = (frames[1:] / factor).half()
    assert torch.isfinite(ops.propagate(frames[0], frames[1:], frames[1:], context_half=scaled, **arguments)).all()


def test_similarities_beyond_float32_are_refused() -> None:
    huge = torch.full((2, 4, 2, 2), 1e30)
    with pytest.raises(ValueError, match="too large for float32; scale them to unit length"):
        ops.propagate(huge[0], huge[1:], huge[1:], radius=1, top_k=1, temperature=1)
