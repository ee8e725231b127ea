"""Time and memory of calls that take turns."""

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch


class Meter:
    """A meter of the time and extra memory of calls on a device."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def __call__(self, call: Callable[[], object]) -> tuple[float, float | None]:
        """Measure milliseconds, and the peak of memory in MB beyond that in use before; None if the system hides it."""
        return self._on_cuda(call) if self.cuda else self._on_cpu(call)

    def _on_cuda(self, call: Callable[[], object]) -> tuple[float, float]:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end), (torch.cuda.max_memory_allocated() - before) / 2**20

    def _on_cpu(self, call: Callable[[], object]) -> tuple[float, float | None]:
        before = _restart_peak()
        began = time.perf_counter()
        call()
        milliseconds = 1e3 * (time.perf_counter() - began)
        return milliseconds, None if before is None else _resident("VmHWM") - before


def _restart_peak() -> float | None:
    """Free unused memory, reset the process's peak, and return the memory in use in MB; None except on Linux."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _resident("VmRSS")


def _resident(field: str) -> float:
    """Read a field of the process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


@dataclass(frozen=True)
class Cost:
    """Cost of one contestant: median milliseconds of a call, and MB of extra memory at its peak."""

    milliseconds: float
    megabytes: float | None


Call = Callable[[int], object]  # takes the number of the round


def take_turns(calls: Mapping[str, Call], device: torch.device, rounds: int, seconds: float) -> dict[str, Cost]:
    """Measure each call: a round to warm up, then `rounds` of them; fewer once `seconds` have passed, at least one."""
    meter = Meter(device)
    measured: dict[str, list[tuple[float, float | None]]] = {name: [] for name in calls}
    began = time.perf_counter()
    for index in range(rounds + 1):
        for name, call in calls.items():
            measured[name].append(meter(partial(call, index)))
        if index and time.perf_counter() - began > seconds:
            break
    costs = {}
    for name, rows in measured.items():
        times, peaks = zip(*rows, strict=True)  # the first call may leave memory with the process, which later ones reuse
        costs[name] = Cost(statistics.median(times[1:]), None if None in peaks else max(peaks))
    return costs
