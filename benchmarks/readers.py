"""Readers of a large run without its model: start-up, restart and memory of many processes over an index of millions of clips.

    python benchmarks/readers.py                                    # 64 processes, 10 million clips of 80 frames
    python benchmarks/readers.py --clips 240000 --processes 8       # Kinetics-400 on one machine

A few real shards are written from rendered videos. Their index is then repeated until it has --clips clips, each with members
of its own, so it is as large as that of so many videos, while the frames that are read and decoded come from the real shards.
Every process opens the index, loads the first micro-batch of a run, and one from its middle as after a restart. All stay alive
until all have been measured; --at-a-time of them work at the same time.

Times are of a core, so processes that wait for one another on a busy machine do not change them much. The processes are forked
from one that has imported the readers, so "more" is what a reader needs beyond the import. The index is mapped into memory, so
the processes of a machine share its pages.
"""

import argparse
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier, Semaphore
from pathlib import Path
from typing import Any

import numpy as np

from siammae.synthetic import render_clip
from siammae.training.config import DataConfig
from siammae.training.data.shard_index import ARRAYS, FACTS, open_index
from siammae.training.data.shard_writer import ShardSettings
from siammae.training.data.shards import ShardMicroBatches
from siammae.training.data.stores import Store
from siammae.training.data.write_shards import write_shards
from siammae.video import write_video

CHUNK = 500_000  # clips whose rows are written at a time
STEPS = 100_000  # of the run before the restart
IMPORT = """
import re, time
start = time.process_time()
import siammae.training.data.shards
print(time.process_time() - start)
print(sum(map(int, re.findall(r"Private_\\w+: +(\\d+)", open("/proc/self/smaps_rollup").read()))))
"""


def memory() -> dict[str, float]:
    """Return this process's memory in MB: private, and its share of everything (each shared page divided by its users)."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB", rollup, re.MULTILINE)}
    private = sum(kilobytes[name] for name in ("Private_Clean", "Private_Dirty"))
    return {"private": private / 1000, "share": kilobytes["Pss"] / 1000}


def write_real_shards(folder: Path, frames: int) -> None:
    """Write two shards of two rendered videos each, of `frames` frames."""
    (folder / "videos").mkdir()
    for k in range(4):
        clip = render_clip(min(frames, 20), (144, 256), seed=k)
        write_video(folder / "videos" / f"{k}.mp4", np.resize(clip.frames, (frames, *clip.frames.shape[1:])), 8)
    write_shards(str(folder / "videos"), str(folder / "shards"), ShardSettings(8, 144, "jpeg", 90, 2), processes=1)


def enlarge(folder: Path, clips: int) -> int:
    """Repeat the index of the shards in a folder until it has `clips` clips; returns its bytes."""
    store = Store(str(folder))
    index = open_index(store)
    real, sizes, facts = np.array(index.clips), np.array(index.sizes), json.loads((folder / FACTS).read_text())
    each = len(sizes) // len(real)  # all have as many members
    assert set(real["members"].tolist()) == {each}
    rows = np.lib.format.open_memmap(folder / "clips.new", "w+", real.dtype, (clips,))
    members = np.lib.format.open_memmap(folder / "members.new", "w+", sizes.dtype, (clips * each,))
    for begin in range(0, clips, CHUNK):
        number = np.arange(begin, min(clips, begin + CHUNK))
        source = number % len(real)
        few = real[source]
        few["first"] = number * each
        rows[begin : begin + len(few)] = few
        members[begin * each : (begin + len(few)) * each] = sizes.reshape(len(real), each)[source].ravel()
    rows.flush()
    members.flush()
    (folder / "clips.new").rename(folder / "clips.npy")
    (folder / "members.new").rename(folder / "members.npy")
    changed = {"clips": clips, "members": clips * each, "digest": f"{facts['digest'][:16]}-repeated"}
    (folder / FACTS).write_text(json.dumps(facts | changed))
    return sum((folder / name).stat().st_size for name in ARRAYS)


def read(rank: int, folder: Path, options: argparse.Namespace, turn: Semaphore, everyone: Barrier, results: Any) -> None:
    """Do the work of one process, and report its times and its memory."""
    config = DataConfig(path=str(folder), kind="shards", gap=(0.125, 1.5))
    with turn:
        start = time.process_time()
        store = Store(str(folder))
        index = open_index(store)
        index.check_shards(store)
        size = {"size": options.pairs, "side": options.side, "futures": 1, "seed": 0}
        batches = ShardMicroBatches(store, index, config, **size)
        opened = time.process_time()
        assert batches[rank].frames.shape == (options.pairs, 2, 3, options.side, options.side)
        first = time.process_time()
        restarted = ShardMicroBatches(store, index, config, **size)
        _ = restarted[STEPS * options.processes + rank]
        restart = time.process_time()
        del restarted
        _ = batches[options.processes + rank]
        next_one = time.process_time()
    everyone.wait()
    times = {"open": opened - start, "first": first - opened, "restart": restart - first, "next": next_one - restart}
    results.put(times | memory())
    everyone.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000_000)
    parser.add_argument("--frames", type=int, default=80, help="frames of a clip: 10 seconds at 8 a second")
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--at-a-time", type=int, default=2, help="number of processes that work at the same time")
    parser.add_argument("--pairs", type=int, default=32, help="pairs of a micro-batch: 2048 over 64 processes")
    parser.add_argument("--side", type=int, default=112, help="side of the crops in pixels")
    parser.add_argument("--folder", help="folder for the shards and the index; a temporary one if not given")
    options = parser.parse_args()
    imported = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout.split()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        write_real_shards(folder, options.frames)
        size = enlarge(folder / "shards", options.clips)
        print(f"index of {options.clips:,} clips of {options.frames} frames: {size / 1e9:.3f} GB, {size / options.clips:.0f} B")
        print(f"import of the readers: {float(imported[0]):.1f} s of a core, {int(imported[1]) / 1000:.0f} MB", flush=True)
        context = multiprocessing.get_context("fork")
        turn, everyone = context.Semaphore(options.at_a_time), context.Barrier(options.processes)
        results = context.SimpleQueue()
        processes = [
            context.Process(target=read, args=(rank, folder / "shards", options, turn, everyone, results))
            for rank in range(options.processes)
        ]
        for process in processes:
            process.start()
        rows = [results.get() for _ in processes]
        for process in processes:
            process.join()
    for name, words in {
        "open": "open the index, compare the shards' sizes",
        "first": f"first micro-batch of {options.pairs} pairs",
        "restart": f"first micro-batch after {STEPS:,} steps",
        "next": "next micro-batch",
    }.items():
        values = [row[name] for row in rows]
        print(f"{words:45} median {statistics.median(values):7.3f} s, most {max(values):7.3f} s of a core")
    private, share = [row["private"] for row in rows], [row["share"] for row in rows]
    print(f"memory of a process: {statistics.median(private):.0f} MB more than the import, most {max(private):.0f} MB")
    print(f"memory of all {len(rows)}, forked: {sum(share) / 1000:.2f} GB, what they share of the index included")


if __name__ == "__main__":
    main()
