"""Run lengths, with which CVAT and Label Studio store masks."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)  # sizes of a length that Label Studio's own files offer; the last holds up to 65,536


def run_lengths(values: NDArray[np.bool_]) -> list[int]:
    """Count runs of equal values [N], False first: [False, True, True] is [1, 2], and [True] is [0, 1]."""
    changes = np.flatnonzero(np.diff(values, prepend=False)).tolist()
    return [end - begin for begin, end in pairwise([0, *changes, len(values)])]


def brush_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Pack a mask [H, W] as Label Studio stores brush strokes: bytes of thi.ng's rle-pack, four channels a pixel, 255 or 0."""
    bits = [f"{4 * mask.size:032b}", f"{WORD_BITS - 1:05b}", *(f"{size - 1:04b}" for size in LENGTH_BITS)]
    longest = 2 ** LENGTH_BITS[-1]
    for place, length in enumerate(run_lengths(mask.ravel())):
        for begin in range(0, 4 * length, longest):
            count = min(longest, 4 * length - begin)
            bits.append(f"1{len(LENGTH_BITS) - 1:02b}{count - 1:016b}{255 if place % 2 else 0:08b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[begin : begin + 8], 2) for begin in range(0, len(text), 8)]
