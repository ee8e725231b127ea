"""Batches made ahead in worker processes."""

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from siammae.training.data.batches import Batch


def load(dataset: Dataset[Batch], workers: int, pin: bool, **options: Any) -> Iterator[Batch]:
    """Yield the data set's batches, made ahead in worker processes."""
    if workers:
        options |= {"prefetch_factor": 2, "worker_init_fn": _leave_signals_to_parent}
        options["multiprocessing_context"] = "forkserver"
    loader: DataLoader[Batch] = DataLoader(dataset, batch_size=None, num_workers=workers, pin_memory=pin, **options)
    for frames, names, skipped in loader:
        yield Batch(frames, list(names), [tuple(pair) for pair in skipped])


def _leave_signals_to_parent(worker: int) -> None:
    """Ignore signals in a worker: a launcher sends SIGTERM to all processes, and workers stay until the training has saved."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
