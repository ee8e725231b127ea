"""`siammae.ops.propagate` on NVIDIA GPUs: two fused Triton kernels, which never hold the similarities of all candidates.

The first computes the similarities block by block on the tensor cores, in float16 with float32 sums, and keeps a short list of
the best candidates of every cell; the second recomputes the listed ones in float32 and mixes the labels of the best.

Letters: B videos, N context frames, D channels, L labels, S splits, C candidates, k matches, h x w grid cells, P of them.
"""

import os
from contextlib import AbstractContextManager
from importlib.metadata import version
from importlib.util import find_spec
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from siammae.ops.reference import Search, window_limit

TILE = 8  # side of a tile of the query frame, and of a block of the context frames, in cells
MIN_CANDIDATES, MAX_CANDIDATES = 8, 64
MAX_SPLITS = 16


def unavailable(device: torch.device) -> str | None:
    """Return why the kernel cannot run on tensors of `device`, or None if it can."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":  # Triton's interpreter computes on the CPU, wherever the tensors are
        return None if device.type in ("cpu", "cuda") else f"Triton does not know tensors on {device}"
    if device.type != "cuda":
        return f"it computes on NVIDIA GPUs, the features are on {device}"
    if torch.version.hip is not None:
        return "it computes on NVIDIA GPUs, this torch is built for AMD's"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"it needs a GPU of compute capability 8.0 or newer, {device} has {major}.{minor}"
    if not compiles(major):
        return f"Triton {version('triton')} cannot compile it for compute capability {major}.{minor}; Triton 3.8 can"
    return None


def compiles(major: int) -> bool:
    """Tell if this Triton can compile the kernels for GPUs of this compute capability.

    Up to 3.6 it fails on a reduction of what was a product in the tensor memory of Blackwell's data centre GPUs (10, 11).
    """
    return major not in (10, 11) or tuple(map(int, version("triton").split(".")[:2])) >= (3, 8)


@torch.no_grad()
def propagate(
    query: Tensor,
    context: Tensor,
    context_labels: Tensor,
    search: Search,
    precision: str,
    context_half: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `siammae.ops.propagate` for checked, batched arguments.

    The result is the same in every run, bit for bit. Nothing waits for the GPU, so a CUDA graph can hold the call; the first
    call of its kind compiles the kernels. Besides the outputs and copies of the query frame, and of the context if there is no
    `context_half`, it allocates S * P * C * 8 bytes for each video: S is at most 16, and 1 for large grids; C is the power of
    two from 2 k on.

    With precision "auto" the candidates are found in float16: the query's features, cell by cell, and the context's, video by
    video, are scaled by powers of two that bring the largest number of each between 1/2 and 1. The matches are the true ones as
    long as no more than C - k others are within float16's error (about 1e-4 of the largest similarity) of the k-th. "float32"
    has no such limit, and takes several times as long.

    With `keep_ties`, those count that are as similar as the k-th and among the best C; C is at least k + N, for a cell that is
    repeated in every context frame, but never more than 64.

    Args:
        query: features [B, D, h, w].
        context: features [B, N, D, h, w]; copied, unless channels are last in memory.
        context_labels: soft labels [B, N, L, h, w].
        search: the rules for matches; `top_k` is at most 32.
        precision: as in `siammae.ops.propagate`.
        context_half: a float16 copy of `context`, channels last, which saves precision "auto" making one.

    Returns:
        Labels [B, L, h, w] in float32, similarities [B, k, h, w] in float32 and flat indices [B, k, h, w] in int64, best first,
        -inf and -1 where the windows hold fewer than k cells; k is at most N * h * w.
    """
    from siammae.ops import kernels

    batch, num, channels, height, width = context.shape
    num_labels, cells = context_labels.shape[2], height * width
    half = precision == "auto"
    top_k = min(search.top_k, num * cells)
    candidates = num_candidates(top_k, num, half, search.keep_ties)
    splits = num_splits(-(-height // TILE) * -(-width // TILE) * batch, _num_processors(query.device))
    context = _channels_last(context)
    queries, keys = query.movedim(1, -1), context  # [B, h, w, D]; read once for each block of the context
    if half:
        queries = halved(queries, dim=(3,))
        keys = _channels_last(halved(context, dim=(1, 2, 3, 4)) if context_half is None else context_half)
    queries = queries.to(torch.float16 if half else torch.float32).contiguous()

    lists = torch.empty(batch, splits, cells, candidates, dtype=torch.int64, device=query.device)
    labels = torch.empty(batch, num_labels, height, width, dtype=torch.float32, device=query.device)
    similarities = torch.empty(batch, top_k, height, width, dtype=torch.float32, device=query.device)
    indices = torch.empty(batch, top_k, height, width, dtype=torch.int64, device=query.device)
    with _current(query):
        kernels.find_candidates[-(-height // TILE) * -(-width // TILE), splits, batch](
            queries,
            keys,
            _limits(search, height, width, query.device),
            lists,
            num,
            channels,
            height,
            width,
            *queries.stride()[:3],
            *(keys.stride(dim) for dim in (0, 1, 3, 4)),
            **find_options(channels, half, search.window, candidates),
        )
        exact = _channels_last(query)
        kernels.mix_labels[cells, batch](
            exact,
            context,
            context_labels,
            lists,
            labels,
            similarities,
            indices,
            search.temperature,
            channels,
            height,
            width,
            num_labels,
            *(exact.stride(dim) for dim in (0, 2, 3)),
            *(context.stride(dim) for dim in (0, 1, 3, 4)),
            *context_labels.stride(),
            **mix_options(top_k, search.keep_ties, splits, candidates, num_labels),
        )
    return labels, similarities, indices


def halved(features: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Return a float16 copy of features, each part along `dim` scaled by the power of two that fits its largest number.

    That number lies between 1/2 and 1 afterwards: nothing overflows, and only what is 10,000 times smaller loses digits. The
    order of similarities, for one query over one context, is that of the unscaled features.
    """
    largest = features.abs().amax(dim=dim, keepdim=True).float().nan_to_num(nan=1, posinf=1)  # damage shall show, not spread
    exponent = torch.frexp(largest).exponent
    scale = ((127 - exponent).clamp(1, 254) << 23).to(torch.int32).view(torch.float32)  # 2 ** -exponent, by its bits
    half = torch.empty_like(features, dtype=torch.float16)
    return torch.mul(features, scale, out=half)


def num_candidates(top_k: int, num_frames: int, half: bool, keep_ties: bool) -> int:
    """Return C: enough for the matches, for those that float16 may rank before them, and for a tie in every context frame."""
    needed = max(2 * top_k if half else top_k, top_k + num_frames if keep_ties else 0)
    return min(max(1 << (needed - 1).bit_length(), MIN_CANDIDATES), MAX_CANDIDATES)


def num_splits(num_tiles: int, num_processors: int) -> int:
    """Return S, a power of two: as many programs as run at once, two on each processor, and no more.

    A frame of 30 x 53 cells has 28 tiles, which leaves most processors without work; yet each split fills lists of its own.
    """
    wanted = max(1, 2 * num_processors // num_tiles)
    return min(1 << (wanted.bit_length() - 1), MAX_SPLITS)


def find_options(channels: int, half: bool, window: str, candidates: int) -> dict[str, Any]:
    """Return the compile options of `kernels.find_candidates`.

    Four warps share 64 x 64 similarities, 32 a thread: these, the lists and the addresses fit its registers. In float32 no
    tensor core holds the factors, so the threads do: twice as many of them, and half as many channels at a time. The cap on
    registers is the hardware's own; without it, ptxas spills some on sm_80 to fit a third program on each processor.
    """
    block = 64 if half else 32
    return {
        "CIRCLE": window == "circle",
        "HALF": half,
        "EVEN": channels % block == 0,
        "TILE_ROWS": TILE,
        "TILE_COLUMNS": TILE,
        "BLOCK_ROWS": TILE,
        "BLOCK_COLUMNS": TILE,
        "BLOCK_CHANNELS": block,
        "CANDIDATES": candidates,
        "num_warps": 4 if half else 8,
        "num_stages": 3 if half else 2,
        "maxnreg": 255,
    }


def mix_options(top_k: int, keep_ties: bool, splits: int, candidates: int, num_labels: int) -> dict[str, Any]:
    """Return the compile options of `kernels.mix_labels`: one warp per cell, 1024 features or labels at a time, 32 a thread."""
    return {
        "TOP_K": top_k,
        "KEEP_TIES": keep_ties,
        "SPLITS": splits,
        "CANDIDATES": candidates,
        "BLOCK_CHANNELS": 1024 // candidates,
        "BLOCK_LABELS": min(1 << (num_labels - 1).bit_length(), 1024 // candidates),
        "num_warps": 1,
        "num_stages": 2,
    }


def _num_processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _current(tensor: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which the current device, where Triton starts kernels, is the tensor's."""
    return torch.cuda.device_of(tensor)


def _channels_last(features: Tensor) -> Tensor:
    """Return features [..., D, h, w] whose channels have stride 1: the same tensor if they already do."""
    if features.stride(-3) == 1 or features.shape[-3] == 1:
        return features
    return features.movedim(-3, -1).contiguous().movedim(-1, -3)


def _limits(search: Search, height: int, width: int, device: torch.device) -> Tensor:
    """Return the largest distance that each window holds, as the kernel counts it: squared for circles; int32 [N].

    Filled run by run on the device, since a CUDA graph cannot hold a copy from the host.
    """
    limits = torch.empty(len(search.radii), dtype=torch.int32, device=device)
    first = 0
    for radius, run in groupby(search.radii):
        count = len(list(run))
        limits[first : first + count].fill_(window_limit(radius, height, width, search))
        first += count
    return limits
