"""The one operation of label propagation: every cell of a frame takes its labels from the most similar cells around it.

Letters: B videos, N context frames, D channels, L labels, k matches, h x w grid cells.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from siammae.ops import dispatch
from siammae.ops.dispatch import IMPLEMENTATIONS, Implementation, Precision, choose

__all__ = ["Implementation", "Matches", "Precision", "Window", "propagate"]

Window = Literal["circle", "square"]
LEAST_HALF = 2**-8  # float16 has all its digits from 2**-14 on
LEAST_TEMPERATURE = 1e-30  # similarities divided by less would not fit into float32


class Matches(NamedTuple):
    """The best matches of every cell, best first: the source of its labels.

    If the windows hold fewer than k cells, the remaining entries have similarity -inf and index -1.
    """

    similarities: Tensor  # [k, h, w] or [B, k, h, w]
    indices: Tensor  # same, int64: n * h * w + row * w + column of a cell of context frame n


@overload
def propagate(
    query: Tensor, context: Tensor, context_labels: Tensor, *, return_matches: Literal[True], **options: Any
) -> tuple[Tensor, Matches]: ...


@overload
def propagate(query: Tensor, context: Tensor, context_labels: Tensor, **options: Any) -> Tensor: ...


def propagate(  # type: ignore[misc]  # the overloads leave the options to this signature
    query: Tensor,
    context: Tensor,
    context_labels: Tensor,
    *,
    radius: float | Sequence[float] | Tensor,
    top_k: int,
    temperature: float,
    window: Window = "circle",
    strict: bool = False,
    keep_ties: bool = False,
    implementation: Implementation = "auto",
    precision: Precision = "auto",
    context_half: Tensor | None = None,
    return_matches: bool = False,
) -> Tensor | tuple[Tensor, Matches]:
    """Propagate labels: each cell takes the weighted mean of the labels of its best matches in the context frames.

    A cell's candidates are the cells of each context frame within `radius` of its own position. The `top_k` candidates with
    the highest dot product s count, with the weights softmax(s / temperature). Only the reference implementation ever holds
    the similarities of all cells to all others.

    Args:
        query: features [D, h, w] of the frame, of unit length if s is to be the cosine similarity; or [B, D, h, w] for the
            frames of B videos, each with its own context.
        context: features [N, D, h, w] or [B, N, D, h, w] of the context frames; channels last in memory saves a copy.
        context_labels: soft labels [N, L, h, w] or [B, N, L, h, w] of the context frames.
        radius: radius of the window in cells: one number, or one per context frame; inf searches everywhere.
        top_k: number of matches; fewer count where the windows hold fewer cells.
        temperature: temperature of the softmax.
        window: "circle" limits the Euclidean distance, "square" the larger of the row and column distance.
        strict: distance < radius instead of distance <= radius.
        keep_ties: also count candidates that tie with the last of the `top_k` (DINO). Otherwise exactly `top_k` count, and ties
            go to the first in `context` order, row by row.
        implementation: "reference" (the definition, on any device), "tiled" (CPU), "cuda" (Triton), or "auto": the fastest
            on the device of the features.
        precision: number type of the similarities. "float32" computes all of them in float32. "auto" lets "cuda" find 2 k
            candidates in float16 and choose among these in float32; elsewhere it equals "float32". float64 features are
            compared in float64, except by "cuda".
        context_half: float16 copy of `context`, or of a multiple of it, which saves "cuda" making one; other implementations
            ignore it.
        return_matches: also return the matches.

    Returns:
        [L, h, w] or [B, L, h, w] in float32 (float64 for float64 features); with `return_matches` also the `Matches`.

    Raises:
        ValueError: shapes, devices or types do not fit; a value lies outside its range; features are not finite; the
            implementation cannot run here.
    """
    batched = context.ndim == 5
    if not batched:
        query, context, context_labels = query[None], context[None], context_labels[None]
        context_half = None if context_half is None else context_half[None]
    _check_shapes(query, context, context_labels, context_half, "B, " if batched else "")
    if not isinstance(top_k, Integral):
        raise ValueError(f"top_k is {top_k!r}; expected a whole number")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")
    if not isinstance(temperature, Real) or not LEAST_TEMPERATURE <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; expected a positive number, {LEAST_TEMPERATURE:g} or more")
    top_k, temperature = int(top_k), float(temperature)
    if window not in ("circle", "square"):
        raise ValueError(f"window is {window!r}; expected 'circle' or 'square'")
    if implementation not in ("auto", *IMPLEMENTATIONS):
        raise ValueError(f"implementation is {implementation!r}; expected auto, {', '.join(IMPLEMENTATIONS)}")
    if precision not in ("auto", "float32"):
        raise ValueError(f"precision is {precision!r}; expected 'auto' or 'float32'")
    radii = _radii(radius, context.shape[1], strict)
    name = choose(implementation, query.device, top_k)
    if not _in_graph():
        _check_finite(query=query, context=context, context_labels=context_labels)
        if context_half is not None:
            _check_half(context, context_half)
    options = radii, top_k, temperature, window, strict, keep_ties, precision, context_half
    labels, similarities, indices = dispatch.propagate(query, context, context_labels, name, *options)
    if not _in_graph() and not bool((similarities < math.inf).all()):
        raise ValueError("similarities are infinite: the features are too large for float32; scale them to unit length")
    if not batched:
        labels, similarities, indices = labels[0], similarities[0], indices[0]
    return (labels, Matches(similarities, indices)) if return_matches else labels


def _check_shapes(query: Tensor, context: Tensor, labels: Tensor, half: Tensor | None, batch: str) -> None:
    """Check batched arguments; messages leave the batch dimension out if the caller gave none."""

    def shape(tensor: Tensor) -> list[int]:
        return list(tensor.shape if batch else tensor.shape[1:])

    fits = query.ndim == 4 and context.ndim == 5 and context.shape[2:] == query.shape[1:] and len(context) == len(query)
    if not fits or 0 in context.shape:
        raise ValueError(
            f"query is {shape(query)} and context {shape(context)}; expected [{batch}D, h, w] and [{batch}N, D, h, w]"
        )
    videos, num, _, height, width = context.shape
    labels_fit = labels.ndim == 5 and labels.shape[:2] == (videos, num) and labels.shape[3:] == (height, width)
    if not labels_fit or labels.shape[2] == 0:
        expected = f"{videos}, " if batch else ""
        raise ValueError(f"context_labels are {shape(labels)}; expected [{expected}{num}, L, {height}, {width}]")
    if len({query.device, context.device, labels.device}) > 1:
        raise ValueError(f"query, context and labels are on {query.device}, {context.device} and {labels.device}")
    if not all(tensor.is_floating_point() for tensor in (query, context, labels)):
        raise ValueError(f"features and labels are {query.dtype}, {context.dtype} and {labels.dtype}; expected floats")
    if half is not None and (half.shape != context.shape or half.dtype != torch.float16 or half.device != context.device):
        raise ValueError(
            f"context_half is {half.dtype} {shape(half)} on {half.device}; expected a float16 copy of context, "
            f"{shape(context)} on {context.device}"
        )


def _radii(radius: float | Sequence[float] | Tensor, num: int, strict: bool) -> list[float]:
    """Return one radius for each of `num` context frames."""
    given: Any = radius.tolist() if isinstance(radius, Tensor) else radius
    numbers: Sequence[Any] = [given] * num if isinstance(given, Real) else given
    radii = [float(value) for value in numbers if isinstance(value, Real)]
    if len(radii) != num or not all(value > 0 if strict else value >= 0 for value in radii):
        least = "above 0, since the window is strict" if strict else "0 or more"
        raise ValueError(f"radius is {radius}; expected one number, or one for each of {num} context frames, {least}")
    return radii


def _in_graph() -> bool:
    """Tell if the call is being compiled or captured, when no value can be read."""
    return torch.compiler.is_compiling() or (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())


def _check_half(context: Tensor, half: Tensor) -> None:
    """Raise ValueError if the numbers of `half` are outside those that float16 holds with all its digits."""
    largest = float(half.detach().abs().amax())
    if not LEAST_HALF <= largest < math.inf and bool(context.detach().any()):
        raise ValueError(
            f"context_half has lost its features: the largest number is {largest:g} where context has "
            f"{float(context.detach().abs().amax()):g}; expected {LEAST_HALF:g} to 65504. Scale the features to unit length, "
            "or leave context_half out"
        )


def _check_finite(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        in_memory = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)  # the order that needs no copy
        least, most = tensor.detach().permute(in_memory).aminmax()
        if not bool(torch.isfinite(most - least)):
            raise ValueError(f"{name} is not finite: NaN or infinity (overflow in half precision, or damaged weights)")
