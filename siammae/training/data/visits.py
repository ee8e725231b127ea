"""Visits: numbered micro-batches over files or clips that can be opened in any order.

An item is one visit of one file and gives `repeats` samples. Item number n of a run is file n modulo their number of
the n-th epoch's permutation, drawn with a random generator of its own, so the number of loader workers, of processes and of
resumes does not change it, and a resumed run reads nothing of what it used before.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from siammae.training.config import DataConfig
from siammae.training.data.batches import Batch, load
from siammae.training.data.clips import UnusableClip
from siammae.training.data.finish import Finish, FinishedBatches

MAX_UNUSABLE = 100  # files in a row that may fail before the data set counts as unusable

Visit = tuple[int, int]  # index of a file, number of an item of the run


class VisitMicroBatches(Dataset[Batch]):
    """Micro-batches of a run by number; each is loaded whole by one worker.

    A file that turns out unusable is replaced by the next one of a permutation that the item's number fixes, and
    reported with the batch.

    Args:
        count: number of files.
        config: repeats, and what the subclass draws by.
        size: samples of a micro-batch.
        side: S, pixels of a crop's side.
        futures: T.
        seed: seed of the run.
    """

    def __init__(self, count: int, config: DataConfig, *, size: int, side: int, futures: int, seed: int) -> None:
        if size % config.repeats:
            raise ValueError(f"{size} pairs of one backward pass are no multiple of data.repeats {config.repeats}")
        self._count, self._config = count, config
        self._items = size // config.repeats
        self._side, self._futures, self._seed = side, futures, seed
        self._unusable: dict[int, str] = {}
        self._orders: dict[int, NDArray[np.uint32]] = {}

    def name(self, index: int) -> str:
        """Return the name of a file in logs."""
        raise NotImplementedError

    def visit(self, visits: Sequence[Visit]) -> "list[list[Tensor] | UnusableClip]":
        """Draw `repeats` samples, each [1 + T, 3, S, S], for each visit, or return the reason why its file gives none."""
        raise NotImplementedError

    def rng(self, item: int) -> np.random.Generator:
        """Return the random generator of an item, always from its begin."""
        return np.random.default_rng([self._seed, 2, item])

    def __getitem__(self, micro_batch: int) -> Batch:
        items = range(micro_batch * self._items, (micro_batch + 1) * self._items)
        visits = [(next(self._candidates(item)), item) for item in items]
        visits = [visit for visit in visits if visit[0] not in self._unusable]
        drawn = dict(zip(visits, self.visit(visits), strict=True))
        samples: list[Tensor] = []
        names: list[str] = []
        skipped: list[tuple[str, str]] = []
        for item in items:
            few, index = self._draw(item, drawn, skipped)
            samples += few
            names += [self.name(index)] * len(few)
        return Batch(torch.stack(samples), names, skipped)

    def _draw(
        self, item: int, drawn: "dict[Visit, list[Tensor] | UnusableClip]", skipped: list[tuple[str, str]]
    ) -> tuple[list[Tensor], int]:
        """Return the samples of an item and the index of the file that gave them: its own, or one in its place."""
        for index in self._candidates(item):
            if index in self._unusable:
                continue
            result = drawn[index, item] if (index, item) in drawn else self.visit([(index, item)])[0]
            if not isinstance(result, UnusableClip):
                return result, index
            self._unusable[index] = str(result)
            skipped.append((self.name(index), str(result)))
        reasons = "; ".join(list(self._unusable.values())[:3])
        raise ValueError(f"no usable file: {len(self._unusable)} of {self._count} tried, such as {reasons}")

    def _candidates(self, item: int) -> Iterator[int]:
        """Yield the item's own file, then others to take its place."""
        epoch, position = divmod(item, self._count)
        yield int(self._order(epoch)[position])
        others = np.random.default_rng([self._seed, 4, item])
        if self._count <= MAX_UNUSABLE:
            yield from map(int, others.permutation(self._count))
        else:
            yield from map(int, others.integers(self._count, size=MAX_UNUSABLE))

    def _order(self, epoch: int) -> NDArray[np.uint32]:
        """Return an epoch's permutation of the files; two are kept, for micro-batches at an epoch's end."""
        if epoch not in self._orders:
            while len(self._orders) > 1:
                del self._orders[min(self._orders)]
            order = np.random.default_rng([self._seed, 3, epoch]).permutation(self._count)
            self._orders[epoch] = order.astype(np.uint32)
        return self._orders[epoch]


class VisitSource:
    """Micro-batches of a run, loaded ahead by `data.workers` processes, and finished there if `finish` is given."""

    def __init__(
        self, batches: VisitMicroBatches, num_files: int, workers: int, pin: bool, finish: Finish | None = None
    ) -> None:
        self._dataset: Dataset[Batch] = FinishedBatches(batches, finish) if finish else batches
        self._workers, self._pin = workers, pin
        self.num_files: int | None = num_files
        self.skipped: tuple[tuple[str, str], ...] = ()

    def micro_batches(self, first: int, stride: int) -> Iterator[Batch]:
        """Yield the micro-batches first, first + stride, first + 2 * stride, ... without end."""
        yield from load(self._dataset, self._workers, self._pin, sampler=itertools.count(first, stride))
