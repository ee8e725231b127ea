"""Mean J over the sequences of a DAVIS folder, propagated by the command line from each first annotation.

    python benchmarks/sequences.py DAVIS OUT --model vits16 --no-pretrained --preset dino
    python benchmarks/sequences.py DAVIS OUT --raw-colours

DAVIS holds JPEGImages/480p and Annotations/480p; OUT gets a folder of masks for each sequence. Options after OUT go to
`siammae propagate`. J is the region similarity of everything that is not background, first and last frame dropped. Sequences
that are in OUT already are scored as they are.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.metrics import mean_region_similarity
from siammae.labels import as_mask


def main() -> None:
    davis, out, *options = sys.argv[1:]
    means = []
    for images in sorted(path for path in (Path(davis) / "JPEGImages" / "480p").iterdir() if path.is_dir()):
        annotations = sorted((Path(davis) / "Annotations" / "480p" / images.name).glob("*.png"))
        masks = Path(out) / images.name
        began = time.perf_counter()
        if not masks.is_dir():
            propagate(images, annotations[0], masks, options)
        seconds = time.perf_counter() - began
        means.append(mean_region_similarity(map(objects, annotations), (objects(masks / gt.name) for gt in annotations)))
        print(f"{images.name:18} J {means[-1]:.3f}  {len(annotations)} frames, {seconds:.0f} s", flush=True)
    print(f"{'mean':18} J {np.mean(means):.3f}  ({' '.join(options)})")


def objects(path: Path) -> NDArray[np.bool_]:
    """Where a mask [H, W] shows anything but background."""
    shown: NDArray[np.bool_] = as_mask(path, empty=True).values > 0
    return shown


def propagate(images: Path, mask: Path, masks: Path, options: list[str]) -> None:
    if options == ["--raw-colours"]:
        script = Path(__file__).parents[1] / "examples" / "raw_colours.py"
        command = [sys.executable, str(script), str(images), str(mask), str(masks)]
    else:
        command = [sys.executable, "-m", "siammae.cli", "propagate", str(images), str(mask), "-o", str(masks), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
