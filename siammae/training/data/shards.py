"""Shards: samples streamed from tar files on a disk or an object store, read by webdataset.

A tar sample is a short clip (`name.mp4`), or its frames in order (`name.0000.jpg`, `name.0001.jpg`, ... at `data.fps`).

The shards of every epoch are permuted by the seed and dealt to `data.shards.streams` readers in each process. A reader mixes
its clips in a buffer and produces every `streams`-th micro-batch of its process, so that the run does not depend on how
many workers share the readers. A resumed run reads past what was used before, without decoding it.
"""

import itertools
import tarfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from siammae.training.config import DataConfig
from siammae.training.data.batches import Batch
from siammae.training.data.clips import VIDEO_SUFFIXES, FramesClip, UnusableClip, VideoClip
from siammae.training.data.files import MAX_UNUSABLE
from siammae.training.data.load import load
from siammae.training.data.samples import draw_samples
from siammae.video.pictures import IMAGE_SUFFIXES

Item = tuple[str, dict[str, bytes]]  # name of a clip and its encoded files by suffix


def find_shards(path: str) -> list[str]:
    """List the tar files that `path` names: a folder, or a pattern with braces such as s3-shards-{0000..0099}.tar.

    A pattern may be an address or a command that webdataset opens: https://..., pipe:aws s3 cp s3://... -

    Raises:
        ValueError: there is none.
    """
    import_webdataset()
    from webdataset.shardlists import expand_urls

    if Path(path).is_dir():
        found = [str(shard) for shard in sorted(Path(path).rglob("*.tar"))]
    else:
        found = list(expand_urls(path))
        found = [url for url in found if ":" in url or Path(url).exists()]
    if not found:
        raise ValueError(f"no shards found: data.path {path!r} is no folder with .tar files and no pattern of them")
    return found


def import_webdataset() -> Any:
    """Import webdataset, or raise an error that says how to install it."""
    try:
        import webdataset
    except ImportError as error:
        raise ImportError('tar shards need webdataset; install it with: pip install "siammae[train]"') from error
    return webdataset


