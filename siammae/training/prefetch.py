"""Prefetcher: the next micro-batch goes to the device while the device still works on the one before."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from siammae.training.data import Batch
from siammae.training.masking import Masks


class Ready(NamedTuple):
    """A micro-batch on the device."""

    batch: Batch  # as it was loaded
    frames: Tensor  # [B, 1 + T, 3, S, S], uint8
    masks: Masks


class Prefetcher:
    """The micro-batches of a process in order, one of them ahead.

    On a GPU a second stream copies, and makes the crops of a cache that lies on the device, beside the computation.

    Args:
        batches: finished micro-batches in order.
        device: the device that trains.
    """

    def __init__(self, batches: Iterator[Batch], device: torch.device) -> None:
        self._batches, self._device = batches, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._next: Ready | None = None

    def fetch(self) -> None:
        """Load the next micro-batch and begin to copy it, unless that was done."""
        if self._next is None:
            with self._beside():
                batch = next(self._batches)
                assert batch.masks is not None
                frames = batch.frames.to(self._device, non_blocking=True)
                self._next = Ready(batch, frames, batch.masks.to(self._device))

    def take(self) -> Ready:
        """Return the next micro-batch; what is computed with it waits on the device until it has arrived."""
        self.fetch()
        ready, self._next = self._next, None
        assert ready is not None
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in (ready.frames, *ready.masks.past, *ready.masks.future):
                tensor.record_stream(current)  # its memory is not given away before the current stream has used it
        return ready

    def _beside(self) -> AbstractContextManager[object]:
        """Return a context in which the device works beside the current stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
