"""The registered torch operator, `torch.ops.siammae.propagate`, and the choice of the implementation that computes it.

Letters: B videos, N context frames, D channels, L labels, k matches, h x w grid cells.
"""

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from siammae.ops import cuda, reference, tiled
from siammae.ops.reference import Search

Implementation = Literal["auto", "reference", "tiled", "cuda"]
Precision = Literal["auto", "float32"]
Name = Literal["reference", "tiled", "cuda"]

MAX_TOP_K = 32  # matches that "cuda" can keep
IMPLEMENTATIONS: tuple[Name, ...] = ("reference", "tiled", "cuda")
FASTEST: dict[str, Name] = {"cpu": "tiled", "cuda": "cuda"}  # by device type; elsewhere the reference


def unavailable(name: Name, device: torch.device, top_k: int = 1) -> str | None:
    """Return why an implementation cannot run on tensors of `device`, or None if it can."""
    if name == "tiled":
        return None if device.type == "cpu" else f"it computes on the CPU, the features are on {device}"
    if name == "cuda":
        too_many = f"it keeps at most {MAX_TOP_K} matches, top_k is {top_k}" if top_k > MAX_TOP_K else None
        return cuda.unavailable(device) or too_many
    return None


def choose(implementation: Implementation, device: torch.device, top_k: int) -> Name:
    """Return the implementation asked for, or the fastest on this device; raise ValueError if it cannot run."""
    if implementation != "auto":
        reason = unavailable(implementation, device, top_k)
        if reason:
            raise ValueError(f"implementation {implementation!r} cannot run: {reason}; 'auto' takes one that can")
        return implementation
    fastest = FASTEST.get(device.type, "reference")
    reason = unavailable(fastest, device, top_k)
    if reason:
        _warn_once(f"labels are propagated by plain torch, slowly, since the CUDA kernel cannot run: {reason}")
        return "reference"
    return fastest


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


@torch.library.custom_op("siammae::propagate", mutates_args=())
def propagate(
    query: Tensor,
    context: Tensor,
    context_labels: Tensor,
    implementation: str,
    radii: Sequence[float],
    top_k: int,
    temperature: float,
    window: str,
    strict: bool,
    keep_ties: bool,
    precision: str,
    context_half: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return labels [B, L, h, w], similarities [B, k, h, w] and flat indices [B, k, h, w]; the arguments are checked already.

    query [B, D, h, w], context [B, N, D, h, w], context_labels [B, N, L, h, w], one radius per context frame.
    """
    search = Search(radii, top_k, temperature, window, strict, keep_ties)
    with torch.autocast(query.device.type, enabled=False):  # similarities of 8 bits would pick other matches
        if implementation == "cuda":
            return cuda.propagate(query, context, context_labels, search, precision, context_half)
        run = tiled.propagate if implementation == "tiled" else reference.propagate
        return run(query, context, context_labels, search)


@propagate.register_fake
def _(
    query: Tensor, context: Tensor, context_labels: Tensor, implementation: str, radii: Sequence[float], top_k: int, *_: object
) -> tuple[Tensor, Tensor, Tensor]:
    batch, height, width = len(query), *query.shape[2:]
    dtype = torch.float32 if implementation == "cuda" else torch.promote_types(query.dtype, torch.float32)
    matches = batch, min(top_k, context.shape[1] * height * width), height, width
    labels = query.new_empty(batch, context_labels.shape[2], height, width, dtype=dtype)
    return labels, query.new_empty(matches, dtype=dtype), query.new_empty(matches, dtype=torch.int64)
