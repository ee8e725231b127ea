"""Files: samples from videos, folders of frames or images on a disk, in an order that a seed fixes.

An item is one visit of one file and gives `repeats` samples. Item number n of a run is file n modulo their number of
the n-th epoch's permutation, drawn with a random generator of its own, so the number of loader workers and resumes do not
change it.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from siammae.training.config import DataConfig
from siammae.training.data.batches import Batch, load
from siammae.training.data.clips import VIDEO_SUFFIXES, UnusableClip, VideoClip, folder_clip, read_image
from siammae.training.data.finish import Finish, FinishedBatches
from siammae.training.data.samples import draw_crop_pairs, draw_samples
from siammae.video.pictures import IMAGE_SUFFIXES

MAX_UNUSABLE = 100  # files in a row that may fail before the data set counts as unusable


def find_files(config: DataConfig) -> list[Path]:
    """List the files of a data set, sorted: videos or images, or folders that hold images.

    `data.path` is a folder that is searched at any depth, one file, or a .txt file with one path a line, relative to it.

    Raises:
        ValueError: the path does not exist or holds nothing of the kind.
    """
    root = Path(config.path)
    if not root.exists():
        raise ValueError(f"data.path {config.path!r} does not exist")
    if root.suffix == ".txt":
        lines = [line.strip() for line in root.read_text().splitlines()]
        return _some([root.parent / line for line in lines if line], config, "no path is listed in it")
    if config.kind == "frames":
        folders = {path.parent for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
        return _some(sorted(folders), config, "no folder with images is in it")
    suffixes = VIDEO_SUFFIXES if config.kind == "videos" else IMAGE_SUFFIXES
    found = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix.lower() in suffixes)
    return _some(found, config, f"no file in it ends in {', '.join(sorted(suffixes))}")


def _some(found: list[Path], config: DataConfig, reason: str) -> list[Path]:
    if not found:
        raise ValueError(f"no {config.kind} found under data.path {config.path!r}: {reason}")
    return found


class FileMicroBatches(Dataset[Batch]):
    """Micro-batches of a run by number; each is loaded whole by one worker.

    A file that turns out unusable is replaced by the next one of a permutation that the item's number fixes, and
    reported with the batch.
    """

    def __init__(self, files: Sequence[Path], config: DataConfig, *, size: int, side: int, futures: int, seed: int) -> None:
        if size % config.repeats:
            raise ValueError(f"{size} pairs of one backward pass are no multiple of data.repeats {config.repeats}")
        self._files, self._config = list(files), config
        self._items = size // config.repeats
        self._side, self._futures, self._seed = side, futures, seed
        self._unusable: dict[int, str] = {}
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __getitem__(self, micro_batch: int) -> Batch:
        samples: list[Tensor] = []
        names: list[str] = []
        skipped: list[tuple[str, str]] = []
        for item in range(micro_batch * self._items, (micro_batch + 1) * self._items):
            drawn, file = self._draw(item, skipped)
            samples += drawn
            names += [str(file)] * len(drawn)
        return Batch(torch.stack(samples), names, skipped)

    def _draw(self, item: int, skipped: list[tuple[str, str]]) -> tuple[list[Tensor], Path]:
        for index in self._candidates(item):
            if index in self._unusable:
                continue
            file, rng = self._files[index], np.random.default_rng([self._seed, 2, item])
            try:
                return self._samples(file, rng), file
            except UnusableClip as error:
                self._unusable[index] = str(error)
                skipped.append((str(file), str(error)))
        reasons = "; ".join(list(self._unusable.values())[:3])
        raise ValueError(f"no usable file: {len(self._unusable)} of {len(self._files)} tried, such as {reasons}")

    def _candidates(self, item: int) -> Iterator[int]:
        """Yield the item's own file, then others to take its place."""
        epoch, position = divmod(item, len(self._files))
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, 3, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self._files))
        yield int(self._order[position])
        others = np.random.default_rng([self._seed, 4, item])
        if len(self._files) <= MAX_UNUSABLE:
            yield from map(int, others.permutation(len(self._files)))
        else:
            yield from map(int, others.integers(len(self._files), size=MAX_UNUSABLE))

    def _samples(self, file: Path, rng: np.random.Generator) -> list[Tensor]:
        config = self._config
        if config.kind == "images":
            return list(draw_crop_pairs(read_image(file), config, side=self._side, rng=rng))
        opened = VideoClip(file) if config.kind == "videos" else folder_clip(file, config.fps)
        with opened as clip:
            return list(draw_samples(clip, config, side=self._side, futures=self._futures, rng=rng))


class FileSource:
    """Micro-batches of a run from files, loaded ahead by `data.workers` processes, and finished there if `finish` is given."""

    def __init__(
        self, files: Sequence[Path], config: DataConfig, *, size: int, side: int, futures: int, seed: int, pin: bool,
        finish: Finish | None = None,
    ) -> None:  # fmt: skip
        batches: Dataset[Batch] = FileMicroBatches(files, config, size=size, side=side, futures=futures, seed=seed)
        self._dataset = FinishedBatches(batches, finish) if finish else batches
        self._workers, self._pin = config.workers, pin
        self.num_files: int | None = len(files)
        self.skipped: tuple[tuple[str, str], ...] = ()

    def micro_batches(self, first: int, stride: int) -> Iterator[Batch]:
        """Yield the micro-batches first, first + stride, first + 2 * stride, ... without end."""
        yield from load(self._dataset, self._workers, self._pin, sampler=itertools.count(first, stride))
