"""`siammae.ops.propagate` against the published sequences, against cases worked out by hand, and against wrong arguments."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import crw_sequence, dino_sequence
from torch import Tensor
from torch.nn import functional as F

from siammae import ops
from siammae.ops import reference

GRIDS = [(7, 13), (1, 1), (1, 9), (9, 1), (6, 6)]
SCENES = ["random", "texture", "repeated", "duplicates"]
few = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def agree(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def unit_features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random features [..., D, h, w] of unit length."""
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=random, dtype=torch.float64), dim=-3).to(dtype)


def soft_labels(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random labels [N, L, h, w] that add up to 1 in every cell."""
    random = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, generator=random, dtype=torch.float64)).softmax(dim=1).to(dtype)


def sign_features(*shape: int, seed: int = 0) -> Tensor:
    """Features [..., D, h, w] of +-1 / sqrt(D), D a power of 4: unit length, and all dot products exact in any order."""
    random = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randint(2, shape, generator=random) - 1) / math.sqrt(shape[-3])


def texture(num: int, height: int, width: int) -> Tensor:
    """Features [num, 16, h, w] of unit length: waves that move by a fraction of a cell from frame to frame."""
    random = torch.Generator().manual_seed(3)
    wave = torch.rand(16, 3, generator=random, dtype=torch.float64)
    rows = torch.arange(height)[:, None] + 0.37 * torch.arange(num)[:, None, None]
    columns = torch.arange(width) - 0.61 * torch.arange(num)[:, None, None]
    phase = wave[:, 0, None, None] * rows[:, None] + wave[:, 1, None, None] * columns[:, None] + 6.3 * wave[:, 2, None, None]
    return F.normalize(phase.cos(), dim=1)


def scene(name: str, num: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """A query [D, h, w], context [num, D, h, w] and labels [num, 3, h, w]; the frames of one clip, the query its last."""
    dtype = torch.float64 if name == "texture" else torch.float32
    frames = {
        "random": lambda: unit_features(num + 1, 16, height, width),
        "texture": lambda: texture(num + 1, height, width),
        "repeated": lambda: sign_features(1, 4, height, 2).repeat(num + 1, 1, 1, width)[..., :width],
        "duplicates": lambda: sign_features(1, 64, height, width).repeat(num + 1, 1, 1, 1),
    }[name]()
    return frames[-1], frames[:-1], soft_labels(num, 3, height, width, dtype=dtype)


@pytest.mark.parametrize("num", [1, 4])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", SCENES)
def test_agrees_with_the_dino_sequence(name: str, grid: tuple[int, int], num: int) -> None:
    query, context, labels = scene(name, num, *grid)
    for radius, top_k in ((2, 5), (1, 1), (12, 5), (1, 60)):
        expected = dino_sequence(query, context, labels, radius=radius, top_k=top_k, temperature=0.1)
        actual = ops.propagate(
            query, context, labels, radius=radius, top_k=top_k, temperature=0.1, window="square", keep_ties=True
        )
        agree(actual, expected)


@pytest.mark.parametrize("num", [1, 4])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", SCENES)
def test_agrees_with_the_crw_sequence(name: str, grid: tuple[int, int], num: int) -> None:
    query, context, labels = scene(name, num, *grid)
    for radius, top_k, num_long in ((3, 7, 1), (2.5, 10, 1), (1, 1, 0), (2, 60, 0), (20, 7, 2)):
        expected = crw_sequence(query, context, labels, radius=radius, top_k=top_k, temperature=0.7, num_long=num_long)
        radii = [math.inf] * num_long + [radius] * (num - num_long)
        actual = ops.propagate(query, context, labels, radius=radii[:num], top_k=top_k, temperature=0.7, strict=True)
        agree(actual, expected)


@few
@given(
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    num=st.integers(1, 3),
    radius=st.integers(0, 6),
    top_k=st.integers(1, 12),
    temperature=st.floats(0.05, 2),
    seed=st.integers(0, 1000),
)
def test_agrees_with_both_sequences_whatever_the_arguments(
    grid: tuple[int, int], num: int, radius: int, top_k: int, temperature: float, seed: int
) -> None:
    frames = unit_features(num + 1, 8, *grid, seed=seed, dtype=torch.float64)
    query, context, labels = frames[0], frames[1:], soft_labels(num, 2, *grid, seed=seed, dtype=torch.float64)
    dino = ops.propagate(
        query, context, labels, radius=radius, top_k=top_k, temperature=temperature, window="square", keep_ties=True
    )
    agree(dino, dino_sequence(query, context, labels, radius=radius, top_k=top_k, temperature=temperature))
    crw = ops.propagate(query, context, labels, radius=radius + 1, top_k=top_k, temperature=temperature, strict=True)
    agree(crw, crw_sequence(query, context, labels, radius=radius + 1, top_k=top_k, temperature=temperature, num_long=0))


@pytest.mark.parametrize(("dtype", "result"), [(torch.float16, torch.float32), (torch.float64, torch.float64)])
def test_half_precision_counts_in_float32_and_double_in_float64(dtype: torch.dtype, result: torch.dtype) -> None:
    frames, labels = unit_features(4, 16, 7, 13, dtype=dtype), soft_labels(3, 2, 7, 13, dtype=dtype)
    actual = ops.propagate(frames[0], frames[1:], labels, radius=3, top_k=5, temperature=0.1, window="square", keep_ties=True)
    exact = frames.double()
    expected = dino_sequence(exact[0], exact[1:], labels.double(), radius=3, top_k=5, temperature=0.1)
    assert actual.dtype == result
    agree(actual.double(), expected, 1e-5 if result == torch.float32 else 1e-12)


def test_float32_labels_join_float16_features_and_come_out_in_float32() -> None:
    frames, labels = sign_features(3, 16, 4, 5), soft_labels(2, 2, 4, 5)
    expected = crw_sequence(frames[0], frames[1:], labels, radius=2, top_k=3, temperature=0.1, num_long=0)
    half = frames.half()
    actual = ops.propagate(half[0], half[1:], labels, radius=2, top_k=3, temperature=0.1, strict=True)
    assert actual.dtype == torch.float32
    agree(actual, expected)


def counted(height: int, width: int, num: int = 1, **arguments: object) -> Tensor:
    """The share [num, h, w of the context, h, w of the query] that each cell has where all are equally similar."""
    labels = torch.eye(num * height * width).view(num, height, width, -1).movedim(-1, 1)
    ones = torch.ones(num + 1, 1, height, width)
    settings_ = {"top_k": num * height * width, "temperature": 0.1, **arguments}
    shares = ops.propagate(ones[0], ones[1:], labels, **settings_)  # type: ignore[arg-type]
    return shares.view(num, height, width, height, width)


def drawn(shares: Tensor) -> list[str]:
    return ["".join("#" if share > 0 else "." for share in row) for row in shares]


CROSS = ["..#..", ".###.", "#####", ".###.", "..#.."]
BLOCK = [".....", ".###.", ".###.", ".###.", "....."]
PLUS = [".....", "..#..", ".###.", "..#..", "....."]
DOT = [".....", ".....", "..#..", ".....", "....."]
FULL = ["#####"] * 5


@pytest.mark.parametrize(
    ("window", "strict", "radius", "expected"),
    [
        ("circle", False, 2, CROSS),
        ("circle", True, 2, BLOCK),
        ("circle", False, 1, PLUS),
        ("circle", True, 1, DOT),
        ("circle", False, math.sqrt(2), BLOCK),
        ("circle", False, 0, DOT),
        ("circle", False, math.inf, FULL),
        ("circle", True, math.inf, FULL),
        ("square", False, 1, BLOCK),
        ("square", True, 2, BLOCK),
        ("square", False, 2, FULL),
        ("square", True, 1, DOT),
        ("square", False, 0, DOT),
        ("square", True, math.inf, FULL),
    ],
)
def test_window_holds_just_these_cells(window: str, strict: bool, radius: float, expected: list[str]) -> None:
    shares = counted(5, 5, window=window, strict=strict, radius=radius)[0, :, :, 2, 2]
    assert drawn(shares) == expected
    agree(shares[shares > 0], torch.full((sum(row.count("#") for row in expected),), 1 / sum(r.count("#") for r in expected)))


def test_window_ends_at_the_border_of_the_grid() -> None:
    assert drawn(counted(4, 5, window="circle", radius=2)[0, :, :, 0, 0]) == ["###..", "##...", "#....", "....."]
    assert drawn(counted(4, 5, window="square", radius=1)[0, :, :, 3, 4]) == [".....", ".....", "...##", "...##"]


def test_each_context_frame_has_its_own_radius() -> None:
    shares = counted(3, 3, num=3, radius=[math.inf, 0, 1], window="circle")[..., 1, 1]
    assert [drawn(frame) for frame in shares] == [["###"] * 3, ["...", ".#.", "..."], [".#.", "###", ".#."]]
    agree(shares[shares > 0], torch.full((15,), 1 / 15))


@pytest.mark.parametrize("radius", [2, 2.0, [2, 2], (2.0, 2.0), torch.tensor(2), torch.tensor([2.0, 2.0])])
def test_radius_may_be_a_number_a_sequence_or_a_tensor(radius: object) -> None:
    frames, labels = unit_features(3, 8, 5, 6), soft_labels(2, 2, 5, 6)
    expected = dino_sequence(frames[0], frames[1:], labels, radius=2, top_k=4, temperature=0.2)
    arguments = {"radius": radius, "top_k": 4, "temperature": 0.2, "window": "square"}
    agree(ops.propagate(frames[0], frames[1:], labels, **arguments), expected)  # type: ignore[arg-type]


def test_a_huge_finite_radius_searches_everywhere() -> None:
    assert drawn(counted(2, 3, radius=1e200)[0, :, :, 0, 0]) == ["###", "###"]


def test_of_equal_matches_those_that_come_first_count() -> None:
    shares = counted(5, 5, num=2, radius=1, top_k=3)[..., 2, 2]
    assert drawn(shares[0]) == [".....", "..#..", ".##..", ".....", "....."]
    assert drawn(shares[1]) == ["....."] * 5
    agree(shares[0][shares[0] > 0], torch.full((3,), 1 / 3))


def test_better_matches_count_before_equal_ones_that_come_first() -> None:
    query = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 1, 4)
    context = torch.tensor([[0.6, 0.6, 1.0, 0.6], [0.8, 0.8, 0.0, -0.8]]).view(1, 2, 1, 4)
    labels = torch.eye(4).view(1, 4, 1, 4)
    actual = ops.propagate(query, context, labels, radius=math.inf, top_k=2, temperature=0.4)
    better = math.e / (1 + math.e)
    agree(actual[:, 0], torch.tensor([1 - better, 0, better, 0])[:, None].expand(4, 4))


def test_kept_ties_all_count() -> None:
    shares = counted(5, 5, num=2, radius=1, top_k=3, keep_ties=True)[..., 2, 2]
    assert [drawn(frame) for frame in shares] == [PLUS, PLUS]
    agree(shares[shares > 0], torch.full((10,), 1 / 10))


def test_weights_are_the_softmax_of_the_similarities_over_the_temperature() -> None:
    query = torch.tensor([1.0, 0.0]).view(2, 1, 1)
    context = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]).view(3, 2, 1, 1)
    labels = torch.eye(3).view(3, 3, 1, 1)
    two = ops.propagate(query, context, labels, radius=0, top_k=2, temperature=0.4)
    agree(two[:, 0, 0], torch.tensor([math.e / (1 + math.e), 1 / (1 + math.e), 0]))
    three = ops.propagate(query, context, labels, radius=0, top_k=3, temperature=0.4)
    powers = torch.tensor([math.exp(2.5), math.exp(1.5), math.exp(-2.5)])
    agree(three[:, 0, 0], powers / powers.sum())


def test_a_low_temperature_takes_the_best_match_and_a_high_one_the_mean_of_the_top_k() -> None:
    query, context, labels = scene("random", 3, 5, 6)
    best = ops.propagate(query, context, labels, radius=2, top_k=1, temperature=0.1)
    agree(ops.propagate(query, context, labels, radius=2, top_k=5, temperature=1e-6), best)
    everything = ops.propagate(query, context, labels, radius=math.inf, top_k=90, temperature=1e6)
    agree(everything, labels.mean(dim=(0, 2, 3))[:, None, None].expand_as(everything))


@pytest.mark.parametrize("keep_ties", [False, True])
def test_strong_similarities_at_a_tiny_temperature_stay_finite(keep_ties: bool) -> None:
    frames, labels = 30 * unit_features(3, 8, 4, 4), soft_labels(2, 2, 4, 4)
    actual = ops.propagate(frames[0], frames[1:], labels, radius=2, top_k=3, temperature=1e-4, keep_ties=keep_ties)
    agree(actual.sum(dim=0), torch.ones(4, 4))


def test_a_frame_asked_about_itself_gives_its_own_labels() -> None:
    frame, labels = unit_features(16, 7, 13), soft_labels(1, 3, 7, 13)
    assert torch.equal(ops.propagate(frame, frame[None], labels, radius=3, top_k=1, temperature=0.1), labels[0])


def test_a_moved_frame_gives_labels_that_moved_along() -> None:
    frame, labels = unit_features(16, 6, 8), soft_labels(1, 3, 6, 8)
    moved = ops.propagate(frame.roll((1, 2), (1, 2)), frame[None], labels, radius=math.inf, top_k=1, temperature=0.1)
    assert torch.equal(moved, labels[0].roll((1, 2), (1, 2)))


@few
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    num=st.integers(1, 3),
    num_labels=st.integers(1, 4),
    radius=st.floats(0, 8),
    top_k=st.integers(1, 40),
    window=st.sampled_from(["circle", "square"]),
    keep_ties=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_label_mass_is_conserved(
    grid: tuple[int, int],
    num: int,
    num_labels: int,
    radius: float,
    top_k: int,
    window: ops.Window,
    keep_ties: bool,
    seed: int,
) -> None:
    frames, labels = sign_features(num + 1, 4, *grid, seed=seed), soft_labels(num, num_labels, *grid, seed=seed)
    arguments = {"radius": radius, "top_k": top_k, "temperature": 0.1, "window": window, "keep_ties": keep_ties}
    actual = ops.propagate(frames[0], frames[1:], labels, **arguments)  # type: ignore[arg-type]
    assert actual.shape == (num_labels, *grid)
    agree(actual.sum(dim=0), torch.ones(grid))
    assert bool((actual >= 0).all())


@few
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    num=st.integers(1, 5),
    temperature=st.floats(0.05, 5),
    seed=st.integers(0, 1000),
)
def test_radius_0_weighs_the_same_cell_of_all_frames(grid: tuple[int, int], num: int, temperature: float, seed: int) -> None:
    frames, labels = unit_features(num + 1, 8, *grid, seed=seed), soft_labels(num, 2, *grid, seed=seed)
    similarities = (frames[0] * frames[1:]).sum(dim=1)  # [N, h, w]
    expected = ((similarities / temperature).softmax(dim=0)[:, None] * labels).sum(dim=0)
    agree(ops.propagate(frames[0], frames[1:], labels, radius=0, top_k=num, temperature=temperature), expected)


@pytest.mark.parametrize("keep_ties", [False, True])
def test_order_in_memory_does_not_matter(keep_ties: bool) -> None:
    query, context, labels = scene("random", 3, 7, 13)
    arguments = {"radius": 3, "top_k": 5, "temperature": 0.1, "keep_ties": keep_ties}
    expected = ops.propagate(query, context, labels, **arguments)  # type: ignore[arg-type]
    last = [tensor.movedim(-3, -1).contiguous().movedim(-1, -3) for tensor in (query, context, labels)]
    assert not last[0].is_contiguous()
    assert not last[1].is_contiguous()
    agree(ops.propagate(*last, **arguments), expected, 1e-6)  # type: ignore[arg-type]
    ring = torch.cat([context, context])[: len(context)]
    agree(ops.propagate(query, ring, labels, **arguments), expected, 1e-6)  # type: ignore[arg-type]


def test_arguments_are_left_as_they_are() -> None:
    given_ = scene("random", 2, 5, 5)
    copies = [tensor.clone() for tensor in given_]
    ops.propagate(*given_, radius=1, top_k=3, temperature=0.1)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(given_, copies, strict=True))


@pytest.mark.parametrize("at_once", [1, 400, 1000])
@pytest.mark.parametrize("keep_ties", [False, True])
@pytest.mark.parametrize("name", SCENES)
def test_result_does_not_depend_on_how_many_queries_are_computed_at_once(
    name: str, keep_ties: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, context, labels = scene(name, 3, 7, 13)
    arguments = {"radius": [math.inf, 2, 3], "top_k": 6, "temperature": 0.1, "keep_ties": keep_ties}
    expected = ops.propagate(query, context, labels, **arguments)  # type: ignore[arg-type]
    monkeypatch.setattr(reference, "SIMILARITIES_AT_ONCE", at_once)
    agree(ops.propagate(query, context, labels, **arguments), expected, 1e-6)  # type: ignore[arg-type]


def refuse(match: str, **changes: object) -> None:
    """Demand a ValueError that says `match`, for fitting arguments with these changes."""
    query, context, labels = scene("random", 2, 4, 5)
    arguments = {"query": query, "context": context, "context_labels": labels, "radius": 2, "top_k": 3, "temperature": 0.1}
    ops.propagate(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=match):
        ops.propagate(**{**arguments, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "context"),
    [
        ((1, 16, 4, 5), (2, 16, 4, 5)),
        ((16, 4, 5), (16, 4, 5)),
        ((16, 4, 5), (2, 8, 4, 5)),
        ((16, 4, 5), (2, 16, 5, 4)),
        ((16, 4, 5), (0, 16, 4, 5)),
        ((0, 4, 5), (2, 0, 4, 5)),
        ((16, 0, 5), (2, 16, 0, 5)),
    ],
)
def test_features_of_other_shapes_are_refused(query: tuple[int, ...], context: tuple[int, ...]) -> None:
    refuse(r"expected \[D, h, w\] and \[N, D, h, w\]", query=torch.ones(query), context=torch.ones(context))


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 4, 5), (2, 3, 5, 4), (2, 3, 4, 6), (2, 0, 4, 5)])
def test_labels_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    refuse(r"context_labels are .*expected \[2, L, 4, 5\]", context_labels=torch.ones(shape))


@pytest.mark.parametrize(
    ("name", "shape"), [("query", (16, 4, 5)), ("context", (2, 16, 4, 5)), ("context_labels", (2, 3, 4, 5))]
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_numbers_that_are_not_floats_are_refused(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    refuse("expected floats", **{name: torch.ones(shape, dtype=dtype)})


@pytest.mark.parametrize("top_k", [0, -1])
def test_fewer_than_one_match_is_refused(top_k: int) -> None:
    refuse(f"top_k is {top_k}; expected at least 1", top_k=top_k)


@pytest.mark.parametrize("temperature", [0, -0.1, math.inf, math.nan])
def test_temperatures_that_are_not_positive_are_refused(temperature: float) -> None:
    refuse("expected a positive number", temperature=temperature)


@pytest.mark.parametrize("radius", [-1, math.nan, [1, -1], [math.nan, 1], [1], [1, 1, 1], [], [[1, 1]]])
def test_radii_that_are_negative_or_of_another_number_are_refused(radius: object) -> None:
    refuse("expected one number, or one for each of 2 context frames, 0 or more", radius=radius)


@pytest.mark.parametrize("radius", [0, [1, 0]])
def test_an_empty_strict_window_is_refused(radius: object) -> None:
    refuse("above 0, since the window is strict", radius=radius, strict=True)


def test_an_unknown_window_is_refused() -> None:
    refuse("window is 'disc'; expected 'circle' or 'square'", window="disc")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("keep_ties", [False, True])
@pytest.mark.parametrize("name", ["query", "context"])
def test_features_that_are_not_finite_are_refused(name: str, keep_ties: bool, value: float) -> None:
    query, context, _ = scene("random", 2, 4, 5)
    broken = {"query": query, "context": context}[name].clone()
    broken[..., 0, 2, 3] = value
    refuse(f"{name} is not finite", **{name: broken, "keep_ties": keep_ties})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["query", "context"])
def test_one_cell_that_is_not_finite_is_refused_even_where_it_could_be_passed_over(name: str, value: float) -> None:
    ones = torch.ones(1, 1, 3, 3)
    broken = ones.clone()
    broken[0, 0, 0, 0] = value
    fitting = {"query": ones[0], "context": ones, "context_labels": ones, "top_k": 1}
    refuse(f"{name} is not finite", **{**fitting, name: broken[0] if name == "query" else broken})


PEAK = """
import sys

import torch
from torch.nn import functional as F

from siammae import ops


def peak():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) / 1024


torch.set_num_threads(2)
num = int(sys.argv[1])
frames = F.normalize(torch.randn(num + 1, 384, 60, 107), dim=1).contiguous(memory_format=torch.channels_last)
labels = torch.rand(num, 4, 60, 107)
small = (..., slice(6), slice(6))
ops.propagate(frames[0][small], frames[1:][small], labels[small], radius=12, top_k=7, temperature=0.1)
before = peak()
ops.propagate(frames[0], frames[1:], labels, radius=12, top_k=7, temperature=0.1)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of the memory from Linux's /proc")
@pytest.mark.parametrize(("num", "megabytes"), [(8, 120), (20, 220)])
def test_memory_stays_far_below_the_dense_similarities(num: int, megabytes: int) -> None:
    """A frame of 60 x 107 cells with all of its channels; dense, its similarities alone would take 1.3 and 3.3 GB."""
    run = subprocess.run([sys.executable, "-c", PEAK, str(num)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < megabytes, f"{run.stdout.strip()} MB"
