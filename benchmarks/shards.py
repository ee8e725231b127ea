"""Time and size of tar shards, and milliseconds of a CPU core that a pair of crops takes from shards and from videos.

    python benchmarks/shards.py VIDEOS OUT [--processes 2]

The videos of the folder VIDEOS are written into OUT/jpeg and OUT/clips with the defaults of `siammae shards`. Then pairs are
drawn (the paper's gaps and crops, two from a visit, 224 pixels): from both, and from one clip of 10 seconds, 340 x 256 pixels
and 30 frames a second, made of the longest of VIDEOS with a key frame every 250, 60 and 12 frames. There every frame is also
read by a seek of its own, and by torchcodec if it and FFmpeg's shared libraries are installed, as a comparison; torchcodec's
frames are compared with ours first. Everything is timed in CPU seconds of one process; readers take turns.
"""

import argparse
import importlib
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from siammae.training.config import DataConfig
from siammae.training.data.clips import Frame, VideoClip
from siammae.training.data.samples import draw_samples
from siammae.training.data.shard_writer import ShardSettings, write_shard
from siammae.training.data.shards import ShardSource
from siammae.training.data.stores import Store
from siammae.training.data.write_shards import find_videos, write_shards

SIDE, REPEATS = 224, 2


def write(videos: Path, out: Path, settings: ShardSettings, processes: int) -> None:
    """Write shards and print their size; then write the first one once more and print the CPU time that it takes."""
    report = write_shards(str(videos), str(out), settings, processes=processes)
    print(f"{settings.format}: {report.clips} clips, {report.bytes / 1e6 / report.hours:.0f} MB an hour of video", flush=True)
    source, names = find_videos(str(videos), timeout=60)
    names = names[: settings.clips_per_shard]
    again = out / "again"
    again.mkdir(exist_ok=True)
    begin = time.process_time()
    clips = write_shard(Store(str(again)), 0, names, source, settings, lambda added: True)["clips"]
    seconds, minutes = time.process_time() - begin, sum(clip["frames"] / clip["fps"] for clip in clips) / 60
    print(
        f"{settings.format}: {seconds:.0f} CPU seconds for {len(clips)} clips of {60 * minutes / len(clips):.1f} s: "
        f"{seconds / 60 / len(clips) * 1000 / 2:.1f} minutes for 1,000 clips on two cores, {seconds / minutes:.1f} s for a "
        "minute of video",
        flush=True,
    )


def shard_pairs(folder: Path, pairs: int) -> Callable[[], None]:
    """Return a call that draws pairs from shards."""
    config = DataConfig(path=str(folder), kind="shards", workers=0, repeats=REPEATS)
    source = ShardSource(Store(str(folder)), config, size=pairs, side=SIDE, futures=1, seed=0, pin=False)
    numbers = count()
    return lambda: list(islice(source.micro_batches(next(numbers), 1), 1)) and None


def clip_with_keys(source: Path, target: Path, distance: int) -> Path:
    """Write 10 seconds of a video, 340 x 256 at 30 frames a second, with a key frame every `distance` frames."""
    options = {"g": str(distance), "keyint_min": str(distance), "sc_threshold": "0"}
    with av.open(str(source)) as video, av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        for frame in islice(video.decode(video=0), 300):
            pixels = frame.reformat(340, 256, "yuv420p").to_ndarray()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="yuv420p")))
        container.mux(stream.encode())
    return target


class OneByOne(VideoClip):
    """A clip that seeks for each time on its own."""

    def read(self, times: list[float]) -> list[Frame]:
        return [super(OneByOne, self).read([time])[0] for time in times]


class TorchCodec:
    """A clip that torchcodec reads, all times at once, with one thread as our loader workers have."""

    decoders: Any  # the module torchcodec.decoders

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._decoder = self.decoders.VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate")
        facts = self._decoder.metadata
        self.seconds = facts.duration_seconds - 1 / facts.average_fps
        self.size = facts.height, facts.width

    def __enter__(self) -> "TorchCodec":
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def read(self, times: list[float]) -> list[Frame]:
        return list(self._decoder.get_frames_played_at(times).data.numpy())


def load_torchcodec() -> bool:
    """Import torchcodec for `TorchCodec`; prints why if that is not possible."""
    try:
        TorchCodec.decoders = importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:
        print(f"torchcodec is not measured: {str(error).strip().splitlines()[0]}")
        return False
    print(f"torchcodec {importlib.import_module('torchcodec').__version__}, PyAV {av.__version__}")
    return True


def differing(path: Path, times: list[float]) -> int:
    """Count the times at which torchcodec's frame is not equal to ours."""
    with VideoClip(path) as ours, TorchCodec(path) as other:
        return sum(not np.array_equal(*frames) for frames in zip(ours.read(times), other.read(times), strict=True))


def clip_pairs(path: Path, kind: type[VideoClip] | type[TorchCodec], pairs: int) -> Callable[[], None]:
    """Return a call that draws pairs from one video, opened for each visit; every call draws others."""
    seeds = count()

    def draw() -> None:
        for _ in range(pairs // REPEATS):
            with kind(path) as clip:
                list(
                    draw_samples(
                        clip, DataConfig(repeats=REPEATS), side=SIDE, futures=1, rng=np.random.default_rng(next(seeds))
                    )
                )

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=16, help="pairs of one turn")
    parser.add_argument("--turns", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}")
    reads: dict[str, Callable[[], None]] = {}
    for settings in (ShardSettings(format="jpeg"), ShardSettings(format="clips")):
        out = options.out / settings.format
        write(options.videos, out, settings, options.processes)
        reads[f"shards, {settings.format}"] = shard_pairs(out, options.pairs)
    longest = max(options.videos.rglob("*.mp4"), key=lambda path: path.stat().st_size)
    kinds: dict[str, type[VideoClip] | type[TorchCodec]] = {"in one pass": VideoClip, "one seek a frame": OneByOne}
    if load_torchcodec():
        kinds["torchcodec"] = TorchCodec
    for distance in (250, 60, 12):
        path = clip_with_keys(longest, options.out / f"keys{distance}.mp4", distance)
        if "torchcodec" in kinds:
            times = np.random.default_rng(0).uniform(0, 9.9, 100).tolist()
            print(f"key frame every {distance}: {differing(path, times)} of {len(times)} frames differ from torchcodec's")
        for label, kind in kinds.items():
            reads[f"video, key frame every {distance}, {label}"] = clip_pairs(path, kind, options.pairs)
    seconds = {name: [0.0] * options.turns for name in reads}
    for turn in range(options.turns):
        for name, read in reads.items():
            begin = time.process_time()
            read()
            seconds[name][turn] = time.process_time() - begin
    for name, turns in seconds.items():
        each = [1000 * second / options.pairs for second in turns]
        middle = statistics.median(each)
        print(f"{name}: {middle:.1f} ms a pair ({min(each):.1f} to {max(each):.1f}), {1000 / middle:.0f} pairs/s", flush=True)


if __name__ == "__main__":
    main()
