"""Peak memory and speed of propagating a mask over short and long videos: neither should depend on the number of frames.

    python benchmarks/memory.py --frames 100 2000

Each length runs in a process of its own, on generated frames of 480 x 854 with a small encoder (the encoder's own memory does
not depend on the video), and writes its masks into a temporary folder. Prints the peaks, and the time of a frame in each fifth
of the video; exit code 1 if the peaks differ by more than `--limit` MB.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 480, 854


def moving_square(num_frames: int) -> Iterator[NDArray[np.uint8]]:
    """Yield frames [H, W, 3] of a square that circles over noise."""
    background = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for index in range(num_frames):
        frame = background.copy()
        row, column = (int(200 + 100 * wave) for wave in (np.sin(index / 20), np.cos(index / 20)))
        frame[row : row + 80, column : column + 80] = [240, 60, 40]
        yield frame


def measure(num_frames: int, size: int) -> tuple[float, list[float]]:
    """Propagate over `num_frames` frames; return this process's peak memory in MB, and milliseconds a frame in each fifth."""
    from siammae.models.build import build_encoder
    from siammae.propagation import propagate_to_folder

    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[200:280, 300:380] = 1
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 1})
    asked: list[float] = []  # when each frame was asked for

    def timed() -> Iterator[NDArray[np.uint8]]:
        for frame in moving_square(num_frames):
            asked.append(time.perf_counter())
            yield frame
        asked.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        propagate_to_folder(timed(), mask, folder, encoder, size=size, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bounds = [asked[num_frames * fifth // 5] for fifth in range(6)]
    milliseconds = [1000 * (end - start) / (num_frames / 5) for start, end in pairwise(bounds)]
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, milliseconds  # bytes there, KiB elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs=2, default=[100, 2000], metavar=("SHORT", "LONG"))
    parser.add_argument("--size", type=int, default=240, help="shorter side at which the encoder sees the frames, pixels")
    parser.add_argument("--limit", type=float, default=150, help="largest allowed difference of the peaks, MB")
    arguments = parser.parse_args()
    peaks = []
    for num_frames in arguments.frames:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            peak, milliseconds = pool.submit(measure, num_frames, arguments.size).result()
        peaks.append(peak)
        print(
            f"{num_frames:6} frames: peak {peak:6.0f} MB, ms a frame {' '.join(f'{ms:.1f}' for ms in milliseconds)}", flush=True
        )
    print(f"difference: {peaks[1] - peaks[0]:.0f} MB, limit {arguments.limit:.0f} MB")
    sys.exit(peaks[1] - peaks[0] > arguments.limit)


if __name__ == "__main__":
    main()
