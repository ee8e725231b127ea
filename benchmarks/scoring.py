"""Time to score masks of the size of DAVIS-2017's validation set: 30 sequences, 61 objects, 480 x 854 pixels.

    python benchmarks/scoring.py FOLDER

FOLDER gets drawn annotations and predictions, about 30 MB, unless they are there.
"""

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np

from siammae.evaluation import Davis
from siammae.labels import write_mask

HEIGHT, WIDTH = 480, 854
OBJECTS = 1, 2, 3, 1, 2, 5, 1, 2, 2, 1, 2, 3, 1, 1, 2, 1, 3, 2, 1, 5, 2, 2, 2, 2, 3, 1, 2, 2, 1, 3
FRAMES = (
    69,
    50,
    80,
    84,
    90,
    75,
    40,
    104,
    90,
    60,
    66,
    60,
    52,
    50,
    60,
    50,
    52,
    75,
    40,
    49,
    99,
    66,
    79,
    50,
    40,
    80,
    40,
    47,
    91,
    65,
)
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not folder.exists():
        draw(folder)
    for _ in range(ROUNDS):
        began, worked = time.perf_counter(), time.process_time()
        scores = Davis(folder / "truth").score(folder / "predictions")
        seconds, work = time.perf_counter() - began, time.process_time() - worked
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"{sum(FRAMES)} frames, {len(scores.objects)} objects: {seconds:.1f} s on {os.cpu_count()} cores ({work:.1f} s of "
            f"work), {peak} MB at most, J&F {100 * scores.j_and_f:.1f}"
        )


def draw(folder: Path) -> None:
    """Draw objects with wavy outlines that move; predictions are shifted a little."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for number, (num_objects, num_frames) in enumerate(zip(OBJECTS, FRAMES, strict=True)):
        centers = random.uniform(0.2, 0.8, (num_objects, 2)) * (HEIGHT, WIDTH)
        steps, radii = random.uniform(-2, 2, (num_objects, 2)), random.uniform(40, 120, num_objects)
        for frame in range(num_frames):
            for kind, shift in (("truth", 0.0), ("predictions", 4.0)):
                mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
                for index in range(num_objects):
                    y, x = centers[index] + steps[index] * frame + random.normal(0, shift, 2)
                    angle = np.arctan2(rows - y, columns - x)
                    edge = radii[index] * (1 + 0.2 * np.sin(5 * angle) + 0.1 * np.sin(23 * angle + frame))
                    mask[np.hypot(rows - y, (columns - x) / 1.3) < edge] = index + 1
                path = folder / kind / f"s{number:02d}" / f"{frame:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mask(path, mask)


if __name__ == "__main__":
    main()
