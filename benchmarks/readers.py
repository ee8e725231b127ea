"""Readers of a large run without its model: start-up, restart and memory of many processes over an index of millions of clips.

    python benchmarks/readers.py                                    # 64 processes, 10 million clips of 80 frames
    python benchmarks/readers.py --clips 240000 --processes 8       # Kinetics-400 on one machine

One real shard of 100 clips is written from rendered videos. Links to it and to its record then stand for all shards, as if
`siammae shards` had been interrupted before it wrote the index. A process finishes that: its time and peak memory are printed.
Then every process opens the index, loads the first micro-batch of a run, and one from its middle as after a restart. All stay
alive until all have been measured; --at-a-time of them work at the same time.

Times are of a core, so processes that wait for one another on a busy machine do not change them much. The processes are forked
from one that has imported the readers, so "more" is what a reader needs beyond the import. The index is mapped into memory, so
the processes of a machine share its pages.
"""

import argparse
import hashlib
import json
import multiprocessing
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from multiprocessing.synchronize import Barrier, Semaphore
from pathlib import Path
from typing import Any

import numpy as np

from siammae.synthetic import render_clip
from siammae.training.config import DataConfig
from siammae.training.data.shard_index import ARRAYS, open_index, shard_name
from siammae.training.data.shard_writer import ShardSettings, record_name
from siammae.training.data.shards import ShardMicroBatches
from siammae.training.data.stores import Store
from siammae.training.data.write_shards import BEGUN, write_shards
from siammae.video import write_video

LINKS = 50_000  # links to a file; some disks allow 65,000
STEPS = 100_000  # of the run before the restart
IMPORT = """
import re, time
start = time.process_time()
import siammae.training.data.shards
print(time.process_time() - start)
print(sum(map(int, re.findall(r"Private_\\w+: +(\\d+)", open("/proc/self/smaps_rollup").read()))))
"""
FINISH = """
import re, sys, time
from siammae.training.data.shard_writer import ShardSettings
from siammae.training.data.write_shards import find_videos, write_shards

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

imported = peak()
names = find_videos(sys.argv[1], timeout=60)
listed = peak()
del names
start = time.process_time()
write_shards(sys.argv[1], sys.argv[2], ShardSettings(8, 144))
print(time.process_time() - start, (listed - imported) / 1000, (peak() - imported) / 1000)
"""


def memory() -> dict[str, float]:
    """Return this process's memory in MB: private, and its share of everything (each shared page divided by its users)."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB", rollup, re.MULTILINE)}
    private = sum(kilobytes[name] for name in ("Private_Clean", "Private_Dirty"))
    return {"private": private / 1000, "share": kilobytes["Pss"] / 1000}


def write_all_but_the_index(folder: Path, clips: int, frames: int) -> None:
    """Write one shard of 100 clips of `frames` frames, link it until there are `clips` clips, and list their videos."""
    settings = ShardSettings(8, 144)
    number, each = -(-clips // settings.clips_per_shard), settings.clips_per_shard
    names = []
    for k in range(4):
        names.append(f"{k}.mp4")
        clip = render_clip(min(frames, 20), (144, 256), seed=k)
        write_video(folder / names[-1], np.resize(clip.frames, (frames, *clip.frames.shape[1:])), 8)
    out, listed = folder / "shards", folder / "list.txt"
    videos = [names[key % len(names)] for key in range(number * each)]
    listed.write_text("\n".join(videos[:each]))
    write_shards(str(listed), str(out), settings)
    for name in shard_name, record_name:
        original = out / name(0)
        for shard in range(1, number):
            if shard % LINKS == 0:
                original = Path(shutil.copy(original, out / name(shard)))
            else:
                (out / name(shard)).hardlink_to(original)
    listed.write_text("\n".join(videos))
    digest = hashlib.sha256("\n".join(videos).encode()).hexdigest()[:32]
    (out / BEGUN).write_text(json.dumps({**asdict(settings), "videos": len(videos), "digest": digest}))


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
        write_all_but_the_index(folder, options.clips, options.frames)
        words = [sys.executable, "-c", FINISH, str(folder / "list.txt"), str(folder / "shards")]
        finished = list(map(float, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()))
        size = sum((folder / "shards" / name).stat().st_size for name in ARRAYS)
        print(f"index of {options.clips:,} clips of {options.frames} frames: {size / 1e9:.3f} GB, {size / options.clips:.0f} B")
        print(f"writing it: {finished[0]:.0f} s of a core, at most {finished[2]:.0f} MB more than the import")
        print(f"the list of the videos alone: {finished[1]:.0f} MB")
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
