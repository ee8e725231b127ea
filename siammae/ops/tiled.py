"""`siammae.ops.propagate` on the CPU: tiles of query cells against the part of each context frame that their windows reach.

One matrix product for each tile and context frame computes the similarities inside the windows and few others; they are used
while they are in the processor's cache. The best matches are found exactly through the maxima of groups: the k largest
values lie in the k groups with the largest maxima. Tiles are shared out over threads.

Letters: B videos, h x w cells of a frame, Q of them in a tile, N context frames, D channels, L labels, k matches, S cells of a
halo (what a tile's windows reach of a frame), M = S times the frames taken at once.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, product
from typing import NamedTuple, TypeVar

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from siammae.matmul import biased_product
from siammae.ops.reference import Search, best_of, in_order, inside, mix, tie_weights

TILE = 12  # cells a side: larger ones compute more outside the windows, smaller ones make slower products
SIMILARITIES_AT_ONCE = 3_300_000  # Q * M of one thread: 13 MB in float32
GROUP = 16  # similarities whose largest stands for them

Tile = TypeVar("Tile")
Part = TypeVar("Part")


def propagate(query: Tensor, context: Tensor, context_labels: Tensor, search: Search) -> tuple[Tensor, Tensor, Tensor]:
    """As `siammae.ops.reference.propagate`."""
    num, height, width = context.shape[1], *query.shape[2:]
    search = search._replace(top_k=min(search.top_k, num * height * width))
    videos = [
        _Video(rearrange(frame, "d h w -> h w d"), rearrange(frames, "n d h w -> n h w d"), labels, search)
        for frame, frames, labels in zip(query, context, context_labels, strict=True)
    ]
    channels = context_labels.shape[2], search.top_k, search.top_k
    dtype = videos[0].dtype
    results = [
        torch.empty(len(videos), count, height, width, dtype=kind)
        for count, kind in zip(channels, (dtype, dtype, torch.int64), strict=True)
    ]
    tiles = list(product(range(len(videos)), _spans(height), _spans(width)))

    def work(tile: tuple[int, slice, slice]) -> tuple[Tensor, Tensor, Tensor]:
        video, rows, columns = tile
        with torch.no_grad():
            return videos[video].tile(rows, columns)

    for (video, rows, columns), parts in zip(tiles, _in_threads(work, tiles), strict=True):
        for result, part in zip(results, parts, strict=True):
            result[video, :, rows, columns] = rearrange(part, "(h w) c -> c h w", h=rows.stop - rows.start)
    labels, similarities, indices = results
    return labels, similarities, indices


def _spans(length: int) -> list[slice]:
    """`length` cells cut into parts as equal as can be, of at most TILE."""
    num = math.ceil(length / TILE)
    return [slice(length * i // num, length * (i + 1) // num) for i in range(num)]


def _in_threads(work: Callable[[Tile], Part], tiles: Sequence[Tile]) -> Iterator[Part]:
    """`map(work, tiles)`, in as many threads as torch has, each of which computes alone."""
    threads = torch.get_num_threads()
    if min(threads, len(tiles)) == 1:
        yield from map(work, tiles)
        return
    try:
        with ThreadPoolExecutor(threads, "siammae", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, tiles)
    finally:
        torch.set_num_threads(threads)  # the workers' own number is what threads that start later would inherit


@dataclass(frozen=True)
class _Video:
    """The operation's arguments for one video, channels last."""

    query: Tensor  # [h, w, D]
    context: Tensor  # [N, h, w, D]
    labels: Tensor  # [N, L, h, w]
    search: Search

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(self.query.dtype, torch.float32)

    def tile(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Labels [Q, L], similarities [Q, k] and flat indices [Q, k] of one tile."""
        top_k = self.search.top_k
        wanted = top_k + self.search.keep_ties  # one more shows whether the last has its equal
        found = []
        for similarity, where in self._similarities(rows, columns):
            values, indices = best_of(similarity, min(wanted, len(where)), _shortlist(similarity, wanted + 1))
            found.append((values, where[indices]))
        values, indices = in_order(*(torch.cat(part, dim=1) for part in zip(*found, strict=True)))
        missing = max(0, wanted - values.shape[1])  # where the halos hold fewer cells
        values, indices = F.pad(values, (0, missing), value=-torch.inf), F.pad(indices, (0, missing))
        further, values, indices = values[:, top_k:wanted], values[:, :top_k], indices[:, :top_k]
        labels = mix(values, self._labels_at(indices), self.search.temperature)
        tied = (further == values[:, -1:]).any(dim=1) & (values[:, -1] > -torch.inf)
        if bool(tied.any()):
            labels[tied] = self._mix_ties(rows, columns, values, tied)
        return labels, values, indices.masked_fill(values == -torch.inf, -1)

    def _similarities(self, rows: slice, columns: slice) -> Iterator[tuple[Tensor, Tensor]]:
        """Similarities [Q, M] to a few context frames at a time, -inf outside the windows, and the flat index [M] of each."""
        height, width = self.query.shape[:2]
        queries = self.query[rows, columns].flatten(0, 1).to(self.dtype)
        for radius, run in groupby(range(len(self.search.radii)), self.search.radii.__getitem__):
            halo = _halo(height, width, rows, columns, radius, self.search)
            bias, cells = halo.bias.to(self.dtype), len(halo.where)
            at_once = max(1, SIMILARITIES_AT_ONCE // (len(queries) * cells))
            frames = list(run)
            for few in (frames[i : i + at_once] for i in range(0, len(frames), at_once)):
                similarity = queries.new_empty(len(queries), len(few) * cells)
                for part, frame in zip(similarity.split(cells, dim=1), few, strict=True):
                    keys = self.context[frame, halo.rows, halo.columns].flatten(0, 1).to(self.dtype)
                    biased_product(queries, keys, bias, out=part)
                where = torch.tensor(few)[:, None] * (height * width) + halo.where
                yield similarity, where.flatten()

    def _labels_at(self, indices: Tensor) -> Tensor:
        """Labels [..., L] at flat indices [...]."""
        _, _, height, width = self.labels.shape
        frame, cell = indices // (height * width), indices % (height * width)
        return self.labels[frame, :, cell // width, cell % width].to(self.dtype)

    def _mix_ties(self, rows: slice, columns: slice, values: Tensor, tied: Tensor) -> Tensor:
        """Mean labels of the `tied` queries: of all candidates as similar as the last of the matches `values` [Q, k]."""
        values = values[tied]
        total, mixed = values.new_zeros(len(values), 1), values.new_zeros(len(values), self.labels.shape[1])
        for similarity, where in self._similarities(rows, columns):
            weights = tie_weights(similarity[tied], values, self.search.temperature)
            total += weights.sum(dim=1, keepdim=True)
            mixed += weights @ self._labels_at(where)
        return mixed / total


class _Halo(NamedTuple):
    """What the windows of a tile's queries reach of a frame."""

    rows: slice
    columns: slice
    where: Tensor  # [S], flat index of each cell in the frame
    bias: Tensor  # [Q, S]: 0 where a cell lies in a query's window, -inf elsewhere


def _halo(height: int, width: int, rows: slice, columns: slice, radius: float, search: Search) -> _Halo:
    """The halo of the tile of these rows and columns, in a frame of `height` x `width` cells."""
    reach = math.floor(min(radius, height + width))
    above, below = max(0, rows.start - reach), min(height, rows.stop + reach)
    left, right = max(0, columns.start - reach), min(width, columns.stop + reach)
    ys, xs = torch.arange(above, below), torch.arange(left, right)
    away_y = (torch.arange(rows.start, rows.stop)[:, None] - ys)[:, None, :, None].float()
    away_x = (torch.arange(columns.start, columns.stop)[:, None] - xs)[None, :, None].float()
    near = inside(away_y, away_x, radius, search).flatten(0, 1).flatten(1)  # [Q, S]
    bias = torch.zeros(near.shape).masked_fill_(~near, -torch.inf)
    return _Halo(slice(above, below), slice(left, right), (ys[:, None] * width + xs).flatten(), bias)


def _shortlist(similarity: Tensor, count: int) -> Tensor | None:
    """Where the `count` largest of similarities [Q, M] are to be looked for, [Q, m]; None: everywhere.

    The i-th of n groups are the similarities i, i + n, i + 2 n, ...; those left over at the end are always on the list.
    """
    num, left_over = divmod(similarity.shape[1], GROUP)
    if num < 4 * count:
        return None
    grouped = similarity[:, : num * GROUP].unflatten(1, (GROUP, num))
    best = grouped.amax(dim=1).topk(count, dim=1, sorted=False).indices
    members = best[:, None] + num * torch.arange(GROUP)[:, None]  # [Q, GROUP, count]
    rest = torch.arange(num * GROUP, num * GROUP + left_over).expand(len(members), -1)
    return torch.cat([members.flatten(1), rest], dim=1)