class ShardMicroBatches(IterableDataset[Batch]):
    """The micro-batches of one process, from number `first` on, of `processes` in all."""

    def __init__(
        self, shards: Sequence[str], config: DataConfig, *, size: int, side: int, futures: int, seed: int,
        first: int, processes: int,
    ) -> None:  # fmt: skip
        if size % config.repeats:
            raise ValueError(f"{size} pairs of one backward pass are no multiple of data.repeats {config.repeats}")
        if config.workers and config.shards.streams % config.workers:
            raise ValueError(f"data.shards.streams {config.shards.streams} is no multiple of data.workers {config.workers}")
        self._shards, self._config = list(shards), config
        self._items, self._side, self._futures, self._seed = size // config.repeats, side, futures, seed
        self._done, self._rank = divmod(first, processes)  # micro-batches that this process has used before
        self._processes = processes

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        streams = self._config.shards.streams
        readers: dict[int, Iterator[Batch]] = {}
        number = self._done + worker  # of this process, counted from the start of the run; the loader takes turns
        while True:
            stream = number % streams
            if stream not in readers:
                used = len(range(stream, self._done, streams))  # micro-batches that this reader has given before
                readers[stream] = self._read(stream, used)
            yield next(readers[stream])
            number += workers

    def _read(self, stream: int, used: int) -> Iterator[Batch]:
        """Yield the micro-batches of one reader without end, after the first `used` ones.

        A micro-batch owns as many clips as it has items, usable or not, so that a resume knows how many were used. The place
        of an unusable clip is taken by another of its own or, if there is none, by the newest before it.
        """
        skipped: list[tuple[str, str]] = []
        clips = self._mixed(stream, skipped)
        earlier: deque[Item] = deque(maxlen=MAX_UNUSABLE)
        for number in itertools.count():
            own = list(itertools.islice(clips, self._items))
            if number < used:
                skipped.clear()
            else:
                samples: list[Tensor] = []
                names: list[str] = []
                for k in range(self._items):
                    rng = np.random.default_rng([self._seed, 5, self._rank, stream, number * self._items + k])
                    name, drawn = self._draw([*own[k:], *own[:k], *reversed(earlier)], rng, skipped)
                    samples += drawn
                    names += [name] * len(drawn)
                yield Batch(torch.stack(samples), names, list(skipped))
                skipped.clear()
            earlier.extend(own)

    def _draw(
        self, candidates: list[Item], rng: np.random.Generator, skipped: list[tuple[str, str]]
    ) -> tuple[str, list[Tensor]]:
        """Draw the samples of the first usable candidate; returns its name and them."""
        reason = ""
        for name, content in candidates:
            try:
                with self._open(name, content) as clip:
                    return name, list(draw_samples(clip, self._config, side=self._side, futures=self._futures, rng=rng))
            except UnusableClip as error:
                reason = str(error)
                skipped.append((name, reason))
        raise ValueError(f"no usable clip among {len(candidates)}, such as {reason}")

    def _mixed(self, stream: int, skipped: list[tuple[str, str]]) -> Iterator[Item]:
        """Yield the clips of one reader in an order mixed by a buffer: a clip leaves it when another one comes."""
        rng = np.random.default_rng([self._seed, 6, self._rank, stream])
        buffer: list[Item] = []
        size = max(1, self._config.shards.shuffle_buffer // self._config.shards.streams)
        for item in self._clips(stream, skipped):
            buffer.append(item)
            if len(buffer) >= size:
                place = int(rng.integers(len(buffer)))
                buffer[place], buffer[-1] = buffer[-1], buffer[place]
                yield buffer.pop()

    def _clips(self, stream: int, skipped: list[tuple[str, str]]) -> Iterator[Item]:
        """Yield the clips of the shards dealt to one reader, epoch after epoch."""
        from webdataset.gopen import gopen
        from webdataset.tariterators import group_by_keys, tar_file_expander

        reader, readers = self._rank * self._config.shards.streams + stream, self._processes * self._config.shards.streams
        unreadable = 0
        for number in itertools.count(reader, readers):
            epoch, position = divmod(number, len(self._shards))
            order = np.random.default_rng([self._seed, 7, epoch]).permutation(len(self._shards))
            shard = self._shards[int(order[position])]
            empty = True
            try:
                with gopen(shard) as stream:
                    for sample in group_by_keys(tar_file_expander([{"url": shard, "stream": stream}])):
                        empty = False
                        content = {key: value for key, value in sample.items() if isinstance(value, bytes)}
                        yield f"{shard}:{sample['__key__']}", content
            except (OSError, ValueError, tarfile.TarError, EOFError) as error:
                skipped.append((shard, f"{shard}: unreadable shard ({error})"))
            unreadable = unreadable + 1 if empty else 0
            if unreadable > 2 * len(self._shards):
                reason = skipped[-1][1] if skipped else "they are empty"
                raise ValueError(f"no usable clip in {len(self._shards)} shards, such as {reason}")

    def _open(self, name: str, content: dict[str, bytes]) -> VideoClip | FramesClip:
        videos = [value for key, value in content.items() if f".{key}" in VIDEO_SUFFIXES]
        if videos:
            return VideoClip(videos[0], name)
        frames = [content[key] for key in sorted(content) if f".{key.rpartition('.')[2]}" in IMAGE_SUFFIXES]
        if not frames:
            raise UnusableClip(f"{name}: neither a video nor images in this sample")
        return FramesClip(name, frames, self._config.fps)


class ShardSource:
    """Micro-batches of a run from shards, loaded ahead by `data.workers` processes."""

    def __init__(
        self, shards: Sequence[str], config: DataConfig, *, size: int, side: int, futures: int, seed: int, pin: bool
    ) -> None:
        self._arguments = {"size": size, "side": side, "futures": futures, "seed": seed}
        self._shards, self._config, self._pin = shards, config, pin
        self.num_files: int | None = None
        self.skipped: tuple[tuple[str, str], ...] = ()
        ShardMicroBatches(shards, config, first=0, processes=1, **self._arguments)  # raises now what cannot work

    def micro_batches(self, first: int, stride: int) -> Iterator[Batch]:
        """Yield the micro-batches first, first + stride, ... without end; `stride` is the number of processes."""
        dataset = ShardMicroBatches(self._shards, self._config, first=first, processes=stride, **self._arguments)
        yield from load(dataset, self._config.workers, self._pin)
