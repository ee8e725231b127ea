"""From a run's configuration to its source of batches."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from siammae.training.config import TrainConfig
from siammae.training.data.batches import Source
from siammae.training.data.cache import CachedSource, FrameCache, build_cache
from siammae.training.data.files import FileSource, find_files
from siammae.training.data.finish import build_finish
from siammae.training.data.shards import ShardSource, find_shards

if TYPE_CHECKING:
    from accelerate import Accelerator


def build_source(config: TrainConfig, size: int, processes: "Accelerator", *, side: int) -> Source:
    """Open the source that `config.data` describes.

    Args:
        size: pairs of one micro-batch.
        processes: the run's processes; this one's device takes a cache of `data.cache.kind=device`.
        side: pixels of a crop's side.

    Raises:
        ValueError: there is no usable file.
    """
    data, model, pin = config.data, config.model, processes.device.type == "cuda"
    common = {"size": size, "side": side, "futures": model.futures, "seed": config.seed}
    if data.kind == "shards":
        return ShardSource(find_shards(data.path), data, pin=pin, **common)
    files = find_files(data)
    if data.cache.kind == "none":
        return FileSource(files, data, pin=pin, finish=build_finish(config), **common)
    cache = _load_cache(list(dict.fromkeys(files)), config, processes)
    return CachedSource(cache, data, weights=Counter(map(str, files)), **common)


def _load_cache(files: list[Path], config: TrainConfig, processes: "Accelerator") -> FrameCache:
    """Load the decoded frames; one process of each machine decodes them while the others wait."""
    data = config.data

    def build() -> FrameCache:
        with tqdm(total=len(files), desc="decoding", disable=not processes.is_local_main_process, leave=False) as bar:
            return build_cache(
                files,
                Path(data.cache.folder),
                short_side=data.cache.short_side,
                fps=data.cache.fps,
                progress=lambda done: bar.update(done - bar.n),
            )

    cache = build() if processes.is_local_main_process else None
    processes.wait_for_everyone()
    cache = cache or build()
    if data.cache.kind == "device":
        return cache.to(processes.device)
    if data.cache.kind == "host":
        return replace(cache, pixels=cache.pixels.clone())
    return cache
