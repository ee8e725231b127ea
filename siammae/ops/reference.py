"""The definition of `siammae.ops.propagate` in plain torch, computed for a few queries at a time.

Letters: P = h * w cells, Q of them at a time, N context frames, D channels, L labels.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from siammae.matmul import fast_linear

SIMILARITIES_AT_ONCE = 8_000_000  # Q * N * P: 32 MB in float32


@torch.no_grad()
def propagate(
    query: Tensor,
    context: Tensor,
    context_labels: Tensor,
    radii: Tensor,
    top_k: int,
    temperature: float,
    window: str,
    strict: bool,
    keep_ties: bool,
) -> Tensor:
    """As `siammae.ops.propagate`, with checked arguments and one radius for each context frame."""
    height, width = query.shape[1:]
    dtype = torch.promote_types(query.dtype, torch.float32)
    queries = rearrange(query, "d h w -> (h w) d").to(dtype)
    keys = rearrange(context, "n d h w -> (n h w) d").to(dtype)
    labels = rearrange(context_labels, "n l h w -> (n h w) l").to(dtype)
    cells = torch.cartesian_prod(torch.arange(height), torch.arange(width)).to(query.device, torch.float32)  # [P, 2]

    chunk = max(1, SIMILARITIES_AT_ONCE // len(keys))
    propagated = []
    for first in range(0, len(queries), chunk):
        here = slice(first, first + chunk)
        with fast_linear():
            similarity = F.linear(queries[here], keys)  # [Q, NP]
        _check_finite(similarity)
        candidates = rearrange(similarity, "q (n p) -> q n p", n=len(context))
        for radius in radii.unique().tolist():
            outside = ~_inside(cells[here], cells, radius, window, strict)  # [Q, P]
            for frame in (radii == radius).nonzero()[:, 0]:
                candidates[:, frame].masked_fill_(outside, -torch.inf)
        select = _mix_ties if keep_ties else _mix_exactly
        propagated.append(select(similarity, labels, min(top_k, len(keys)), temperature))
    return rearrange(torch.cat(propagated), "(h w) l -> l h w", h=height)


def _inside(queries: Tensor, cells: Tensor, radius: float, window: str, strict: bool) -> Tensor:
    """Whether a cell lies in a query's window, for queries [Q, 2] and cells [P, 2]: [Q, P]."""
    offset = (queries[:, None] - cells[None]).abs()  # [Q, P, 2]
    distance = offset.amax(dim=-1) if window == "square" else offset.square().sum(dim=-1)
    limit = radius if window == "square" else radius * radius
    return distance < limit if strict else distance <= limit


def _mix_exactly(similarity: Tensor, labels: Tensor, top_k: int, temperature: float) -> Tensor:
    """Mean labels [Q, L] of exactly `top_k` of the candidates [Q, NP]; of equal ones the first."""
    values, indices = similarity.topk(min(top_k + 1, similarity.shape[1]), dim=1)
    ambiguous = values[:, top_k - 1] == values[:, -1] if values.shape[1] > top_k else values.new_zeros(len(values)).bool()
    values, indices = values[:, :top_k], indices[:, :top_k]
    ambiguous &= torch.isfinite(values[:, -1])
    if bool(ambiguous.any()):
        values[ambiguous], indices[ambiguous] = _first_of_equals(similarity[ambiguous], values[ambiguous, -1:], top_k)
    weights = torch.softmax(values / temperature, dim=1)
    return torch.einsum("qk,qkl->ql", weights, labels[indices])


def _first_of_equals(similarity: Tensor, last: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Values and indices [Q, k] of all candidates above `last` [Q, 1] and of the first ones equal to it."""
    above, equal = similarity > last, similarity == last
    room = top_k - above.sum(dim=1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))
    indices = chosen.nonzero()[:, 1].view(-1, top_k)
    return similarity.gather(1, indices), indices


def _mix_ties(similarity: Tensor, labels: Tensor, top_k: int, temperature: float) -> Tensor:
    """Mean labels [Q, L] of all candidates [Q, NP] that are as similar as the `top_k`-th."""
    values = similarity.topk(top_k, dim=1).values
    best, last = values[:, :1], values[:, -1:]
    weights = torch.where(similarity >= last, torch.exp((similarity - best) / temperature), 0)
    return weights @ labels / weights.sum(dim=1, keepdim=True)


def _check_finite(similarity: Tensor) -> None:
    if not bool(torch.isfinite(similarity.sum())):
        raise ValueError(
            "features are not finite: NaN or infinite similarities (overflow in half precision, or damaged weights)"
        )
