"""Threads that share out the tiles of the CPU operation, each computing alone.

torch's number of threads has two parts: one that each thread keeps for itself, and one of the process, which a thread takes
over when it first computes. `torch.set_num_threads` sets both. So a worker takes the process's number over and sets its own
to 1; then the process's is restored, before any work begins. The workers stay, so this happens once, and threads that start
while an operation runs get the number that the process had.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Task = TypeVar("Task")
Part = TypeVar("Part")

_starting = threading.Lock()


def in_threads(work: Callable[[Task], Part], tasks: Sequence[Task]) -> Iterator[Part]:
    """Run `map(work, tasks)` in as many threads as torch has."""
    threads = torch.get_num_threads()
    if min(threads, len(tasks)) == 1:
        return map(work, tasks)
    with _starting:
        pool = _pool(threads)
    return pool.map(work, tasks)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Start so many workers, in which torch has one thread each."""
    pool = ThreadPoolExecutor(threads, "siammae")
    ready = threading.Barrier(threads + 1)

    def compute_alone() -> None:
        torch.get_num_threads()  # takes over the process's number, which torch would do later, over the 1
        torch.set_num_threads(1)
        ready.wait()  # so that every worker gets one of these

    try:
        started = [pool.submit(compute_alone) for _ in range(threads)]
        ready.wait()
        for each in started:
            each.result()
    except BaseException:
        ready.abort()
        pool.shutdown(wait=False)
        raise
    finally:
        torch.set_num_threads(threads)
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
