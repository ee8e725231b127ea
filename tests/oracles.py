"""The two published sequences of label propagation, written out densely: what the operation and the presets are held against.

Letters: N context frames, D channels, L labels, h x w grid cells, P = h * w of them.
"""

import torch
from torch import Tensor


def dino_sequence(query: Tensor, context: Tensor, labels: Tensor, *, radius: int, top_k: int, temperature: float) -> Tensor:
    """Labels [L, h, w] of `query` [D, h, w] as in DINO's eval_video_segmentation.py.

    exp(similarity / temperature) times a square window of zeros and ones; what is at least the k-th largest stays, ties too;
    divided by its sum.
    """
    rows, columns = _offsets(*query.shape[1:])
    window = (rows.abs() <= radius) & (columns.abs() <= radius)  # [P, P]
    weights = torch.exp(_similarities(query, context) / temperature) * window
    weights = weights.flatten(0, 1)  # [NP, P]
    kth = weights.topk(min(top_k, len(weights)), dim=0).values[-1]
    weights = torch.where(weights < kth, 0, weights)
    return _mix(weights / weights.sum(dim=0), labels)


def crw_sequence(
    query: Tensor, context: Tensor, labels: Tensor, *, radius: float, top_k: int, temperature: float, num_long: int = 1
) -> Tensor:
    """Labels [L, h, w] of `query` [D, h, w] as in test.py of the Contrastive Random Walk and of CropMAE.

    -1e10 is added outside an open disc in all context frames but the first `num_long`; softmax over exactly the k largest of
    all frames together. Of equal ones those that come first (the scripts leave this to the sorting of the device).
    """
    rows, columns = _offsets(*query.shape[1:])
    outside = torch.sqrt(rows.square() + columns.square()) >= radius  # [P, P]
    values = _similarities(query, context)
    values[num_long:] += -1e10 * outside
    values = (values / temperature).flatten(0, 1).T.contiguous()  # [P, NP]
    kth = values.topk(min(top_k, values.shape[1])).values[:, -1:]
    above, equal = values > kth, values == kth
    chosen = above | (equal & (equal.cumsum(dim=1) <= top_k - above.sum(dim=1, keepdim=True)))
    return _mix(values.masked_fill(~chosen, -torch.inf).softmax(dim=1).T, labels)


def _similarities(query: Tensor, context: Tensor) -> Tensor:
    """Dot products [N, P, P] of context cells (first) and query cells (last)."""
    return torch.einsum("ndp,dq->npq", context.flatten(2), query.flatten(1))


def _offsets(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and columns [P, P] between any two cells of a grid."""
    cells = torch.arange(height * width)
    rows, columns = (cells // width).double(), (cells % width).double()
    return rows[:, None] - rows, columns[:, None] - columns


def _mix(weights: Tensor, labels: Tensor) -> Tensor:
    """Labels [L, h, w] from weights [NP, P] of the context cells for each query cell."""
    flat = labels.permute(1, 0, 2, 3).flatten(1)  # [L, NP]
    return (flat @ weights).unflatten(1, labels.shape[2:])
