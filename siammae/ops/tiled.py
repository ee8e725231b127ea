"""`siammae.ops.propagate` on the CPU: strips of query cells against the part of each context frame that their windows reach.

A strip is a few columns wide. A band of rows of a context frame concerns only the rows of the strip within the radius, so
that one matrix product for each band computes the similarities inside the windows and few others. The best matches are found
exactly through the maxima of groups: the k largest values lie in the k groups with the largest maxima. Strips are shared out
over threads.

Letters: B videos, h x w cells of a frame, n x c of them in a tile (Q = n * c), N context frames, F of them at a time,
D channels, L labels, k matches, R rows and S columns that are looked at for a query.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from siammae.ops.matmul import biased_product
from siammae.ops.reference import Search, best_of, first_of, in_order, inside, mix, tie_weights, window_limit
from siammae.ops.threads import in_threads

STRIP = 8  # columns of a tile: more columns compute more outside the windows, fewer make slower products
BAND, LEAST_BAND = 6, 4  # rows of a context frame in one product, a compromise of the same kind
SIMILARITIES_AT_ONCE = 4_500_000  # held by one thread: 18 MB in float32


class _Tile(NamedTuple):
    """A part of a video's query frame."""

    video: int
    rows: range
    columns: range


def propagate(query: Tensor, context: Tensor, context_labels: Tensor, search: Search) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `siammae.ops.reference.propagate`, on the CPU."""
    num, height, width = context.shape[1], *query.shape[2:]
    search = search._replace(top_k=min(search.top_k, num * height * width))
    videos = [
        _Video(rearrange(frame, "d h w -> h w d"), rearrange(frames, "n d h w -> n h w d"), labels, search)
        for frame, frames, labels in zip(query, context, context_labels, strict=True)
    ]
    channels = context_labels.shape[2], search.top_k, search.top_k
    dtype = videos[0].dtype
    results = [
        torch.empty(len(videos), count, height, width, dtype=kind, device=query.device)
        for count, kind in zip(channels, (dtype, dtype, torch.int64), strict=True)
    ]
    limit = max(window_limit(radius, height, width, search) for radius in search.radii)
    tiles = _tiles(len(videos), height, width, limit, search.window)

    def work(tile: _Tile) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            return videos[tile.video].tile(tile.rows, tile.columns)

    for tile, parts in zip(tiles, in_threads(work, tiles), strict=True):
        for result, part in zip(results, parts, strict=True):
            here = result[tile.video, :, tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
            here.copy_(rearrange(part, "(n c) k -> k n c", n=len(tile.rows)))
    labels, similarities, indices = results
    return labels, similarities, indices


def _tiles(num_videos: int, height: int, width: int, limit: int, window: str) -> list[_Tile]:
    """Cut the videos into strips; strips that hold too much, and the last ones if threads would idle, are cut further."""
    strips = [(video, range(left, min(left + STRIP, width))) for video in range(num_videos) for left in range(0, width, STRIP)]
    threads = torch.get_num_threads()
    in_full_rounds = len(strips) // threads * threads
    tiles = []
    for index, (video, columns) in enumerate(strips):
        parts = 1 if index < in_full_rounds else min(height, math.ceil(threads / (len(strips) - in_full_rounds)))
        while parts < height and _size(height, width, math.ceil(height / parts), columns, limit, window) > SIMILARITIES_AT_ONCE:
            parts += 1
        cuts = [height * part // parts for part in range(parts + 1)]
        tiles += [_Tile(video, range(*rows), columns) for rows in pairwise(cuts)]
    return tiles


def _size(height: int, width: int, num_rows: int, columns: range, limit: int, window: str) -> int:
    """Count the similarities of a tile of `num_rows` rows, in the middle of the grid, to one frame."""
    top = (height - num_rows) // 2
    return math.prod(_Layout(height, width, range(top, top + num_rows), columns, limit, window).shape)


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

    def tile(self, rows: range, columns: range) -> tuple[Tensor, Tensor, Tensor]:
        """Return labels [Q, L], similarities [Q, k] and flat indices [Q, k] of one tile."""
        top_k = self.search.top_k
        count = top_k + self.search.keep_ties  # one more shows if the last has an equal
        best = [windows.best(count) for windows in self._windows(rows, columns)]
        values, indices = in_order(*(torch.cat(part, dim=1) for part in zip(*best, strict=True)))
        missing = max(0, count - values.shape[1])  # where the windows hold fewer cells
        values, indices = F.pad(values, (0, missing), value=-torch.inf), F.pad(indices, (0, missing))
        further, values, indices = values[:, top_k:count], values[:, :top_k], indices[:, :top_k]
        labels = mix(values, self._labels_at(indices), self.search.temperature)
        tied = (further == values[:, -1:]).any(dim=1) & (values[:, -1] > -torch.inf)
        if bool(tied.any()):
            labels[tied] = self._mix_ties(rows, columns, values, tied)
        return labels, values, indices.masked_fill(values == -torch.inf, -1)

    def _windows(self, rows: range, columns: range) -> Iterator["_Windows"]:
        """Yield similarities to a few context frames at a time; the next few overwrite them."""
        height, width, _ = self.query.shape
        queries = self.query[rows.start : rows.stop, columns.start : columns.stop].to(self.dtype).contiguous()  # [n, c, D]
        for radius, run in groupby(range(len(self.search.radii)), self.search.radii.__getitem__):
            limit = window_limit(radius, height, width, self.search)
            layout = _Layout(height, width, rows, columns, limit, self.search.window)
            products = layout.products(queries, layout.bias().to(self.dtype))
            frames = list(run)
            num_chunks = math.ceil(len(frames) * math.prod(layout.shape) / SIMILARITIES_AT_ONCE)
            at_once = math.ceil(len(frames) / num_chunks)
            storage = queries.new_full((at_once, *layout.shape), -torch.inf)
            for few in (frames[i : i + at_once] for i in range(0, len(frames), at_once)):
                for part, frame in zip(storage, few, strict=False):
                    keys = self.context[frame, :, layout.halo.start : layout.halo.stop].to(self.dtype)
                    for product in products:
                        product.compute(keys, out=part)
                yield layout.windows(storage[: len(few)], few, len(self.context))

    def _labels_at(self, indices: Tensor) -> Tensor:
        """Return labels [..., L] at flat indices [...]."""
        _, _, height, width = self.labels.shape
        frame, cell = indices // (height * width), indices % (height * width)
        return self.labels[frame, :, cell // width, cell % width].to(self.dtype)

    def _mix_ties(self, rows: range, columns: range, values: Tensor, tied: Tensor) -> Tensor:
        """Return mean labels of the `tied` queries over all candidates as similar as the last match of `values` [Q, k]."""
        values = values[tied]
        total, mixed = values.new_zeros(len(values), 1), values.new_zeros(len(values), self.labels.shape[1])
        for windows in self._windows(rows, columns):
            weights = tie_weights(windows.of(tied), values, self.search.temperature)
            total += weights.sum(dim=1, keepdim=True)
            first = windows.first[tied]
            for index in first.unique():
                there = first == index
                mixed[there] += weights[there] @ self._labels_at(windows.indices(index, slice(None)))
        return mixed / total


class _Windows(NamedTuple):
    """Similarities of a tile's queries to their candidates in a few context frames.

    A query has M = F * R * S candidates: R rows of S columns in each frame, -inf where they lie outside its window.
    """

    memory: Tensor  # 1-D
    similarity: Tensor  # [F, blocks, rows of a block, c, bands, rows of a band, S], a view of it
    first: Tensor  # [Q], flat index of a query's first candidate in frame 0, were the grid to go on above its first row
    further: Tensor  # [M], what leads from there to the others
    last_index: int

    def best(self, top_k: int) -> tuple[Tensor, Tensor]:
        """Return the `top_k` largest similarities of each query, descending, and their flat indices, both [Q, k].

        The groups are the columns of the frames: R similarities each.
        """
        num_queries, columns = len(self.first), self.similarity.shape[6]
        top_k = min(top_k, len(self.further))
        maxima = rearrange(self.similarity.amax(dim=4).amax(dim=4), "f i u c s -> (i u c) (f s)")[:num_queries]
        if maxima.shape[1] < 4 * (top_k + 1):
            values, candidates = best_of(self.of(torch.ones(num_queries, dtype=torch.bool, device=maxima.device)), top_k)
        else:
            group = maxima.topk(top_k + 1, dim=1, sorted=False).indices[:, :, None]  # [Q, k + 1, 1]
            frame, column = group // columns, group % columns
            of_frame, *of_query, of_band, of_row, _ = self.similarity.stride()
            rows = _lattice(self.similarity.shape[4:6], (of_band, of_row))
            queries = _lattice(self.similarity.shape[1:4], of_query)[:num_queries] + int(self.similarity.storage_offset())
            address = queries[:, None, None] + frame * of_frame + column + rows  # [Q, k + 1, R]
            values, chosen = self.memory.take(address.flatten(1)).topk(top_k + 1, dim=1)
            candidate = (frame * len(rows) + torch.arange(len(rows), device=rows.device)) * columns + column
            values, candidates = first_of(values, candidate.flatten(1).gather(1, chosen), top_k, self.of)
        return values, self.indices(self.first[:, None], candidates)

    def of(self, queries: Tensor) -> Tensor:
        """Return similarities [_, M] of the queries where `queries` [Q] is true."""
        _, blocks, height, width, _, _, _ = self.similarity.shape
        chosen = F.pad(queries, (0, blocks * height * width - len(queries))).view(blocks, height, width)
        return rearrange(self.similarity, "f i u c t y s -> i u c f t y s")[chosen].flatten(1)

    def indices(self, first: Tensor, candidates: Tensor | slice) -> Tensor:
        """Return flat indices, inside the grid, of candidates counted from a query's first one, at `first`."""
        return (first + self.further[candidates]).clamp_(0, self.last_index)


