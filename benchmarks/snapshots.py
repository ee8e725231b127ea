"""J of every snapshot of a training run, with the temperature tuned for each, over the past frames seen.

    python benchmarks/snapshots.py RUN DAVIS [--frames 40] [--dtype bfloat16] [--last 1] [--curve curve.png] [--json curve.json]

RUN is the folder of a run with `snapshots` (averages of the weights where the run has `optim.ema`), or a model that
`load_model` takes; DAVIS holds JPEGImages/480p and Annotations/480p. Every snapshot, and the weights that the run began with,
carry the first annotation through the first frames of each sequence with the settings of `best`. Features and matches are
computed once, as only the weights of the matches depend on the temperature.

Two means are printed for each snapshot: with the default temperature, and with the one of --temperatures that is best on these
very frames. The second is tuned on the test, so it compares snapshots; it is no result to quote. `color` and `position` are the
shares of the features' variance that a quadratic function of a patch's mean color, or of its place, explains in the first
frames, on cells that it was not fitted to.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from siammae import Encoder, PropagationConfig, extract_features, load_model, ops, read_frames
from siammae.evaluation.metrics import mean_region_similarity
from siammae.features import preprocess
from siammae.files import read_tensors
from siammae.geometry import Geometry, frame_size
from siammae.labels.grid import labels_to_grid, strongest_label
from siammae.labels.masks import as_mask
from siammae.training.checkpoint import checkpoints, read_state
from siammae.training.config import config_from_dict
from siammae.training.initial import initial_encoder, rebuilt_encoder, start_from
from siammae.training.pictures import draw_curve, save_png

TEMPERATURES = 0.002, 0.005, 0.01, 0.02, 0.04, 0.07, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("davis", type=Path)
    parser.add_argument("--sequences", nargs="+", help="sequences to score; all in the folder if not given")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--temperatures", nargs="+", type=float, default=list(TEMPERATURES))
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="number type of the encoder")
    parser.add_argument("--last", type=int, help="number of newest snapshots to score, without the initial model")
    parser.add_argument("--curve", type=Path, help="PNG to draw the mean over the past frames in")
    parser.add_argument("--json", type=Path, help="JSON file for all scores")
    options = parser.parse_args()

    temperatures = sorted({*options.temperatures, PropagationConfig().temperature})
    names = options.sequences or sorted(path.name for path in (options.davis / "JPEGImages/480p").iterdir())
    clips = {name: list(islice(read_frames(options.davis / "JPEGImages/480p" / name), options.frames)) for name in names}
    rows, points = [], []
    print(f"mean J of the first {options.frames} frames; `tuned` is the best of {temperatures} on these frames")
    print("past frames  default   tuned    at  color  position  seconds  " + "  ".join(clips))
    for past_frames, encoder in encoders(options.run, options.last):
        start, encoder = time.monotonic(), encoder.to(dtype=getattr(torch, options.dtype)).eval()
        scores = {}
        for name, frames in clips.items():
            annotations = sorted((options.davis / "Annotations/480p" / name).glob("*.png"))[: len(frames)]
            scores[name] = tuned_j(encoder, frames, [np.asarray(Image.open(path)) > 0 for path in annotations], temperatures)
        means = np.mean(list(scores.values()), axis=0)
        best, default = int(means.argmax()), temperatures.index(PropagationConfig().temperature)
        color, position = told(encoder, [frames[0] for frames in clips.values()])
        each = "  ".join(f"{values[best]:{len(name)}.3f}" for name, values in scores.items())
        print(
            f"{past_frames:11}    {means[default]:.3f}   {means[best]:.3f}  {temperatures[best]:.3f}"
            f" {color:6.2f}  {position:8.2f}  {time.monotonic() - start:7.0f}  {each}",
            flush=True,
        )
        points.append((past_frames, float(means[best])))
        row = {"past_frames": past_frames, "means": means.tolist(), "color": color, "position": position}
        rows.append(row | {"sequences": {name: list(values) for name, values in scores.items()}})
        if options.json:
            options.json.write_text(json.dumps({"temperatures": temperatures, "frames": options.frames, "snapshots": rows}))
    if options.curve:
        title = f"mean J of {len(clips)} sequences, first {options.frames} frames, temperature tuned"
        save_png(draw_curve(points, title=title, x_label="past frames"), options.curve)


def encoders(source: str, last: int | None) -> Iterator[tuple[int, Encoder]]:
    """Return a run's encoders with the past frames seen until then: the initial one, then the snapshots; or one model."""
    found = checkpoints(Path(source)) if Path(source).is_dir() else []
    if not found:
        yield 0, load_model(source, device="cpu")
        return
    state = read_state(found[-1])
    config = config_from_dict(state["config"])
    if last is None:
        yield 0, start_from(config.model, config.init) if config.init else initial_encoder(config.model)
    snapshots = sorted((Path(source) / "snapshots").glob("encoder-*.safetensors"))
    for snapshot in snapshots[-last if last else 0 :]:
        encoder = rebuilt_encoder(config.model, state.get("encoder"))
        encoder.vit.load_state_dict(read_tensors(snapshot))
        yield int(snapshot.stem.rpartition("-")[2]) * config.batch_size, encoder


