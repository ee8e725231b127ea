"""How the features change with training: J on a few sequences for every snapshot of a run.

    python benchmarks/snapshots.py RUN DAVIS [--sequences dog camel car-roundabout] [--frames 40] [--curve curve.png]

RUN is the folder of a run with `snapshots`; DAVIS holds JPEGImages/480p and Annotations/480p. Every snapshot, and the weights
that the run began with, carry the first annotation through the first frames of each sequence under the `dino` preset.
"""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from siammae import Encoder, propagate_labels, read_frames
from siammae.evaluation.metrics import region_similarity
from siammae.tensors import read_tensors
from siammae.training.checkpoint import checkpoints, read_state
from siammae.training.config import config_from_dict
from siammae.training.loop import build_model
from siammae.training.pictures import draw_curve, save_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("davis", type=Path)
    parser.add_argument("--sequences", nargs="+", default=["dog", "camel", "car-roundabout"])
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--curve", type=Path, help="PNG of the mean over the steps")
    options = parser.parse_args()

    config = config_from_dict(read_state(checkpoints(options.run)[-1])["config"])
    encoder = build_model(config.model, config.seed).encoder.eval()
    print(f"{'step':>7}  {'mean':>5}  " + "  ".join(options.sequences))
    points = []
    for snapshot in (None, *sorted((options.run / "snapshots").glob("encoder-*.safetensors"))):
        step = 0 if snapshot is None else int(snapshot.stem.rpartition("-")[2])
        if snapshot is not None:
            encoder.vit.load_state_dict(read_tensors(snapshot))
        scores = [mean_j(encoder, options.davis, name, options.frames) for name in options.sequences]
        points.append((step, float(np.mean(scores))))
        columns = zip(options.sequences, scores, strict=True)
        print(f"{step:7}  {points[-1][1]:.3f}  " + "  ".join(f"{score:{len(name)}.3f}" for name, score in columns), flush=True)
    if options.curve:
        title = f"mean J of {', '.join(options.sequences)}, first {options.frames} frames"
        save_png(draw_curve(points, title=title, x_label="steps"), options.curve)


def mean_j(encoder: Encoder, davis: Path, name: str, num_frames: int) -> float:
    """Mean J of the first frames of a sequence, first and last of them dropped."""
    annotations = sorted((davis / "Annotations" / "480p" / name).glob("*.png"))[:num_frames]
    truth = [np.asarray(Image.open(path)) > 0 for path in annotations]
    frames = list(islice(read_frames(davis / "JPEGImages" / "480p" / name), num_frames))
    masks: Sequence[np.ndarray] = propagate_labels(frames, truth[0], encoder, config="dino", progress=False)
    return float(np.mean([region_similarity(gt, mask) for gt, mask in zip(truth[1:-1], masks[1:-1], strict=True)]))


if __name__ == "__main__":
    main()