def _counted(numbers: range) -> Tensor:
    """Return neighbouring whole numbers as a tensor [_], int64, on the CPU."""
    return torch.arange(numbers.start, numbers.stop, device="cpu")


def _lattice(shape: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Return the places of a tensor's elements in memory, 1-D."""
    places = _counted(range(1))
    for size, stride in zip(shape, strides, strict=True):
        places = (places[:, None] + stride * _counted(range(size))).flatten()
    return places


class _Product(NamedTuple):
    """A band of a context frame with the rows of a tile that look at it."""

    queries: Tensor  # [tile rows * c, D]
    bias: Tensor  # [tile rows * c, rows * S]
    rows: slice
    place: tuple[int, slice, slice, slice]

    def compute(self, keys: Tensor, *, out: Tensor) -> None:
        """Write biased similarities to the keys [h, S, D] of a frame into their place in `out` of the layout's shape."""
        biased_product(self.queries, keys[self.rows].flatten(0, 1), self.bias, out=out[self.place].flatten(2).flatten(0, 1))


@dataclass(frozen=True)
class _Layout:
    """The places in memory of the similarities between a tile and a context frame.

    The frame's rows are taken in bands. If windows have fewer rows than the tile, a band has a slot for each row of the tile
    that may look at it, so that what a query looks at stands in memory at even distances from slot to slot; otherwise it has a
    slot for each row of the tile.
    """

    height: int
    width: int
    rows: range
    columns: range
    limit: int  # of `window_limit`
    window: str

    @cached_property
    def reach(self) -> int:
        """Rows or columns that a window reaches in one direction."""
        return self.limit if self.window == "square" else math.isqrt(self.limit)

    @cached_property
    def band(self) -> int:
        """Rows of a band, such that the rows that a window reaches in one direction make a few whole bands."""
        return max(LEAST_BAND, math.ceil(self.reach / max(1, math.ceil(self.reach / BAND))))

    @cached_property
    def bands_around(self) -> int:
        """Bands that a window reaches beyond its own, in one direction."""
        return math.ceil(self.reach / self.band)

    @cached_property
    def tall(self) -> bool:
        """True if the tile has more rows than a window."""
        return len(self.rows) > (2 * self.bands_around + 1) * self.band

    @cached_property
    def top(self) -> int:
        """First row of the first band."""
        return self.rows.start - self.bands_around * self.band if self.tall else max(0, self.rows.start - self.reach)

    @cached_property
    def halo(self) -> range:
        """Columns of the context frame that windows reach."""
        return range(max(0, self.columns.start - self.reach), min(self.width, self.columns.stop + self.reach))

    @cached_property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Bands, slots, c, rows of a band, S."""
        if self.tall:
            bands = math.ceil(len(self.rows) / self.band) + 2 * self.bands_around
            slots = (2 * self.bands_around + 1) * self.band
        else:
            last = min(self.height, self.rows.stop + self.reach)
            bands, slots = math.ceil((last - self.top) / self.band), len(self.rows)
        return bands, slots, len(self.columns), self.band, len(self.halo)

    def bias(self) -> Tensor:
        """Return [rows, c, rows of a band, S]: 0 for cells in a query's window, -inf elsewhere.

        The first row belongs to queries as far above the band's first row as windows reach.
        """
        away_y = _counted(range(-self.reach, self.reach + self.band))[:, None] - _counted(range(self.band))
        away_x = _counted(self.columns)[:, None] - _counted(self.halo)
        near = inside(away_y[:, None, :, None], away_x[:, None, :], self.limit, self.window)
        return torch.zeros(near.shape, dtype=torch.float32, device="cpu").masked_fill_(~near, -torch.inf)

    def products(self, queries: Tensor, bias: Tensor) -> list[_Product]:
        """Return the products of `queries` [n, c, D] with each band of a context frame."""
        products = []
        for index in range(self.shape[0]):
            row = self.top + index * self.band
            begin, end = max(0, row), min(self.height, row + self.band)
            first, last = max(self.rows.start, row - self.reach), min(self.rows.stop, row + self.band + self.reach)
            if begin >= end or first >= last:
                continue
            slot = first - (row - self.bands_around * self.band if self.tall else self.rows.start)
            in_band = slice(begin - row, end - row)
            products.append(
                _Product(
                    queries[first - self.rows.start : last - self.rows.start].flatten(0, 1),
                    bias[first - row + self.reach : last - row + self.reach, :, in_band].flatten(2).flatten(0, 1),
                    slice(begin, end),
                    (index, slice(slot, slot + last - first), slice(None), in_band),
                )
            )
        return products

    def windows(self, storage: Tensor, frames: Sequence[int], num_frames: int) -> _Windows:
        """Return a view of the products in `storage` [F, *shape] for these frames."""
        bands, slots, num_columns, band, _ = self.shape
        of_frame, of_band, of_slot, of_column, of_row, _ = storage.stride()
        if self.tall:
            blocks, block, around = bands - 2 * self.bands_around, band, 2 * self.bands_around + 1
            of_block, of_next, start = of_band, of_band - band * of_slot, (around - 1) * band * of_slot
        else:
            blocks, block, around = 1, slots, bands
            of_block, of_next, start = 0, of_band, 0
        size = len(frames), blocks, block, num_columns, around, band, len(self.halo)
        similarity = storage.as_strided(size, (of_frame, of_block, of_slot, of_column, of_next, of_row, 1), start)
        cells = self.height * self.width
        first = _counted(range(len(self.rows)))
        first = first // block * block if self.tall else torch.zeros_like(first)
        first = ((self.top + first) * self.width + self.halo.start).repeat_interleave(num_columns)
        rows, columns = _counted(range(around * band))[:, None] * self.width, _counted(range(len(self.halo)))
        further = torch.tensor(frames, device="cpu")[:, None, None] * cells + rows + columns
        return _Windows(storage.view(-1), similarity, first, further.flatten(), num_frames * cells - 1)
