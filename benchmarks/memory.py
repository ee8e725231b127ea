"""Peak memory of propagating a mask over short and long videos: it should not depend on the number of frames.

    python benchmarks/memory.py --frames 100 2000

Each length runs in a process of its own, on generated frames of 480 x 854 with a small encoder (the encoder's own memory does
not depend on the video), and writes its masks into a temporary folder. Prints the peaks; exit code 1 if they differ by more
than `--limit` MB.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 480, 854


def moving_square(num_frames: int) -> Iterator[NDArray[np.uint8]]:
    """Frames [H, W, 3] of a square that circles over noise, made one at a time."""
    background = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for index in range(num_frames):
        frame = background.copy()
        row, column = (int(200 + 100 * wave) for wave in (np.sin(index / 20), np.cos(index / 20)))
        frame[row : row + 80, column : column + 80] = [240, 60, 40]
        yield frame


def peak_memory(num_frames: int, size: int) -> float:
    """Peak resident memory in MB of this process after it has propagated over `num_frames` frames."""
    from siammae.encoder import build_encoder
    from siammae.runs import propagate_to_folder

    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[200:280, 300:380] = 1
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 1})
    with tempfile.TemporaryDirectory() as folder:
        propagate_to_folder(moving_square(num_frames), mask, folder, encoder, size=size, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes there, KiB elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs=2, default=[100, 2000], metavar=("SHORT", "LONG"))
    parser.add_argument("--size", type=int, default=32, help="shorter side at which the encoder sees the frames, pixels")
    parser.add_argument("--limit", type=float, default=150, help="how far the peaks may lie apart, MB")
    arguments = parser.parse_args()
    peaks = []
    for num_frames in arguments.frames:
        began = time.monotonic()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            peaks.append(pool.submit(peak_memory, num_frames, arguments.size).result())
        print(f"{num_frames:6} frames: peak {peaks[-1]:6.0f} MB, {time.monotonic() - began:.0f} s", flush=True)
    print(f"difference: {peaks[1] - peaks[0]:.0f} MB, limit {arguments.limit:.0f} MB")
    sys.exit(peaks[1] - peaks[0] > arguments.limit)


if __name__ == "__main__":
    main()
