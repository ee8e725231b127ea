"""Batches: the input of a training step, from any source, made ahead in worker processes.

A step's `batch_size` pairs are cut into micro-batches, one for every backward pass of every process. Micro-batch number
`step * micro_batches + k` is drawn from a random generator of its own, so the run is the same for any number of
processes, loader workers and resumes.
"""

import signal
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from siammae.training.masking import Masks


class Batch(NamedTuple):
    """A micro-batch: the samples of one backward pass of one process."""

    frames: Tensor  # [B, 1 + T, 3, S, S], uint8: the past frame, then its futures
    names: list[str]  # the file of each sample
    skipped: list[tuple[str, str]]  # files found unusable on the way, each with the reason
    masks: Masks | None = None  # of the samples, on the CPU; None until the batch is finished


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


def load(dataset: Dataset[Batch], workers: int, pin: bool, **options: Any) -> Iterator[Batch]:
    """Yield the data set's batches, made ahead in worker processes; an error of a worker comes as it was raised there."""
    if workers:
        options |= {"prefetch_factor": 2, "worker_init_fn": _leave_signals_to_parent}
        options["multiprocessing_context"] = "forkserver"
    loader: DataLoader[Batch] = DataLoader(_Caught(dataset), batch_size=None, num_workers=workers, pin_memory=pin, **options)
    for item in loader:
        if isinstance(item, Exception):
            raise item
        frames, names, skipped, masks = item
        yield Batch(frames, list(names), [tuple(pair) for pair in skipped], masks)


class _Caught(Dataset[Any]):
    """A data set whose errors about the data are values: DataLoader would add a worker's traceback to their line."""

    def __init__(self, dataset: Dataset[Batch]) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Batch | ValueError | OSError:
        try:
            return self._dataset[index]
        except (ValueError, OSError) as error:
            return error


def _leave_signals_to_parent(worker: int) -> None:
    """Ignore signals in a worker: a launcher sends SIGTERM to all processes, and workers stay until the training has saved."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
