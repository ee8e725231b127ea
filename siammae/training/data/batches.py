"""Batches: what a training step receives, whatever source it came from.

A step's `batch_size` pairs are cut into parts, one for every backward pass of every process. Part number
`step * parts + k` is drawn from a random generator of its own, so the run is the same for any number of processes,
loader workers and resumes.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor


class Batch(NamedTuple):
    """One part of a step's samples."""

    frames: Tensor  # [B, 1 + T, 3, S, S], uint8: the past frame, then its futures
    names: list[str]  # the file of each sample
    skipped: list[tuple[str, str]]  # files found unusable on the way, each with the reason


class Source(Protocol):
    """Something that gives the parts of a run in order, from any part on.

    Attributes:
        num_files: files or clips that make an epoch; None where that is not known.
        skipped: sources found unusable before the run, each with the reason.
    """

    num_files: int | None
    skipped: tuple[tuple[str, str], ...]

    def parts(self, first: int, stride: int) -> Iterator[Batch]:
        """Parts first, first + stride, first + 2 * stride, ... without end."""
        ...
