"""The one operation of label propagation: every cell of a frame takes its labels from the most similar cells around it.

Letters: B videos, N context frames, D channels, L labels, k matches, h x w grid cells.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from siammae.ops import dispatch as operator
from siammae.ops.dispatch import IMPLEMENTATIONS, Implementation, Precision, choose

__all__ = ["Implementation", "Matches", "Precision", "Window", "propagate"]

Window = Literal["circle", "square"]


class Matches(NamedTuple):
    """Where labels came from: the best matches of every cell, best first.

    Where the windows hold fewer than k cells, the rest have similarity -inf and index -1.
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
    """Labels of a frame's cells, as the weighted mean of the labels of their best matches in the context frames.

    A cell's candidates are the cells of each context frame within `radius` of its own position. Of all candidates together the
    `top_k` with the highest dot product s count, with the weights softmax(s / temperature). No implementation but the
    reference ever holds the similarities of all cells to all others.

    Args:
        query: features [D, h, w] of the frame, of unit length where s shall be the cosine similarity; or [B, D, h, w] of the
            frames of B videos, each with a context of its own.
        context: features [N, D, h, w] or [B, N, D, h, w] of the context frames; channels last in memory saves a copy.
        context_labels: soft labels [N, L, h, w] or [B, N, L, h, w] of the context frames.
        radius: of the window, in grid cells: one number, or one for each context frame; inf searches everywhere.
        top_k: number of matches; fewer count where the windows hold fewer cells.
        temperature: of the softmax.
        window: "circle" limits the Euclidean distance, "square" the larger of the row and column distance.
        strict: distance < radius instead of distance <= radius.
        keep_ties: let every candidate count that is as similar as the last of the `top_k` (DINO); otherwise exactly `top_k`
            count, of equal ones those that come first in `context`, row by row.
        implementation: "reference" (the definition, on any device), "tiled" (CPU), "cuda" (Triton), or "auto": the fastest
            that the device of the features has.
        precision: of the similarities. "fp32" computes all of them in float32. "auto" lets "cuda" find 2 k candidates in
            float16 and choose among these in float32; elsewhere it is "fp32". float64 features count in float64, except in
            "cuda".
        context_half: a float16 copy of `context` for "cuda", so that it need not make one; others do not read it.
        return_matches: also return the matches.

    Returns:
        [L, h, w] or [B, L, h, w] in float32 (float64 for float64 features); with `return_matches` also the `Matches`.

    Raises:
        ValueError: shapes, devices or types that do not fit; values outside their range; features that are not finite; an
            implementation that cannot run here.
    """
    batched = context.ndim == 5
    if not batched:
        query, context, context_labels = query[None], context[None], context_labels[None]
        context_half = None if context_half is None else context_half[None]
    _check_shapes(query, context, context_labels, context_half, "B, " if batched else "")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; expected a positive number")
    if window not in ("circle", "square"):
        raise ValueError(f"window is {window!r}; expected 'circle' or 'square'")
    if implementation not in ("auto", *IMPLEMENTATIONS):
        raise ValueError(f"implementation is {implementation!r}; expected auto, {', '.join(IMPLEMENTATIONS)}")
    if precision not in ("auto", "fp32"):
        raise ValueError(f"precision is {precision!r}; expected 'auto' or 'fp32'")
    radii = _radii(radius, context.shape[1], strict)
    chosen = choose(implementation, query.device, top_k)
    if not _in_graph():
        _check_finite(query=query, context=context, context_labels=context_labels)
    options = radii, top_k, temperature, window, strict, keep_ties, precision, context_half
    labels, similarities, indices = operator.propagate(query, context, context_labels, chosen, *options)
    if not _in_graph() and not bool((similarities < math.inf).all()):
        raise ValueError("similarities are infinite: the features are too large for float32; scale them to unit length")
    if not batched:
        labels, similarities, indices = labels[0], similarities[0], indices[0]
    return (labels, Matches(similarities, indices)) if return_matches else labels


def _check_shapes(query: Tensor, context: Tensor, labels: Tensor, half: Tensor | None, batch: str) -> None:
    """Arguments with a batch dimension; messages leave it out where the caller gave none."""

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
    """One radius for each of `num` context frames."""
    given = radius.tolist() if isinstance(radius, Tensor) else radius
    numbers = [given] * num if isinstance(given, int | float) else given
    radii = [float(value) for value in numbers if isinstance(value, int | float)]
    if len(radii) != num or not all(value > 0 if strict else value >= 0 for value in radii):
        least = "above 0, since the window is strict" if strict else "0 or more"
        raise ValueError(f"radius is {radius}; expected one number, or one for each of {num} context frames, {least}")
    return radii


def _in_graph() -> bool:
    """Whether the call is being compiled or captured, where no value can be looked at."""
    return torch.compiler.is_compiling() or (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())


def _check_finite(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        in_memory = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)  # the order that needs no copy
        least, most = tensor.detach().permute(in_memory).aminmax()
        if not bool(torch.isfinite(most - least)):
            raise ValueError(f"{name} is not finite: NaN or infinity (overflow in half precision, or damaged weights)")
