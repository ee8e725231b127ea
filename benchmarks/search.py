"""Search for the propagation settings that score best with a model, cross-validated over the sequences of a DAVIS folder.

    python benchmarks/search.py DAVIS CACHE --model vitt8d6 --frames 50 --folds 5

From where --start says, one setting at a time is set to whatever gives the highest mean J, round after round until none
changes. Then, for each fold of the sequences, the best of all settings tried is chosen by the other sequences: what it scores
on the fold is what the choice is worth on sequences that had no part in it. CACHE keeps features and scores, so that a search
that was interrupted goes on. Prints a table of all settings tried, the best first; --report prints it without trying more.
"""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from siammae import load_model
from siammae.cli.options import read_changes
from siammae.encoder import Encoder
from siammae.evaluation.datasets import Davis
from siammae.evaluation.datasets.sequences import MaskSequence, first_mask
from siammae.evaluation.metrics import mean_region_similarity
from siammae.features import encode
from siammae.geometry import Geometry
from siammae.labels import as_mask, labels_to_grid, resize_nearest, strongest_label
from siammae.propagation import PropagationConfig
from siammae.propagation.context import SoftPropagator
from siammae.video import as_frame

SPACE: dict[str, list[Any]] = {
    "normalize_objects": [False, True],
    "temperature": [0.005, 0.01, 0.02, 0.05, 0.1],
    "top_k": [3, 5, 7, 10],
    "first_labels": ["area", "bilinear", "nearest"],
    "restrict_anchors": [True, False],
    "context_frames": [7, 10, 15, 20],
    "radius": [6, 7, 8, 10, 12],
    "window": ["circle", "square"],
    "decode_at": ["frame", "input"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--model", default="vitt8d6")
    parser.add_argument("--sizes", type=int, nargs="+", default=[240])
    parser.add_argument("--layers", type=int, nargs="+", default=[-1])
    parser.add_argument("--frames", type=int, default=50, help="frames of each sequence, from its first on")
    parser.add_argument(
        "--start", nargs="*", default=[], help="settings to start from, such as top_k=7; the defaults if not given"
    )
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    space = {**SPACE, "layer": options.layers, "size": options.sizes}
    start = {**asdict(PropagationConfig.preset("default", **read_changes(options.start))), "size": options.sizes[0]}
    found = [
        replace(one, frames=one.frames[: options.frames], annotations=one.annotations[: options.frames])
        for one in Davis(options.davis).find()
    ]
    names = [one.name for one in found]
    with ProcessPoolExecutor(options.processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        table = Table(options.cache, options.model, found, pool)
        if not options.report:
            descend(table, start, space)
        report(table, names, options.folds)


def report(table: "Table", names: Sequence[str], folds: int) -> None:
    """Print the scores of the settings tried, and the score if each sequence's settings are chosen on the others."""
    default = asdict(PropagationConfig())
    settings = [json.loads(key) for key in table.known]
    scores = np.array(list(table.known.values()))  # [settings, S]
    held_out = np.zeros(len(names))
    for fold in range(folds):
        left = np.arange(len(names)) % folds == fold
        held_out[left] = scores[scores[:, ~left].mean(axis=1).argmax(), left]
    print(f"\n{len(settings)} settings; left out of the choice in {folds} folds: mean J {held_out.mean():.4f}\n")
    print(f"| settings, where they differ from the default | {' | '.join(names)} | mean |\n|{'---|' * (len(names) + 2)}")
    for index in scores.mean(axis=1).argsort()[::-1]:
        changed = ", ".join(f"{name} {value}" for name, value in settings[index].items() if default.get(name) != value)
        print(f"| {changed} | {' | '.join(f'{value:.3f}' for value in scores[index])} | {scores[index].mean():.4f} |")
    print(f"| left out | {' | '.join(f'{value:.3f}' for value in held_out)} | {held_out.mean():.4f} |")


def descend(table: "Table", start: dict[str, Any], space: dict[str, list[Any]]) -> dict[str, Any]:
    """Return settings that no change of a single one improves."""
    best, changed = dict(start), True
    while changed:
        changed = False
        for name, values in space.items():
            scores = {value: float(table.scores({**best, name: value}).mean()) for value in [best[name], *values]}
            top = max(scores, key=scores.__getitem__)
            if scores[top] > scores[best[name]] + 1e-4:
                best[name], changed = top, True
    return best


class Table:
    """Scores of settings, each computed once and kept in a file."""

    def __init__(self, cache: Path, model: str, found: Sequence[MaskSequence], pool: ProcessPoolExecutor) -> None:
        self.cache, self.model, self.found, self.pool = cache, model, found, pool
        cache.mkdir(parents=True, exist_ok=True)
        self.path = cache / f"{Path(model).name}-{len(found[0].frames)}.json"
        self.known: dict[str, list[float]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def scores(self, settings: dict[str, Any]) -> NDArray[np.float64]:
        """Return the mean J of each sequence, [S]."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self.known:
            began = time.perf_counter()
            longest = sorted(range(len(self.found)), key=lambda index: -len(self.found[index].frames))
            work = partial(score, settings=settings, model=self.model, cache=self.cache)
            values = dict(zip(longest, self.pool.map(work, [self.found[index] for index in longest]), strict=True))
            self.known[key] = [values[index] for index in range(len(self.found))]
            draft = self.path.with_suffix(".part")
            draft.write_text(json.dumps(self.known))
            draft.replace(self.path)
            start = asdict(PropagationConfig())
            changed = {name: value for name, value in settings.items() if start.get(name) != value}
            print(f"  {np.mean(self.known[key]):.4f} in {time.perf_counter() - began:.0f} s: {changed}", flush=True)
        return np.array(self.known[key])


@torch.inference_mode()
def score(one: MaskSequence, *, settings: dict[str, Any], model: str, cache: Path) -> float:
    """Return the mean J of one sequence."""
    config = PropagationConfig.from_mapping({name: value for name, value in settings.items() if name != "size"})
    encoder = loaded(model)
    frame = as_frame(one.frames[0])
    geometry = Geometry.of((frame.shape[1], frame.shape[2]), encoder, settings["size"])
    grids = features(one, encoder, geometry, config.layer, cache)
    mask = first_mask(one.annotations[0])
    propagator = SoftPropagator(encoder, config, geometry)
    sampled = mask.resized(geometry.input, config.nearest_pixel) if config.first_labels == "bilinear" else mask
    propagator.anchor(grids[0].float(), labels_to_grid(sampled, mask.ids(), geometry.grid, config.first_labels))
    found = [mask.values > 0]
    for grid in grids[1:]:
        soft = propagator.advance(grid.float())
        size = geometry.frame if config.decode_at == "frame" else geometry.input
        winner = strongest_label(soft, size, normalize=config.normalize_objects)
        found.append(resize_nearest(winner, geometry.frame, config.nearest_pixel).numpy() > 0)
    return mean_region_similarity(truths(one), found)


LOADED: dict[str, Encoder] = {}


def loaded(model: str) -> Encoder:
    if model not in LOADED:
        LOADED[model] = load_model(model)
    return LOADED[model]


def features(one: MaskSequence, encoder: Encoder, geometry: Geometry, layer: int, cache: Path) -> torch.Tensor:
    """Return features [T, D, h, w] of unit length, float16, from the cache, which is filled if need be."""
    path = cache / f"{encoder.name}-{geometry.input[0]}-{layer}-{one.name}-{len(one.frames)}.npy"
    if not path.exists():
        grids = [F.normalize(encode(encoder, [as_frame(frame)], geometry, layer).float(), dim=1).half() for frame in one.frames]
        draft = path.with_suffix(".part.npy")
        np.save(draft, torch.cat(grids).contiguous().numpy())
        draft.replace(path)
    return torch.from_numpy(np.load(path))


def truths(one: MaskSequence) -> Iterable[NDArray[np.bool_]]:
    return (as_mask(path, empty=True).values > 0 for path in one.annotations)


if __name__ == "__main__":
    main()
