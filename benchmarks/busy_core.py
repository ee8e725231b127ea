"""Slow-down of propagation while another process keeps one core busy, beside its fair share of the cores.

    python benchmarks/busy_core.py

Measures `ops.propagate` alone and beside a process that only counts, in turn, and prints the medians and the median ratio of
neighbours. With C cores, C threads and one other process, the fair share is C / (C + 1) of the machine: a ratio of (C + 1) / C.
"""

import argparse
import multiprocessing
import os
import statistics
import time

import torch
from torch.nn import functional as F

from siammae.ops import propagate


def count() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, nargs=2, default=[60, 107])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    query, context = torch.randn(384, *arguments.grid), torch.randn(arguments.frames, 384, *arguments.grid)
    labels = torch.rand(arguments.frames, 3, *arguments.grid)
    query, context = F.normalize(query, dim=0), F.normalize(context, dim=1)

    def run() -> float:
        began = time.perf_counter()
        propagate(query, context, labels, radius=12, top_k=5, temperature=0.1)
        return 1000 * (time.perf_counter() - began)

    run()
    alone, beside = [], []
    for _ in range(arguments.rounds):
        alone.append(run())
        other = multiprocessing.get_context("spawn").Process(target=count)
        other.start()
        time.sleep(1)  # until it counts
        beside.append(run())
        other.terminate()
        other.join()
    cores = len(os.sched_getaffinity(0))
    ratio = statistics.median(second / first for first, second in zip(alone, beside, strict=True))
    print(
        f"{torch.get_num_threads()} threads on {cores} cores: alone {statistics.median(alone):.0f} ms, "
        f"beside a busy process {statistics.median(beside):.0f} ms, ratio {ratio:.2f}, fair {(cores + 1) / cores:.2f}"
    )


if __name__ == "__main__":
    main()
