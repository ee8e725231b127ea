"""From a run's configuration to its source of batches."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from siammae.files import atomic
from siammae.training.checkpoint import checkpoints
from siammae.training.config import TrainConfig
from siammae.training.data.batches import Source
from siammae.training.data.cache import CachedSource, FrameCache, build_cache
from siammae.training.data.files import FileSource, find_files
from siammae.training.data.finish import build_finish
from siammae.training.data.shards import ShardSource
from siammae.training.data.stores import Store

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
        return _open_shards(config, processes, pin=pin, finish=build_finish(config), **common)
    files = find_files(data)
    if data.cache.kind == "none":
        return FileSource(files, data, pin=pin, finish=build_finish(config), **common)
    cache = _load_cache(list(dict.fromkeys(files)), config, processes)
    return CachedSource(cache, data, weights=Counter(map(str, files)), **common)


def _open_shards(config: TrainConfig, processes: "Accelerator", **options: Any) -> ShardSource:
    """Open shards; one process of each machine copies a remote index while the others wait.

    Raises:
        ValueError: the run in `output` began with other shards.
    """
    store = Store(config.data.path, config.data.shards.timeout)
    source = ShardSource(store, config.data, **options) if processes.is_local_main_process else None
    processes.wait_for_everyone()
    source = source or ShardSource(store, config.data, **options)
    output = Path(config.output)
    noted = output / "shards.json"
    if config.resume and checkpoints(output) and noted.exists():
        began = json.loads(noted.read_text())
        if began["digest"] != source.digest:
            raise ValueError(
                f"the shards in {store.url} are not those that the run in {output} began with ({began['clips']} clips then, "
                f"{source.num_files} now); restore them, or choose another output for a run on the new ones"
            )
    elif processes.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        with atomic(noted) as draft:
            draft.write_text(json.dumps({"path": store.url, "clips": source.num_files, "digest": source.digest}))
    return source


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
