"""How the features change with training: for every snapshot of a run, J on a few sequences, and what the features tell of.

    python benchmarks/snapshots.py RUN DAVIS [--sequences dog camel car-roundabout] [--frames 40] [--curve curve.png]

RUN is the folder of a run with `snapshots`; DAVIS holds JPEGImages/480p and Annotations/480p. Every snapshot, and the weights
that the run began with, carry the first annotation through the first frames of each sequence under the `dino` preset.
`colour` and `position` are the shares of the features' variance that a quadratic function of a patch's mean colour, or of its
place, explains in the first frames, on cells that it was not fitted to.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from siammae import Encoder, propagate_labels, read_frames
from siammae.evaluation.metrics import mean_region_similarity
from siammae.features import preprocess
from siammae.files import read_tensors
from siammae.geometry import Geometry, frame_size
from siammae.training.checkpoint import checkpoints, read_state
from siammae.training.config import config_from_dict
from siammae.training.initial import build_model
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
    clips = {
        name: list(islice(read_frames(options.davis / "JPEGImages/480p" / name), options.frames)) for name in options.sequences
    }
    print("   step   mean  colour  position  " + "  ".join(clips))
    points = []
    for snapshot in (None, *sorted((options.run / "snapshots").glob("encoder-*.safetensors"))):
        step = 0 if snapshot is None else int(snapshot.stem.rpartition("-")[2])
        if snapshot is not None:
            encoder.vit.load_state_dict(read_tensors(snapshot))
        scores = {name: mean_j(encoder, frames, options.davis / "Annotations/480p" / name) for name, frames in clips.items()}
        colour, position = told(encoder, [frames[0] for frames in clips.values()])
        points.append((step, float(np.mean(list(scores.values())))))
        each = "  ".join(f"{score:{len(name)}.3f}" for name, score in scores.items())
        print(f"{step:7}  {points[-1][1]:.3f}  {colour:6.2f}  {position:8.2f}  {each}", flush=True)
    if options.curve:
        title = f"mean J of {', '.join(clips)}, first {options.frames} frames"
        save_png(draw_curve(points, title=title, x_label="steps"), options.curve)


def mean_j(encoder: Encoder, frames: list[Tensor], annotations: Path) -> float:
    """Mean J of a clip's masks, first and last dropped."""
    truth = [np.asarray(Image.open(path)) > 0 for path in sorted(annotations.glob("*.png"))[: len(frames)]]
    masks = propagate_labels(frames, truth[0], encoder, config="dino", progress=False)
    return mean_region_similarity(truth, masks)


@torch.no_grad()
def told(encoder: Encoder, frames: list[Tensor]) -> tuple[float, float]:
    """The shares of the features' variance that colour and position explain."""
    features, colours, places = [], [], []
    for frame in frames:
        geometry = Geometry.of(frame_size(frame), encoder)
        image = preprocess(frame[None], encoder, geometry.input)
        features.append(rearrange(F.normalize(encoder(image), dim=1), "1 d h w -> (h w) d"))
        colours.append(rearrange(F.avg_pool2d(image, encoder.patch_size), "1 c h w -> (h w) c"))
        places.append(torch.cartesian_prod(*(torch.linspace(-1, 1, side) for side in geometry.grid)))
    targets = torch.cat(features).double()
    colour, place = (_explained(targets, torch.cat(values).double()) for values in (colours, places))
    return colour, place


def _explained(targets: Tensor, values: Tensor) -> float:
    """The share of the variance of targets [P, D] that a quadratic function of values [P, n] explains, on every other row."""
    products = (values[:, :, None] * values[:, None]).flatten(1)
    terms = torch.cat([torch.ones(len(values), 1, dtype=values.dtype), values, products], dim=1)
    fit, test = slice(0, None, 2), slice(1, None, 2)
    weights = torch.linalg.pinv(terms[fit]) @ targets[fit]
    rest = (targets[test] - terms[test] @ weights).square().sum()
    return float(1 - rest / (targets[test] - targets[fit].mean(dim=0)).square().sum())


if __name__ == "__main__":
    main()
