"""The fused kernel: its arithmetic in Triton's interpreter, its machine code from the compiler, and on a GPU its full sizes.

Run as a script with TRITON_INTERPRET=1, which must be set before Triton is imported, this file computes the `CASES` on the CPU
and prints what is wrong with each.

Letters: B videos, N context frames, D channels, L labels, k matches, h x w grid cells, P of them, Q cells at a time.
"""

import json
import math
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from siammae.ops import cuda
from siammae.ops.reference import Search

FINE = 1e-5  # a difference of similarities that a result must respect
INF = math.inf


class Scene(NamedTuple):
    query: Tensor  # [B, D, h, w]
    context: Tensor  # [B, N, D, h, w]
    labels: Tensor  # [B, N, L, h, w]


def scene(
    grid: tuple[int, int],
    channels: int,
    num: int,
    num_labels: int = 3,
    batch: int = 1,
    kind: str = "random",
    device: str = "cpu",
) -> Scene:
    """Features of unit length, channels last; "clip": all like the first; "copies": one frame N times; "alike": one cell."""
    random = torch.Generator(device).manual_seed(0)
    noise = torch.randn(batch, num + 1, *grid, channels, generator=random, device=device).movedim(-1, 2)
    if kind == "clip":
        noise = 0.7 * noise + 2 * noise[:, :1]
    elif kind == "copies":  # products of signs are whole numbers, whose sums are exact: ties are ties
        noise = noise[:, :1].sign().expand(-1, num + 1, -1, -1, -1)
    elif kind == "alike":
        noise = torch.ones_like(noise)
    frames = noise / 8 if kind in ("copies", "alike") else F.normalize(noise, dim=2)
    labels = torch.rand(batch, num, num_labels, *grid, generator=random, device=device)
    return Scene(frames[:, 0], frames[:, 1:], labels)


