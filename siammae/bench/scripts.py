"""The operations of published label propagation scripts, written from their description."""

import torch
from einops import rearrange
from torch import Tensor

TEMPERATURE = 0.1
CRW_QUERIES = 100  # queries that CRW compares at a time


def dino_script(query: Tensor, context: Tensor, labels: Tensor, window: Tensor, top_k: int) -> Tensor:
    """Propagate as DINO: dense exp(similarity / 0.1) times a window [P, P] of 0 and 1, threshold at the k-th, dense mixing."""
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


def crw_script(query: Tensor, context: Tensor, labels: Tensor, bias: Tensor, top_k: int) -> Tensor:
    """Propagate as CRW: dense similarities of 100 queries at a time, a bias [P, P] of 0 and -1e10, top k, softmax, gather."""
    num, _, height, width = context.shape
    keys, flat = rearrange(context, "n d h w -> d (n h w)"), rearrange(labels, "n l h w -> l (n h w)")
    columns = []
    for first in range(0, height * width, CRW_QUERIES):
        chunk = slice(first, first + CRW_QUERIES)
        similarity = (keys.T @ query.flatten(1)[:, chunk]).unflatten(0, (num, -1))  # [N, P, 100]
        similarity += bias[:, chunk]
        values, indices = (similarity / TEMPERATURE).flatten(0, 1).topk(top_k, dim=-2)  # [k, 100]
        columns.append((flat[:, indices] * values.softmax(dim=0)).sum(dim=1))
    mixed: Tensor = torch.cat(columns, dim=1).unflatten(1, (height, width))
    return mixed


def square_window(grid: tuple[int, int], radius: int, device: torch.device) -> Tensor:
    """Return [P, P]: 1 where two cells lie within `radius` of each other in rows and in columns, else 0."""
    rows, columns = (torch.arange(n, device=device)[:, None] - torch.arange(n, device=device) for n in grid)
    near = torch.maximum(rows.abs()[:, None, :, None], columns.abs()[:, None]) <= radius  # [h, w, h, w]
    return near.reshape(grid[0] * grid[1], -1).float()
