"""Batches: the input of a training step, from any source.

A step's `batch_size` pairs are cut into micro-batches, one for every backward pass of every process. Micro-batch number
`step * micro_batches + k` is drawn from a random generator of its own, so the run is the same for any number of
processes, loader workers and resumes.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor


class Batch(NamedTuple):
    """A micro-batch: the samples of one backward pass of one process."""

    frames: Tensor  # [B, 1 + T, 3, S, S], uint8: the past frame, then its futures
    names: list[str]  # the file of each sample
    skipped: list[tuple[str, str]]  # files found unusable on the way, each with the reason


class Source(Protocol):
    """A source of a run's micro-batches in order, from any of them on.

    Attributes:
        num_files: files or clips that make an epoch; None where that is not known.
        skipped: sources found unusable before the run, each with the reason.
    """

    num_files: int | None
    skipped: tuple[tuple[str, str], ...]

    def micro_batches(self, first: int, stride: int) -> Iterator[Batch]:
        """Yield the micro-batches first, first + stride, first + 2 * stride, ... without end."""
        ...
