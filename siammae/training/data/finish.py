"""Finish: what is added to a micro-batch after its crops, by its number: changes of color and blur, and masks.

Loader workers finish what they load. Sources without workers give batches that are not finished, and `finished` does it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Dataset

from siammae.training.config import AppearanceConfig, TrainConfig
from siammae.training.data.appearance import change_appearance
from siammae.training.data.batches import Batch, Source
from siammae.training.masking import MaskDrawer
from siammae.training.model_config import mask_drawer


@dataclass(frozen=True)
class Finish:
    """The last work on a micro-batch; the same number gives the same result in every process and loader worker.

    Attributes:
        masks: the draw of the masks.
        appearance: changes of color and blur.
        seed: seed of the run.
    """

    masks: MaskDrawer
    appearance: AppearanceConfig
    seed: int

    def __call__(self, batch: Batch, micro_batch: int) -> Batch:
        """Return the batch with its masks, on the CPU, and its frames changed, on their device."""
        frames = change_appearance(batch.frames, self.appearance, [self.seed, 8, micro_batch])
        return batch._replace(frames=frames, masks=self.masks(len(frames), micro_batch))


def build_finish(config: TrainConfig) -> Finish:
    """Return the last work on a run's micro-batches."""
    return Finish(mask_drawer(config.model, config.seed), config.data.appearance, config.seed)


class FinishedBatches(Dataset[Batch]):
    """Micro-batches by number, finished where they are loaded."""

    def __init__(self, batches: Dataset[Batch], finish: Finish) -> None:
        self._batches, self._finish = batches, finish

    def __getitem__(self, micro_batch: int) -> Batch:
        return self._finish(self._batches[micro_batch], micro_batch)


def finished(source: Source, finish: Finish, first: int, stride: int) -> Iterator[Batch]:
    """Yield a source's micro-batches first, first + stride, ... without end, each with its masks."""
    for batch, number in zip(source.micro_batches(first, stride), itertools.count(first, stride), strict=False):
        yield batch if batch.masks is not None else finish(batch, number)
