"""The two Triton kernels of `siammae.ops.cuda`; importing this file needs Triton, and nothing but `cuda` imports it.

Letters: B videos, N context frames, D channels, L labels, S splits, C candidates, k matches, h x w grid cells, P of them,
Q cells of a tile of the query frame, M cells of a block of a context frame.

Candidates are ordered by similarity, largest first, and among equal ones by flat index n * h * w + row * w + column, smallest
first. No two are equal in this order, so the best C of them are the same set in whatever order they come.
"""

import triton
import triton.language as tl

LAST = tl.constexpr(0x7FFFFFFF)  # an index behind all others
MISSING = tl.constexpr(-0x8000000000000000)  # the key of no candidate


@triton.jit
def pack(similarity, index):  # type: ignore[no-untyped-def]
    """Pack candidates into int64 keys of the same order: the sortable bits of the float32 similarity, the inverted index.

    NaN comes before everything, so that it shows in the result.
    """
    similarity = tl.where(similarity == 0, 0.0, similarity)  # 0 and -0 are equal
    bits = similarity.to(tl.int32, bitcast=True)
    ordered = tl.where(similarity != similarity, LAST, bits ^ ((bits >> 31) & LAST))
    return (ordered.to(tl.int64) << 32) | (index ^ LAST).to(tl.int64)


@triton.jit
def unpack(key):  # type: ignore[no-untyped-def]
    """Return similarity and index of keys; -inf and -1 for missing ones."""
    ordered = (key >> 32).to(tl.int32)
    similarity = (ordered ^ ((ordered >> 31) & LAST)).to(tl.float32, bitcast=True)
    index = (key & LAST).to(tl.int32) ^ LAST
    missing = key == MISSING
    return tl.where(missing, -float("inf"), similarity), tl.where(missing, -1, index)


