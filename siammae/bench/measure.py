"""Measurements of `ops.propagate` and of whole frames, beside the operations of published scripts.

`dino_script` and `crw_script` are the operations of DINO's eval_video_segmentation.py and of the Contrastive Random Walk's
test.py (CropMAE's is a port), rewritten in their order and with their shapes. Contestants take turns, so that a busy machine
slows them alike; figures are medians.

Letters: N context frames, D channels, L labels, h x w cells, P = h * w, k matches.
"""

import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from siammae import ops
from siammae.bench.meter import Call, Cost, Meter, take_turns
from siammae.bench.scripts import TEMPERATURE, crw_script, dino_script, square_window
from siammae.encoder import Encoder
from siammae.models.load import load_model
from siammae.ops.matmul import fast_linear


@dataclass(frozen=True)
class Case:
    """One size of the operation."""

    grid: tuple[int, int]
    context_frames: int
    radius: int
    top_k: int = 5
    channels: int = 384
    labels: int = 2

    def __str__(self) -> str:
        return f"{self.grid[0]}x{self.grid[1]}, {self.context_frames} frames, radius {self.radius}, top {self.top_k}"

    @property
    def dense_bytes(self) -> int:
        """Bytes that DINO's script holds at its peak: three float32 numbers for every pair of cells."""
        return 12 * self.context_frames * (self.grid[0] * self.grid[1]) ** 2

    @property
    def flops(self) -> int:
        """Operations of the similarities inside the square windows, which every exact method needs."""
        in_rows, in_columns = (
            sum(min(n - 1, i + self.radius) - max(0, i - self.radius) + 1 for i in range(n)) for n in self.grid
        )
        return 2 * self.channels * self.context_frames * in_rows * in_columns

    @property
    def options(self) -> dict[str, Any]:
        """Options with which `ops.propagate` computes what the dense scripts compute."""
        return {"radius": self.radius, "top_k": self.top_k, "temperature": TEMPERATURE, "window": "square"}

    def draw(self, device: torch.device, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw query [D, h, w], context [N, D, h, w], both of unit length, and labels [N, L, h, w]; channels last."""
        random = torch.Generator(device).manual_seed(seed)
        frames = torch.randn(self.context_frames + 1, self.channels, *self.grid, generator=random, device=device)
        frames = F.normalize(frames, dim=1).contiguous(memory_format=torch.channels_last)
        labels = torch.rand(self.context_frames, self.labels, *self.grid, generator=random, device=device)
        return frames[0], frames[1:], labels


def measure_operation(case: Case, device: torch.device, *, rounds: int, seconds: float) -> dict[str, Cost]:
    """Measure `ops.propagate` and the two dense scripts, all with the same square windows.

    DINO's script is left out if it would not fit into the memory of the machine.
    """
    copies = 3 if device.type == "cuda" else 1  # more than a GPU's cache holds
    inputs = [case.draw(device, seed) for seed in range(copies)]
    window = square_window(case.grid, case.radius, device)
    bias = (window - 1) * 1e10
    halves = [context.half() if device.type == "cuda" else None for _, context, _ in inputs]
    calls: dict[str, Call] = {
        "siammae": lambda i: ops.propagate(*inputs[i % copies], **case.options, context_half=halves[i % copies])
    }
    if case.dense_bytes < _memory(device):
        calls["dino"] = lambda i: dino_script(*inputs[i % copies], window, case.top_k)
    calls["crw"] = lambda i: crw_script(*inputs[i % copies], bias, case.top_k)
    return take_turns(calls, device, rounds, seconds)


def measure_frame(model: str, height: int, width: int, device: torch.device, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure a whole frame, encoded and propagated with 8 context frames, and DINO's script with the same initial weights.

    The script's encoder computes attention step by step in float32, as its code does; ours is that of `load_model`, in
    float16 on CUDA.

    Returns:
        `costs` by contestant, `cosine`, the least similarity of the two encoders' features, and the `grid`.
    """
    script = load_model(model, pretrained=False, device=device)
    for block in script.vit.blocks:
        block.attn.fused_attn = False
    ours = load_model(model, pretrained=False, device=device, dtype=torch.float16 if device.type == "cuda" else None)
    case = Case((height // ours.patch_size, width // ours.patch_size), 8, 12, channels=ours.embed_dim)
    image = torch.randn(1, 3, height, width, generator=torch.Generator(device).manual_seed(0), device=device)
    _, context, labels = case.draw(device, seed=0)
    window = square_window(case.grid, case.radius, device)
    half = context.half() if device.type == "cuda" else None

    def features(encoder: Encoder) -> Tensor:
        return F.normalize(encoder(image)[0].float(), dim=0)

    def by_script(_: int) -> Tensor:
        tokens: Tensor = script.vit.forward_features(image)[0, 1:]
        query = F.normalize(tokens, dim=1).T.unflatten(1, case.grid)
        return dino_script(query, context, labels, window, case.top_k)

    def by_siammae(_: int) -> object:
        return ops.propagate(features(ours), context, labels, **case.options, context_half=half)

    calls: dict[str, Call] = {"siammae": by_siammae, "our encoder": lambda _: features(ours), "dino script": by_script}
    with torch.inference_mode():
        costs = take_turns(calls, device, rounds, seconds)
        cosine = float((features(ours) * features(script)).sum(dim=0).min())
    return {"costs": costs, "cosine": cosine, "grid": case.grid}


def matmul_rate(device: torch.device, *, rounds: int = 9) -> float:
    """Measure operations per second of a large matrix product: float16 on CUDA, float32 elsewhere."""
    dtype, size = (torch.float16, 8192) if device.type == "cuda" else (torch.float32, 2048)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    meter = Meter(device)
    with fast_linear():
        times = [meter(lambda: F.linear(left, right))[0] for _ in range(rounds)]
    return 2 * size**3 / statistics.median(times) * 1e3


def _memory(device: torch.device) -> float:
    """Return the bytes that a contestant may take."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    pages: float = 0.8 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return pages


def run(
    grids: Sequence[tuple[int, int]],
    context_frames: Sequence[int],
    radii: Sequence[int],
    models: Sequence[str],
    device: torch.device,
    *,
    rounds: int,
    seconds: float,
    report: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Measure the operation at every combination of sizes, and whole frames of every model; returns plain values."""
    measure_operation(Case((4, 4), 1, 1), device, rounds=1, seconds=0)  # imports and warms up
    rate = matmul_rate(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    machine = {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "gflops": round(rate / 1e9, 1),
        "rounds": rounds,
    }
    report(f"{device.type} ({name}), {machine['threads']} threads, torch {torch.__version__}")
    report(f"matrix product: {rate / 1e9:,.0f} GFLOP/s\n")
    report("| grid | frames | radius | siammae ms (MB) | DINO ms (MB) | ratio | CRW ms (MB) | ratio | of the floor |")
    report("|---|---|---|---|---|---|---|---|---|")
    operations, frames = [], []
    for grid, num, radius in itertools.product(grids, context_frames, radii):
        case = Case(grid, num, radius)
        costs = measure_operation(case, device, rounds=rounds, seconds=seconds)
        share = case.flops / rate * 1e3 / costs["siammae"].milliseconds
        operations.append({**asdict(case), "costs": {key: asdict(cost) for key, cost in costs.items()}, "floor_share": share})
        cells = [f"{grid[0]}x{grid[1]}", str(num), str(radius), _cell(costs["siammae"])]
        for other in ("dino", "crw"):
            cells += [_cell(costs.get(other)), _ratio(costs.get(other), costs["siammae"])]
        report(f"| {' | '.join(cells)} | {share:.0%} |")
    if models:
        report("\n| whole frame | grid | siammae ms | of it propagation | DINO script ms | ratio | least cosine of features |")
        report("|---|---|---|---|---|---|---|")
    for model in models:
        frame = measure_frame(model, 480, 848, device, rounds=rounds, seconds=seconds)
        costs = frame["costs"]
        share = 1 - costs["our encoder"].milliseconds / costs["siammae"].milliseconds
        frames.append({"model": model, **frame, "costs": {key: asdict(cost) for key, cost in costs.items()}})
        cells = [model, "x".join(map(str, frame["grid"])), f"{costs['siammae'].milliseconds:,.0f}", f"{share:.1%}"]
        cells += [f"{costs['dino script'].milliseconds:,.0f}", _ratio(costs["dino script"], costs["siammae"])]
        report(f"| {' | '.join(cells)} | {frame['cosine']:.6f} |")
    return {"machine": machine, "operations": operations, "frames": frames}


def _cell(cost: Cost | None) -> str:
    if cost is None:
        return "does not fit"
    return f"{cost.milliseconds:,.1f}" + ("" if cost.megabytes is None else f" ({cost.megabytes:,.0f})")


def _ratio(other: Cost | None, ours: Cost) -> str:
    return "-" if other is None else f"{other.milliseconds / ours.milliseconds:.1f}x"