def run(data: Scene, radii: list[float], top_k: int = 5, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    arguments = {
        "temperature": 0.1,
        "window": "circle",
        "strict": False,
        "keep_ties": False,
        "precision": "auto",
        **options,
    }
    precision, half = arguments.pop("precision"), arguments.pop("context_half", None)
    return cuda.propagate(*data, Search(radii, top_k, **arguments), precision, half)


def similarities_of(data: Scene, video: int, cells: Tensor, radii: list[float], window: str, strict: bool) -> Tensor:
    """All similarities [Q, N * P] of some query cells [Q] in float64, -inf outside the windows."""
    num, _, height, width = data.context.shape[1:]
    query = data.query[video].flatten(1)[:, cells].double()
    where = torch.arange(height * width, device=cells.device)
    rows = (cells // width)[:, None] - where // width  # [Q, P]
    columns = (cells % width)[:, None] - where % width
    similarity = query.new_empty(len(cells), num, height * width)
    for frame, radius in enumerate(radii):
        distance = rows**2 + columns**2 if window == "circle" else torch.maximum(rows.abs(), columns.abs())
        limit = np.float32(radius * radius if window == "circle" else radius).item()
        outside = distance >= limit if strict else distance > limit
        products = query.T @ data.context[video, frame].flatten(1).double()
        similarity[:, frame] = products.masked_fill(outside, -INF)
    return similarity.flatten(1)


def check(
    data: Scene,
    result: tuple[Tensor, Tensor, Tensor],
    radii: list[float],
    top_k: int = 5,
    *,
    cells: Tensor | None = None,
    exact: bool = False,
    **options: Any,
) -> None:
    """Demand of the result for some cells (all) what the definition says; `exact`: the very matches, in their order."""
    settings = {"temperature": 0.1, "window": "circle", "strict": False, "keep_ties": False, **options}
    num, _, height, width = data.context.shape[1:]
    top_k = min(top_k, num * height * width)
    cells = torch.arange(height * width, device=data.query.device) if cells is None else cells
    assert [tensor.dtype for tensor in result] == [torch.float32, torch.float32, torch.int64]
    assert result[1].shape == result[2].shape == (len(data.query), top_k, height, width)
    assert result[0].shape == (len(data.query), data.labels.shape[2], height, width)
    for video in range(len(data.query)):
        labels, found, indices = (tensor[video].flatten(1)[:, cells].T for tensor in result)
        true = similarities_of(data, video, cells, radii, settings["window"], settings["strict"])  # [Q, NP]
        best, first = true.sort(dim=1, descending=True, stable=True)
        kth = best[:, top_k - 1 : top_k]
        missing = best[:, :top_k] == -INF
        assert torch.equal(indices == -1, missing)
        assert torch.equal(found == -INF, missing)
        if exact:
            assert torch.equal(indices, first[:, :top_k].masked_fill(missing, -1))

        assert bool((found[:, 1:] <= found[:, :-1]).all())
        chosen = true.gather(1, indices.clamp(min=0)).masked_fill(missing, -INF)  # [Q, k]
        torch.testing.assert_close(found.double(), chosen, rtol=0, atol=2e-6)
        assert bool((missing | (chosen >= kth - FINE)).all())
        sorted_indices = indices.masked_fill(missing, -1).sort(dim=1).values
        assert bool(((sorted_indices[:, 1:] != sorted_indices[:, :-1]) | (sorted_indices[:, 1:] == -1)).all())

        following = best[:, top_k] if best.shape[1] > top_k else torch.full_like(kth[:, 0], -INF)
        clear = (kth[:, 0] - following > FINE) | missing[:, -1]  # [Q]; in other cells other labels are as good
        if settings["keep_ties"]:
            counted = true >= kth
            clear[:] = True
        else:
            counted = torch.zeros_like(true, dtype=torch.bool).scatter_(1, first[:, :top_k], True) & (true > -INF)
            clear |= exact
        weights = torch.softmax((true / settings["temperature"]).masked_fill(~counted, -INF), dim=1)
        mean = weights @ data.labels[video].movedim(1, -1).flatten(0, 2).double()
        torch.testing.assert_close(labels[clear].double(), mean[clear], rtol=0, atol=1e-4)


def compute(data: Scene, radii: list[float], top_k: int = 5, exact: bool = False, **options: Any) -> None:
    result = run(data, radii, top_k, **options)
    options.pop("precision", None)
    check(data, result, radii, top_k, exact=exact, **options)


def same(first: tuple[Tensor, ...], *others: tuple[Tensor, ...]) -> None:
    for other in others:
        assert all(torch.equal(tensor, like) for tensor, like in zip(first, other, strict=True))


def with_splits(splits: int, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    chosen = cuda.num_splits
    cuda.num_splits = lambda *_: splits
    try:
        return run(*arguments, **options)
    finally:
        cuda.num_splits = chosen


def splits_agree() -> None:
    data, radii = scene((5, 9), 24, 2), [INF, 2]
    same(*(with_splits(splits, data, radii, 7) for splits in (1, 4)))


def layouts_agree() -> None:
    data, radii = scene((3, 5), 24, 2), [2.0, INF]
    strided = torch.empty(1, 4, *data.labels.shape[2:]).half()[:, ::2].copy_(data.labels)
    labels = data._replace(labels=strided)
    reference = run(labels, radii)
    check(labels, reference, radii)
    first = data.context.contiguous()
    assert data.context.stride(2) == 1 != first.stride(2)
    same(
        reference,
        run(labels._replace(query=data.query.contiguous(), context=first), radii),
        run(labels, radii, context_half=data.context.half()),
        run(labels, radii, context_half=first.half()),
    )


def half_features_are_what_they_are() -> None:
    data = scene((3, 5), 40, 2)
    for kind in (torch.float16, torch.bfloat16):
        compute(Scene(data.query.to(kind), data.context.to(kind), data.labels), [INF, 1])


def damage_shows() -> None:
    data = scene((3, 5), 24, 2)
    query, context = data.query.clone(), data.context.clone()
    query[0, 3, 1, 2] = math.nan
    assert run(data._replace(query=query), [1, 1])[1].isnan().nonzero()[:, 2:].unique(dim=0).tolist() == [[1, 2]]
    context[0, 1, 3, 0, 0] = math.nan
    damaged = run(data._replace(context=context), [1, 1])[1][0].isnan().any(dim=0)
    assert damaged.nonzero().tolist() == [[0, 0], [0, 1], [1, 0]]


def scaled(query: float, context: float) -> None:
    data, radii = scene((5, 7), 40, 3, kind="clip"), [INF, 2.0, 2.0]
    expected = run(data, radii, precision="float32")
    larger = data._replace(query=data.query * query, context=data.context * context)
    labels, similarities, indices = run(larger, radii, temperature=0.1 * query * context)
    assert torch.equal(indices, expected[2])
    torch.testing.assert_close(labels, expected[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(similarities / (query * context), expected[1], rtol=1e-5, atol=1e-6)


def one_cell_of_the_query_is_faint() -> None:
    data, radii = scene((5, 7), 40, 3, kind="clip"), [INF, 2.0, 2.0]
    expected = run(data, radii, precision="float32")[2]
    query = data.query.clone()
    query[:, :, 2, 3] *= 1e-9
    assert torch.equal(run(data._replace(query=query), radii)[2], expected)


CASES: dict[str, Callable[[], None]] = {
    "features x 1e6": lambda: scaled(1e6, 1e6),
    "features x 1e-7": lambda: scaled(1e-7, 1e-7),
    "features x 2**-100, 2**90": lambda: scaled(2.0**-100, 2.0**90),
    "one faint cell": one_cell_of_the_query_is_faint,
    "one cell": lambda: compute(scene((1, 1), 1, 1, 1), [0]),
    "mixed radii": lambda: compute(scene((5, 7), 5, 3, batch=2), [0, 1.5, INF]),
    "mixed radii, fp32": lambda: compute(scene((5, 7), 5, 3), [0, 1.5, INF], precision="float32"),
    "square": lambda: compute(scene((9, 11), 24, 2), [1.5, 2], 7, window="square"),
    "strict circle, fp32": lambda: compute(scene((9, 5), 40, 2, 1), [2, INF], 4, strict=True, precision="float32"),
    "strict square": lambda: compute(scene((5, 7), 24, 2, 1), [2, 1], 4, strict=True, window="square"),
    "many channels": lambda: compute(scene((5, 7), 100, 2), [INF, 3], 7, temperature=0.7),
    "even channels": lambda: compute(scene((3, 4), 128, 2, 20), [INF, 3]),
    "a clip": lambda: compute(scene((5, 7), 40, 3, kind="clip"), [INF, 2, 2]),
    "few candidates": lambda: compute(scene((3, 4), 24, 2), [0, 1], 32),
    "fewer cells than matches": lambda: compute(scene((1, 3), 24, 2), [INF, INF], 10),
    "one match": lambda: compute(scene((5, 7), 24, 1), [INF], 1, temperature=1e-4),
    "copies": lambda: compute(scene((3, 5), 64, 3, kind="copies"), [INF] * 3, 4, exact=True),
    "copies, fp32": lambda: compute(scene((3, 5), 64, 3, kind="copies"), [INF] * 3, 4, exact=True, precision="float32"),
    "all alike, full lists": lambda: compute(scene((9, 3), 64, 2, kind="alike"), [INF, 2], 8, exact=True, precision="float32"),
    "kept ties": lambda: compute(scene((3, 5), 64, 3, kind="copies"), [1, 1, 1], 2, keep_ties=True),
    "kept ties, fp32": lambda: compute(scene((3, 5), 64, 3, kind="copies"), [1, 1, 1], 2, keep_ties=True, precision="float32"),
    "splits": splits_agree,
    "layouts": layouts_agree,
    "half features": half_features_are_what_they_are,
    "damaged features": damage_shows,
}


def report() -> dict[str, str]:
    """What is wrong with each of the `CASES`; "" for nothing."""
    torch.set_num_threads(1)
    found = {}
    for name, case in CASES.items():
        try:
            case()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    return found


needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    import triton

    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("Triton's interpreter needs version 3.7 beside NumPy 2.4")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    process = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found: dict[str, str] = json.loads(process.stdout)
    return found


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_interpreted_kernels_agree_with_the_definition(name: str, interpreted: dict[str, str]) -> None:
    assert not interpreted[name], interpreted[name]


FIND = {"query": "*fp32", "context": "*fp32", "limits": "*i32", "lists": "*i64"}
MIX = {
    **dict.fromkeys(("query", "context", "labels", "mixed", "similarities"), "*fp32"),
    **dict.fromkeys(("lists", "indices"), "*i64"),
    "temperature": "fp32",
}


def resources(kernel: Any, types: dict[str, str], config: dict[str, Any], capability: int) -> tuple[int, int]:
    """Registers and bytes of stack of a kernel as ptxas compiles it: pointers aligned, channels and strides multiples of 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {name: value for name, value in config.items() if name in kernel.arg_names}
    options = {name: value for name, value in config.items() if name not in kernel.arg_names}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    aligned = [
        name for name in signature if "*" in signature[name] or name == "channels" or re.match("(query|context)_.*stride", name)
    ]
    hints = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, hints), target=GPUTarget("cuda", capability, 32), options=options
    )
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    cubin = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    usage = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage)[0]
    return int(registers), int(stack)


@needs_triton
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_kernels_compile_without_spills(capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from siammae.ops import kernels

    if not cuda.compiles(capability // 10):
        pytest.skip("this Triton cannot compile the kernels for this GPU")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    half = {**FIND, "query": "*fp16", "context": "*fp16"}
    builds = {
        "k = 5": (kernels.find_candidates, half, cuda.find_options(384, True, "square", 16)),
        "k = 7, float32 context": (
            kernels.find_candidates,
            {**FIND, "query": "*fp16"},
            cuda.find_options(384, True, "circle", 16),
        ),
        "k = 32": (kernels.find_candidates, half, cuda.find_options(384, True, "circle", 64)),
        "fp32": (kernels.find_candidates, FIND, cuda.find_options(384, False, "circle", 16)),
        "labels": (kernels.mix_labels, MIX, cuda.mix_options(5, False, 8, 16, 20)),
        "ties": (kernels.mix_labels, MIX, cuda.mix_options(5, True, 1, 64, 300)),
    }
    used = {name: resources(*build, capability) for name, build in builds.items()}
    assert all(stack == 0 for _, stack in used.values()), f"registers, bytes of stack: {used}"


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("factor", [1.0, 1e6, 1e-7, 1e30, 1e-36])
def test_halved_features_keep_their_digits(factor: float, kind: torch.dtype) -> None:
    unit = F.normalize(torch.randn(2, 3, 40, 5, 7, generator=torch.Generator().manual_seed(0)), dim=2)
    features = (unit.double() * factor * torch.tensor([1.0, 64.0], dtype=torch.float64).view(2, 1, 1, 1, 1)).to(kind)
    features = features.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    half = cuda.halved(features, dim=(1, 2, 3, 4))
    assert half.dtype == torch.float16
    assert half.stride() == features.stride()
    largest = half.abs().amax(dim=(1, 2, 3, 4))
    assert bool(((largest >= 0.5) & (largest <= 1)).all())
    ratio = (half.double() / features.double()).flatten(1)
    power = torch.log2(ratio.median(dim=1).values).round()
    large = half.flatten(1).abs() > 2**-12
    error = (ratio * 2.0 ** -power[:, None] - 1).abs()
    assert float(error[large].max()) <= 2**-11
    assert bool((half[features == 0] == 0).all())


def test_halved_features_of_nothing_and_of_damage() -> None:
    assert torch.equal(cuda.halved(torch.zeros(1, 2, 3), dim=(1, 2)), torch.zeros(1, 2, 3).half())
    damaged = torch.tensor([[1.0, 0.25, math.nan], [1.0, 0.25, math.inf]])
    torch.testing.assert_close(
        cuda.halved(damaged, dim=(0, 1)).float(), torch.tensor([[0.5, 0.125, math.nan], [0.5, 0.125, math.inf]]), equal_nan=True
    )


def test_candidates_leave_room_for_rounding_and_ties() -> None:
    assert cuda.num_candidates(1, 1, half=True, keep_ties=False) == 8
    assert cuda.num_candidates(5, 8, half=True, keep_ties=False) == 16
    assert cuda.num_candidates(5, 8, half=True, keep_ties=True) == 16
    assert cuda.num_candidates(10, 20, half=True, keep_ties=True) == 32
    assert cuda.num_candidates(10, 20, half=False, keep_ties=False) == 16
    assert cuda.num_candidates(32, 60, half=True, keep_ties=True) == 64


@pytest.mark.parametrize(("tiles", "splits"), [(1, 16), (28, 8), (112, 2), (264, 1), (5000, 1)])
def test_splits_fill_the_processors(tiles: int, splits: int) -> None:
    assert cuda.num_splits(tiles, 132) == splits


def test_cannot_run_on_the_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = cuda.unavailable(torch.device("cpu"))
    assert reason in ("Triton is not installed", "it computes on NVIDIA GPUs, the features are on cpu")


def test_a_machine_without_triton_says_so() -> None:
    code = """
import sys
sys.modules["triton"] = None
import torch
from siammae.ops import cuda
print(cuda.unavailable(torch.device("cuda")))
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.stdout.strip() == "Triton is not installed", process.stderr


SIZES = [  # grid, D, N, L, k, options
    ((30, 53), 384, 8, 4, 5, {"window": "square", "keep_ties": True}),
    ((30, 53), 384, 20, 1, 7, {"temperature": 0.7, "strict": True}),
    ((60, 107), 768, 8, 40, 5, {}),
    ((60, 107), 192, 20, 300, 10, {"strict": True}),
    ((135, 240), 1280, 8, 3, 5, {}),
    ((31, 54), 100, 8, 7, 32, {}),
]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnGpu:
    @pytest.mark.parametrize("precision", ["auto", "float32"])
    @pytest.mark.parametrize(("grid", "channels", "num", "num_labels", "top_k", "options"), SIZES)
    @pytest.mark.parametrize("radius", [12.0, 20.0])
    def test_full_sizes_agree_with_the_definition(
        self,
        grid: tuple[int, int],
        channels: int,
        num: int,
        num_labels: int,
        top_k: int,
        options: dict[str, Any],
        radius: float,
        precision: str,
    ) -> None:
        data = scene(grid, channels, num, num_labels, kind="clip", device="cuda")
        radii = [INF] + [radius] * (num - 1)
        result = run(data, radii, top_k, precision=precision, **options)
        random = torch.Generator("cuda").manual_seed(1)
        for _ in range(4):
            cells = torch.randint(grid[0] * grid[1], (256,), generator=random, device="cuda")
            check(data, result, radii, top_k, cells=cells, **options)

    def test_a_batch_is_its_videos(self) -> None:
        data, radii = scene((30, 53), 384, 4, batch=3, device="cuda"), [12.0] * 4
        result = run(data, radii)
        check(data, result, radii)
        alone = [run(Scene(*(tensor[video : video + 1] for tensor in data)), radii) for video in range(3)]
        same(result, tuple(torch.cat(parts) for parts in zip(*alone, strict=True)))

    @pytest.mark.parametrize("precision", ["auto", "float32"])
    def test_runs_and_splits_are_identical(self, precision: str) -> None:
        data, radii = scene((60, 107), 384, 8, kind="clip", device="cuda"), [INF] + [12.0] * 7
        first = run(data, radii, precision=precision)
        same(first, run(data, radii, precision=precision))
        same(first, *(with_splits(splits, data, radii, precision=precision) for splits in (1, 4, 16)))

    def test_a_half_context_changes_nothing(self) -> None:
        data, radii = scene((30, 53), 384, 8, kind="clip", device="cuda"), [12.0] * 8
        same(run(data, radii), run(data, radii, context_half=data.context.half()))

    def test_a_graph_holds_the_call(self) -> None:
        data, radii = scene((30, 53), 384, 8, device="cuda"), [INF] + [12.0] * 7
        run(data, radii)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run(data, radii)
        other = scene((30, 53), 384, 8, kind="clip", device="cuda")
        for tensor, new in zip(data, other, strict=True):
            tensor.copy_(new)
        graph.replay()
        same(result, run(other, radii))

    def test_memory_holds_lists_and_outputs_alone(self) -> None:
        data, radii = scene((135, 240), 384, 8, device="cuda"), [12.0] * 8
        run(data, radii)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run(data, radii)
        torch.cuda.synchronize()
        outputs = sum(tensor.numel() * tensor.element_size() for tensor in result)
        lists, query = 135 * 240 * 16 * 8, 135 * 240 * 384 * 2
        assert torch.cuda.max_memory_allocated() - before < outputs + lists + query + 2**23  # what the allocator rounds up


if __name__ == "__main__":
    print(json.dumps(report()))