@torch.no_grad()
def tuned_j(encoder: Encoder, frames: list[Tensor], truth: Sequence[np.ndarray], temperatures: Sequence[float]) -> list[float]:
    """Return the mean J of a clip's masks for each temperature, first and last frame dropped."""
    config = PropagationConfig()
    geometry = Geometry.of(frame_size(frames[0]), encoder)
    features = F.normalize(extract_features(frames, encoder, batch_size=4, progress=False).float(), dim=1)
    labels0 = labels_to_grid(as_mask(truth[0]), [0, 1], geometry.grid, config.first_labels)
    labels = [labels0[None] for _ in temperatures]  # [T, L, h, w] of the frames so far
    masks = [[truth[0]] for _ in temperatures]
    for index in range(1, len(frames)):
        context = [0, *range(max(1, index - config.context_frames), index)]
        _, matches = ops.propagate(
            features[index],
            features[context],
            labels[0][context],
            radius=config.radius,
            top_k=config.top_k,
            temperature=config.temperature,
            window=config.window,
            return_matches=True,
        )
        for k, temperature in enumerate(temperatures):
            weights = torch.softmax(matches.similarities / temperature, dim=0)  # [k, h, w]
            flat = rearrange(labels[k][context], "n l h w -> l (n h w)")
            carried = (flat[:, matches.indices.clamp(min=0)] * weights).sum(dim=1)  # [L, h, w]
            labels[k] = torch.cat([labels[k], carried[None]])
            masks[k].append(strongest_label(carried, geometry.frame).numpy() > 0)
    return [mean_region_similarity(truth, found) for found in masks]


@torch.no_grad()
def told(encoder: Encoder, frames: list[Tensor]) -> tuple[float, float]:
    """Return the shares of the features' variance that colour and position explain."""
    features, colors, places = [], [], []
    for frame in frames:
        geometry = Geometry.of(frame_size(frame), encoder)
        image = preprocess(frame[None], encoder, geometry.input)
        features.append(rearrange(F.normalize(encoder(image).float(), dim=1), "1 d h w -> (h w) d"))
        colors.append(rearrange(F.avg_pool2d(image, encoder.patch_size), "1 c h w -> (h w) c"))
        places.append(torch.cartesian_prod(*(torch.linspace(-1, 1, side) for side in geometry.grid)))
    targets = torch.cat(features).double()
    color, place = (_explained(targets, torch.cat(values).double()) for values in (colors, places))
    return color, place


def _explained(targets: Tensor, values: Tensor) -> float:
    """Return the share of the variance of targets [P, D] that a quadratic of values [P, n] explains, on every other row."""
    products = (values[:, :, None] * values[:, None]).flatten(1)
    terms = torch.cat([torch.ones(len(values), 1, dtype=values.dtype), values, products], dim=1)
    fit, test = slice(0, None, 2), slice(1, None, 2)
    weights = torch.linalg.pinv(terms[fit]) @ targets[fit]
    rest = (targets[test] - terms[test] @ weights).square().sum()
    return float(1 - rest / (targets[test] - targets[fit].mean(dim=0)).square().sum())


if __name__ == "__main__":
    main()