@triton.jit  # type: ignore[untyped-decorator]
def span(first, COUNT: tl.constexpr, reach, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return for one axis the first cell that `COUNT` cells from `first` on reach, and how many blocks hold all of them."""
    start = tl.maximum(first - reach, 0)
    return start, tl.cdiv(tl.minimum(first + COUNT + reach, size) - start, BLOCK)


@triton.jit  # type: ignore[untyped-decorator]
def reach_of(limit, CIRCLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the largest offset along one axis within a limit: for circles its root, whichever way tl.sqrt rounds."""
    reach = limit
    if CIRCLE:
        reach = tl.sqrt(limit.to(tl.float32)).to(tl.int32)
        reach += ((reach + 1) * (reach + 1) <= limit).to(tl.int32)
        reach -= (reach * reach > limit).to(tl.int32)
    return reach


@triton.jit  # type: ignore[untyped-decorator]
def gap(first, COUNT: tl.constexpr, other, OTHER: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the offset between the nearest of `COUNT` cells from `first` on and `OTHER` cells from `other` on."""
    return tl.maximum(tl.maximum(other - (first + COUNT - 1), first - (other + OTHER - 1)), 0)


@triton.jit  # type: ignore[untyped-decorator]
def distance(rows, columns, CIRCLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the distance of two offsets as the limits count it: squared for circles, the larger one for squares."""
    if CIRCLE:
        return rows * rows + columns * columns
    else:  # noqa: RET505, the other branch is not compiled
        return tl.maximum(tl.abs(rows), tl.abs(columns))


@triton.jit
def worst_of(values, indices):  # type: ignore[no-untyped-def]
    """Return similarity [Q] and index [Q] of the last candidate of each list [Q, C]."""
    lowest = tl.min(values, 1)
    return lowest, tl.max(tl.where(values == lowest[:, None], indices, -1), 1)


@triton.jit(do_not_specialize=["num_frames", "height", "width"])  # type: ignore[untyped-decorator]
def find_candidates(  # type: ignore[no-untyped-def]
    query,
    context,
    limits,
    lists,
    num_frames,
    channels,
    height,
    width,
    query_batch_stride,
    query_row_stride,
    query_column_stride,
    context_batch_stride,
    context_frame_stride,
    context_row_stride,
    context_column_stride,
    CIRCLE: tl.constexpr,
    HALF: tl.constexpr,
    EVEN: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CANDIDATES: tl.constexpr,
):
    """Find the best C candidates [B, S, P, C] of each cell within a share of the context, as keys in any order.

    A program (tile, split, video) takes a tile of the query frame and goes through the blocks of the context frames that the
    windows of its cells can touch. Numbered from the first block of the first frame to the last of the last, these are shared
    out evenly: a split may begin and end within a frame, so one frame that is searched everywhere does not hold up the rest.

    query [B, h, w, D] and context [B, N, h, w, D] have channel stride 1; limits [N] are the largest distances in the windows.
    Similarities are computed in float16 with float32 sums (HALF) or in float32. EVEN: D is a multiple of BLOCK_CHANNELS.
    """
    batch = tl.program_id(2).to(tl.int64)
    split, num_splits = tl.program_id(1), tl.num_programs(1)
    tiles_across = tl.cdiv(width, TILE_COLUMNS)
    top = tl.program_id(0) // tiles_across * TILE_ROWS
    left = tl.program_id(0) % tiles_across * TILE_COLUMNS

    cell = tl.arange(0, TILE_ROWS * TILE_COLUMNS)
    rows = top + cell // TILE_COLUMNS  # [Q]
    columns = left + cell % TILE_COLUMNS  # [Q]
    on_grid = (rows < height) & (columns < width)  # [Q]
    query += batch * query_batch_stride
    query_at = tl.minimum(rows, height - 1) * query_row_stride + tl.minimum(columns, width - 1) * query_column_stride
    member = tl.arange(0, BLOCK_ROWS * BLOCK_COLUMNS)  # [M]
    channel = tl.arange(0, BLOCK_CHANNELS)
    kind = tl.float16 if HALF else tl.float32

    # Empty places have similarity -inf, which no candidate has, and different indices: one of them is the worst of its list.
    # Cells of the tile that are not on the grid have a list that nothing can enter.
    slots = tl.arange(0, CANDIDATES)
    values = tl.zeros([TILE_ROWS * TILE_COLUMNS, CANDIDATES], tl.float32)
    values += tl.where(on_grid, -float("inf"), float("inf"))[:, None]
    indices = tl.zeros([TILE_ROWS * TILE_COLUMNS, CANDIDATES], tl.int32) + (slots ^ LAST)[None, :]
    lowest, last = worst_of(values, indices)  # [Q], [Q]

    num_blocks = 0
    for frame in range(num_frames):
        reach = reach_of(tl.load(limits + frame), CIRCLE)
        _, down = span(top, TILE_ROWS, reach, height, BLOCK_ROWS)
        _, across = span(left, TILE_COLUMNS, reach, width, BLOCK_COLUMNS)
        num_blocks += down * across
    begin, end = num_blocks * split // num_splits, num_blocks * (split + 1) // num_splits

    passed = 0
    frame_at = context + batch * context_batch_stride
    for frame in range(num_frames):
        limit = tl.load(limits + frame)
        reach = reach_of(limit, CIRCLE)
        first_row, down = span(top, TILE_ROWS, reach, height, BLOCK_ROWS)
        first_column, across = span(left, TILE_COLUMNS, reach, width, BLOCK_COLUMNS)
        for block in range(tl.maximum(begin - passed, 0), tl.minimum(end - passed, down * across)):
            # From the block beneath the tile on, cyclically: the best matches are mostly there, and then little else is kept.
            row = first_row + ((top - first_row) // BLOCK_ROWS + block // across) % down * BLOCK_ROWS
            column = first_column + ((left - first_column) // BLOCK_COLUMNS + block % across) % across * BLOCK_COLUMNS
            row_gap = gap(top, TILE_ROWS, row, BLOCK_ROWS)
            column_gap = gap(left, TILE_COLUMNS, column, BLOCK_COLUMNS)
            if distance(row_gap, column_gap, CIRCLE) <= limit:
                key_rows = row + member // BLOCK_COLUMNS  # [M]
                key_columns = column + member % BLOCK_COLUMNS  # [M]
                key_at = tl.minimum(key_rows, height - 1) * context_row_stride
                key_at += tl.minimum(key_columns, width - 1) * context_column_stride
                similarity = tl.zeros([TILE_ROWS * TILE_COLUMNS, BLOCK_ROWS * BLOCK_COLUMNS], tl.float32)
                for start in range(0, channels, BLOCK_CHANNELS):
                    query_tile = query + query_at[:, None] + (start + channel)[None, :]
                    key_block = frame_at + key_at[None, :] + (start + channel)[:, None]
                    if EVEN:
                        queries = tl.load(query_tile)
                        keys = tl.load(key_block)
                    else:
                        present = start + channel < channels
                        queries = tl.load(query_tile, mask=present[None, :], other=0)
                        keys = tl.load(key_block, mask=present[:, None], other=0)
                    similarity = tl.dot(queries.to(kind), keys.to(kind), similarity, input_precision="ieee")

                similarity = tl.where(similarity != similarity, float("inf"), similarity)  # [Q, M]; NaN must not hide
                best = tl.max(similarity, 1)
                # Cheap, and enough for most blocks: cells outside the window may pass, candidates never fail.
                if tl.max((best >= lowest).to(tl.int32), 0) > 0:
                    number = frame * (height * width) + key_rows * width + key_columns  # [M]
                    off = distance(rows[:, None] - key_rows[None, :], columns[:, None] - key_columns[None, :], CIRCLE)
                    present = (key_rows < height) & (key_columns < width)
                    similarity = tl.where((off <= limit) & present[None, :], similarity, -float("inf"))
                    best = tl.max(similarity, 1)
                    while tl.max(((best >= lowest) & (best > -float("inf"))).to(tl.int32), 0) > 0:
                        # The best left of the block takes the place of the worst on the list, in all rows where it is better.
                        index = tl.min(tl.where(similarity == best[:, None], number[None, :], LAST), 1)
                        better = ((best > lowest) | ((best == lowest) & (index < last))) & (best > -float("inf"))
                        place = better[:, None] & (values == lowest[:, None]) & (indices == last[:, None])
                        values = tl.where(place, best[:, None], values)
                        indices = tl.where(place, index[:, None], indices)
                        lowest, last = worst_of(values, indices)
                        similarity = tl.where(number[None, :] == index[:, None], -float("inf"), similarity)
                        best = tl.max(similarity, 1)
        passed += down * across
        frame_at += context_frame_stride

    cells = (batch * num_splits + split) * height * width + rows * width + columns
    keys = tl.where(values == -float("inf"), MISSING, pack(values, indices))
    tl.store(lists + cells[:, None] * CANDIDATES + slots[None, :], keys, mask=on_grid[:, None])


@triton.jit(do_not_specialize=["height", "width", "num_labels", "label_batch_stride", "label_frame_stride"])  # type: ignore[untyped-decorator]
def mix_labels(  # type: ignore[no-untyped-def]
    query,
    context,
    labels,
    lists,
    mixed,
    similarities,
    indices,
    temperature,
    channels,
    height,
    width,
    num_labels,
    query_batch_stride,
    query_row_stride,
    query_column_stride,
    context_batch_stride,
    context_frame_stride,
    context_row_stride,
    context_column_stride,
    label_batch_stride,
    label_frame_stride,
    label_stride,
    label_row_stride,
    label_column_stride,
    TOP_K: tl.constexpr,
    KEEP_TIES: tl.constexpr,
    SPLITS: tl.constexpr,
    CANDIDATES: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_LABELS: tl.constexpr,
):
    """Compute labels [B, L, h, w], similarities [B, k, h, w] and indices [B, k, h, w] from candidates [B, S, P, C].

    A program (cell, video) takes one cell: merges its lists, recomputes the similarities of the C best candidates in
    float32, and mixes the labels of the best k of these.

    query [B, h, w, D] and context [B, N, h, w, D] have channel stride 1; labels [B, N, L, h, w] any strides.
    """
    cell = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    num_cells = height * width
    slots = tl.arange(0, CANDIDATES)  # [C]

    # In their order, since sums over the candidates shall not depend on the splits.
    shared = tl.arange(0, SPLITS * CANDIDATES)
    at = (batch * SPLITS + shared // CANDIDATES) * num_cells + cell
    left = tl.load(lists + at * CANDIDATES + shared % CANDIDATES)
    keys = tl.full([CANDIDATES], MISSING, tl.int64)
    for rank in range(CANDIDATES):
        best = tl.max(left, 0)
        keys = tl.where(slots == rank, best, keys)
        left = tl.where(left == best, MISSING, left)

    known = keys != MISSING  # [C]
    _, index = unpack(keys)
    index = tl.maximum(index, 0)
    frame, place = (index // num_cells).to(tl.int64), index % num_cells
    row, column = place // width, place % width
    query_at = query + batch * query_batch_stride + cell // width * query_row_stride + cell % width * query_column_stride
    key_at = batch * context_batch_stride + frame * context_frame_stride  # [C]
    key_at += row * context_row_stride + column * context_column_stride
    products = tl.zeros([CANDIDATES, BLOCK_CHANNELS], tl.float32)
    for start in range(0, channels, BLOCK_CHANNELS):
        channel = start + tl.arange(0, BLOCK_CHANNELS)
        own = tl.load(query_at + channel, mask=channel < channels, other=0).to(tl.float32)
        present = known[:, None] & (channel < channels)[None, :]
        theirs = tl.load(context + key_at[:, None] + channel[None, :], mask=present, other=0).to(tl.float32)
        products += own[None, :] * theirs
    similarity = tl.sum(products, 1)  # [C]
    keys = tl.where(known, pack(similarity, index), MISSING)

    remaining = keys
    kth = tl.max(remaining, 0)
    first, _ = unpack(kth)
    match_at = batch * TOP_K * num_cells + cell
    for _rank in range(TOP_K):
        kth = tl.max(remaining, 0)
        remaining = tl.where(remaining == kth, MISSING, remaining)
        match_similarity, match_index = unpack(kth)
        tl.store(similarities + match_at, match_similarity)
        tl.store(indices + match_at, match_index.to(tl.int64))
        match_at += num_cells

    if KEEP_TIES:
        last, _ = unpack(kth)
        chosen = known & (similarity >= last)
    else:
        chosen = known & (keys >= kth)
    weights = tl.where(chosen, tl.exp((similarity - first) / temperature), 0.0)  # [C]
    weights = weights / tl.sum(weights, 0)
    label_at = batch * label_batch_stride + frame * label_frame_stride
    label_at += row * label_row_stride + column * label_column_stride
    for start in range(0, num_labels, BLOCK_LABELS):
        label = start + tl.arange(0, BLOCK_LABELS)
        present = chosen[:, None] & (label < num_labels)[None, :]
        each = tl.load(labels + label_at[:, None] + (label * label_stride)[None, :], mask=present, other=0).to(tl.float32)
        mean = tl.sum(weights[:, None] * each, 0)
        tl.store(mixed + (batch * num_labels + label) * num_cells + cell, mean, mask=label < num_labels)
