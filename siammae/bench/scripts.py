"""The operations of published label propagation scripts, written from their description."""

import torch
from einops import rearrange
from torch import Tensor

TEMPERATURE = 0.1
CRW_QUERIES = 100  # at a time


def dino_sequence(query: Tensor, context: Tensor, labels: Tensor, window: Tensor, top_k: int) -> Tensor:
    """DINO: dense exp(similarity / 0.1), times a window [P, P] of zeros and ones, threshold at the k-th, dense mixing."""
    num, _, height, width = context.shape
    queries = query.flatten(1).T[None].repeat(num, 1, 1)  # [N, P, D]
    weights = torch.exp(torch.bmm(queries, context.flatten(2)) / TEMPERATURE)  # [N, P, P]
    weights *= window[None].repeat(num, 1, 1)
    weights = weights.transpose(2, 1).reshape(-1, height * width)  # [NP, P]
    kth = torch.topk(weights, dim=0, k=top_k).values.min(dim=0).values
    weights[weights < kth] = 0
    weights = weights / weights.sum(dim=0, keepdim=True)
    mixed: Tensor = torch.mm(rearrange(labels, "n l h w -> l (n h w)"), weights).unflatten(1, (height, width))
    return mixed


def crw_sequence(query: Tensor, context: Tensor, labels: Tensor, bias: Tensor, top_k: int) -> Tensor:
    """CRW: dense similarities of 100 queries at a time plus a bias [P, P] of zeros and -1e10, top k, softmax, gather."""
    num, _, height, width = context.shape
    keys, flat = rearrange(context, "n d h w -> d (n h w)"), rearrange(labels, "n l h w -> l (n h w)")
    parts = []
    for first in range(0, height * width, CRW_QUERIES):
        here = slice(first, first + CRW_QUERIES)
        similarity = (keys.T @ query.flatten(1)[:, here]).unflatten(0, (num, -1))  # [N, P, 100]
        similarity += bias[:, here]
        values, indices = (similarity / TEMPERATURE).flatten(0, 1).topk(top_k, dim=-2)  # [k, 100]
        parts.append((flat[:, indices] * values.softmax(dim=0)).sum(dim=1))
    mixed: Tensor = torch.cat(parts, dim=1).unflatten(1, (height, width))
    return mixed


def square_window(grid: tuple[int, int], radius: int, device: torch.device) -> Tensor:
    """[P, P]: 1 where two cells lie within `radius` of one another, row by row and column by column."""
    rows, columns = (torch.arange(n)[:, None] - torch.arange(n) for n in grid)
    near = torch.maximum(rows.abs()[:, None, :, None], columns.abs()[:, None]) <= radius  # [h, w, h, w]
    return near.reshape(grid[0] * grid[1], -1).float().to(device)
