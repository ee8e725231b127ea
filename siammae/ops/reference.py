"""The definition of `siammae.ops.propagate` in plain torch, computed for a few queries at a time.

Letters: B videos, P = h * w cells, Q of them at a time, N context frames, D channels, L labels, k matches.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from siammae.ops.matmul import fast_linear

SIMILARITIES_AT_ONCE = 8_000_000  # Q * N * P: 32 MB in float32


class Search(NamedTuple):
    """Checked arguments of `siammae.ops.propagate`: where to look for matches, how many count, and with which weights."""

    radii: Sequence[float]  # of the windows, in grid cells, one for each context frame
    top_k: int
    temperature: float
    window: str
    strict: bool
    keep_ties: bool


@torch.no_grad()
def propagate(query: Tensor, context: Tensor, context_labels: Tensor, search: Search) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `siammae.ops.propagate` for checked, batched arguments.

    Returns:
        labels [B, L, h, w], similarities [B, k, h, w] and flat indices [B, k, h, w] of the matches, best first.
    """
    height = query.shape[2]
    videos = [_propagate(*video, search) for video in zip(query, context, context_labels, strict=True)]
    labels, similarities, indices = (
        rearrange(torch.stack(part), "b (h w) c -> b c h w", h=height).contiguous() for part in zip(*videos, strict=True)
    )
    return labels, similarities, indices


def _propagate(query: Tensor, context: Tensor, context_labels: Tensor, search: Search) -> tuple[Tensor, Tensor, Tensor]:
    """Propagate in one video: labels [P, L], similarities [P, k] and indices [P, k]."""
    height, width = query.shape[1:]
    dtype = torch.promote_types(query.dtype, torch.float32)
    queries = rearrange(query, "d h w -> (h w) d").to(dtype)
    keys = rearrange(context, "n d h w -> (n h w) d").to(dtype)
    labels = rearrange(context_labels, "n l h w -> (n h w) l").to(dtype)
    axes = (torch.arange(length, device=query.device) for length in (height, width))
    cells = torch.cartesian_prod(*axes)  # [P, 2]

    chunk = max(1, SIMILARITIES_AT_ONCE // len(keys))
    propagated: list[tuple[Tensor, Tensor, Tensor]] = []
    for first in range(0, len(queries), chunk):
        here = slice(first, first + chunk)
        with fast_linear():
            similarity = F.linear(queries[here], keys)  # [Q, NP]
        candidates = rearrange(similarity, "q (n p) -> q n p", n=len(context))
        offset = cells[here, None] - cells  # [Q, P, 2]
        for radius in set(search.radii):
            limit = window_limit(radius, height, width, search)
            outside = ~inside(offset[..., 0], offset[..., 1], limit, search.window)  # [Q, P]
            for frame in (index for index, other in enumerate(search.radii) if other == radius):
                candidates[:, frame].masked_fill_(outside, -torch.inf)
        values, indices = best_of(similarity, min(search.top_k, len(keys)))
        if search.keep_ties:
            weights = tie_weights(similarity, values, search.temperature)
            mixed = weights @ labels / weights.sum(dim=1, keepdim=True)
        else:
            mixed = mix(values, labels[indices], search.temperature)
        propagated.append((mixed, values, indices.masked_fill(values == -torch.inf, -1)))
    labels, similarities, indices = (torch.cat(part) for part in zip(*propagated, strict=True))
    return labels, similarities, indices


def inside(rows: Tensor, columns: Tensor, limit: int, window: str) -> Tensor:
    """Mark the cells in the window of a query, by their distance in rows and in columns, two whole tensors that broadcast.

    `limit` is what `window_limit` gives.
    """
    if window == "square":
        return torch.maximum(rows.abs(), columns.abs()) <= limit
    return rows.square() + columns.square() <= limit


def window_limit(radius: float, height: int, width: int, search: Search) -> int:
    """Return the largest distance between two cells that a window holds: squared for circles, a whole number since all are.

    Every implementation takes its windows from here. The radius (squared for circles) is rounded to float32 first: 0.29 * 100
    is 29, and sqrt(5) ** 2 is 5.
    """
    circle = search.window == "circle"
    farthest = height * height + width * width if circle else max(height, width)
    exact = radius * radius if circle else radius
    if exact >= farthest:
        return farthest
    rounded = float(np.float32(exact))
    return max(0, math.ceil(rounded) - 1) if search.strict else math.floor(rounded)


def best_of(similarity: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the `top_k` largest of similarities [Q, M], descending, and their places [Q, k]; ties go to the first."""
    return first_of(*similarity.topk(min(top_k + 1, similarity.shape[1]), dim=1), top_k, similarity.__getitem__)


def first_of(values: Tensor, indices: Tensor, top_k: int, similarities: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return what `best_of` does, from the k + 1 largest values (or all M), descending, and their places.

    `similarities` gives all similarities [_, M] of the queries where a mask [Q] is true.
    """
    if values.shape[1] > top_k:
        ambiguous = (values[:, top_k - 1] == values[:, top_k]) & (values[:, top_k] > -torch.inf)
        values, indices = values[:, :top_k], indices[:, :top_k]
        if bool(ambiguous.any()):
            similarity = similarities(ambiguous)
            chosen = _first_of_equals(similarity, values[ambiguous, -1:], top_k)
            values[ambiguous], indices[ambiguous] = similarity.gather(1, chosen), chosen
    return in_order(values, indices)


def in_order(values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Sort values [Q, k] in descending order, and their indices [Q, k] in ascending order among equal values."""
    indices, order = indices.sort(dim=1)
    values, descending = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, indices.gather(1, descending)


def _first_of_equals(similarity: Tensor, last: Tensor, top_k: int) -> Tensor:
    """Return indices [Q, k] of all candidates above `last` [Q, 1] and of the first ones equal to it."""
    above, equal = similarity > last, similarity == last
    room = top_k - above.sum(dim=1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))
    return chosen.nonzero()[:, 1].view(-1, top_k)


def mix(similarities: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return mean labels [Q, L] of matches with similarities [Q, k] (-inf for none) and labels [Q, k, L]."""
    weights = torch.softmax(similarities / temperature, dim=1)
    return torch.einsum("qk,qkl->ql", weights, labels)


def tie_weights(similarity: Tensor, values: Tensor, temperature: float) -> Tensor:
    """Return weights [Q, M], up to a factor: 0 for candidates less similar than the last match of `values` [Q, k]."""
    best, last = values[:, :1], values[:, -1:]
    return torch.where(similarity >= last, torch.exp((similarity - best) / temperature), 0)
