"""Files: samples from videos, folders of frames or images on a disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from siammae.training.config import DataConfig
from siammae.training.data.clips import UnusableClip, VideoClip, folder_clip, read_image
from siammae.training.data.finish import Finish
from siammae.training.data.samples import draw_crop_pairs, draw_samples
from siammae.training.data.visits import Visit, VisitMicroBatches, VisitSource
from siammae.video.frames import VIDEO_SUFFIXES
from siammae.video.pictures import IMAGE_SUFFIXES


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


class FileMicroBatches(VisitMicroBatches):
    """Micro-batches of a run from files."""

    def __init__(self, files: Sequence[Path], config: DataConfig, *, size: int, side: int, futures: int, seed: int) -> None:
        super().__init__(len(files), config, size=size, side=side, futures=futures, seed=seed)
        self._files = list(files)

    def name(self, index: int) -> str:
        return str(self._files[index])

    def visit(self, visits: Sequence[Visit]) -> list[list[Tensor] | UnusableClip]:
        results: list[list[Tensor] | UnusableClip] = []
        for index, item in visits:
            try:
                results.append(self._samples(self._files[index], self.rng(item)))
            except UnusableClip as error:
                results.append(error)
        return results

    def _samples(self, file: Path, rng: np.random.Generator) -> list[Tensor]:
        config = self._config
        if config.kind == "images":
            return list(draw_crop_pairs(read_image(file), config, side=self._side, rng=rng))
        opened = VideoClip(file) if config.kind == "videos" else folder_clip(file, config.fps)
        with opened as clip:
            return list(draw_samples(clip, config, side=self._side, futures=self._futures, rng=rng))


class FileSource(VisitSource):
    """Micro-batches of a run from files."""

    def __init__(
        self, files: Sequence[Path], config: DataConfig, *, size: int, side: int, futures: int, seed: int, pin: bool,
        finish: Finish | None = None,
    ) -> None:  # fmt: skip
        dataset = FileMicroBatches(files, config, size=size, side=side, futures=futures, seed=seed)
        super().__init__(dataset, len(files), config.workers, pin, finish)
