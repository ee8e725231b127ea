"""Search for the propagation settings that score best with a model, cross-validated over the sequences of a DAVIS folder.

    python benchmarks/search.py DAVIS CACHE --frames 40
    python benchmarks/search.py DAVIS CACHE --joints JOINTS --frames 999     # BADJA's joints in place of masks

From the model's own settings, or where --start says, one setting at a time is set to whatever gives the highest mean score,
round after round until none changes. The score of a sequence is the mean of J and F of every --every-th frame, or PCK@0.2.
Then, for each fold of the sequences, the best of all settings tried is chosen by the other sequences: what it scores on the
fold is what the choice is worth on sequences that had no part in it. CACHE keeps features, matches and scores, so that a
search that was interrupted goes on. Prints a table of all settings tried, the best first; --report prints it without trying
more.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matches import Sequence, loaded, strongest
from numpy.typing import NDArray
from torch import Tensor

from siammae.cli.options import read_changes
from siammae.evaluation.datasets import Badja, Davis
from siammae.evaluation.datasets.sequences import AnnotatedFrames, MaskSequence, PointSequence, first_mask
from siammae.evaluation.metrics import boundary_accuracy, region_similarity
from siammae.labels import (
    as_mask,
    grid_to_points,
    labels_to_grid,
    points_to_grid,
    redraw_points,
)
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation import PropagationConfig
from siammae.propagation.config import as_config
from siammae.video import as_frame

MASKS: dict[str, list[Any]] = {
    "temperature": [0.005, 0.01, 0.02, 0.05, 0.1],
    "top_k": [3, 5, 7, 10],
    "anchor_factor": [1.0, 1.03, 1.05, 1.1],
    "label_power": [1.0, 1.03, 1.05, 1.1],
    "context_frames": [3, 7, 12, 20],
    "radius": [5, 6, 7, 8, 10, 12],
    "edge_power": [0.35, 0.5, 0.7, 1.0],
    "edge_color": [0.1, 0.15, 0.2, 0.3],
    "edge_radius": [0.017, 0.033],
    "edge_eps": [1e-5, 3e-5, 1e-4, 1e-3],
    "edges": ["guided", "none"],
}
POINTS: dict[str, list[Any]] = {
    "temperature": [0.005, 0.01, 0.02, 0.05, 0.1],
    "point_sigma": [0.5, 0.75, 1, 1.5],
    "point_top_k": [5, 10, 30, 90],
    "point_radius": [2, 3, 4, 5],
    "point_redraw": [0, 0.3, 0.5, 0.7],
    "top_k": [3, 5, 7, 10],
    "context_frames": [3, 7, 12, 20],
    "radius": [5, 6, 7, 8, 10, 12],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--joints", type=Path, help="BADJA's joint annotations")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--sizes", type=int, nargs="+", default=[240])
    parser.add_argument("--layers", type=int, nargs="+", default=[-1])
    parser.add_argument("--frames", type=int, default=40, help="frames of each sequence, from its first on")
    parser.add_argument(
        "--start", nargs="*", default=[], help="settings to start from, such as top_k=7, in place of the model's own"
    )
    parser.add_argument("--vary", nargs="+", choices=[*MASKS, *POINTS], help="settings that are searched; all if not given")
    parser.add_argument("--every", type=int, default=3, help="score every such frame of masks")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    space = {**(POINTS if options.joints else MASKS), "layer": options.layers, "size": options.sizes}
    space = {name: values for name, values in space.items() if name in (options.vary or space)}
    start = {**asdict(as_config(dict(read_changes(options.start)), loaded(options.model))), "size": options.sizes[0]}
    if options.joints:
        dataset = Badja(options.davis, joints=options.joints)
        found = [shortened(one, options.frames) for one in dataset.find()]
    else:
        found = [shortened(one, options.frames) for one in Davis(options.davis).find()]
    names = [one.name for one in found]
    with ProcessPoolExecutor(options.processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        table = Table(options.cache, options.model, found, options.every, pool, start)
        if not options.report:
            descend(table, start, space)
        report(table, names, options.folds)


def report(table: "Table", names: list[str], folds: int) -> None:
    """Print the scores of the settings tried, and the score if each sequence's settings are chosen on the others."""
    settings = [json.loads(key) for key in table.known]
    scores = np.array(list(table.known.values()))  # [settings, S]
    held_out = np.zeros(len(names))
    for fold in range(folds):
        left = np.arange(len(names)) % folds == fold
        held_out[left] = scores[scores[:, ~left].mean(axis=1).argmax(), left]
    print(f"\n{len(settings)} settings; left out of the choice in {folds} folds: mean score {held_out.mean():.4f}\n")
    print(f"| settings, where they differ from the start | {' | '.join(names)} | mean |\n|{'---|' * (len(names) + 2)}")
    for index in scores.mean(axis=1).argsort()[::-1]:
        changed = ", ".join(f"{name} {value}" for name, value in settings[index].items() if table.start[name] != value)
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

    def __init__(
        self, cache: Path, model: str, found: list[Any], every: int, pool: ProcessPoolExecutor, start: dict[str, Any]
    ) -> None:
        self.cache, self.model, self.found, self.every, self.pool, self.start = cache, model, found, every, pool, start
        cache.mkdir(parents=True, exist_ok=True)
        kind = "points" if isinstance(found[0], PointSequence) else f"masks-every-{every}"
        self.path = cache / f"{Path(model).name}-{kind}-{max(len(one.frames) for one in found)}.json"
        self.known: dict[str, list[float]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def scores(self, settings: dict[str, Any]) -> NDArray[np.float64]:
        """Return the score of each sequence, [S]."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self.known:
            began = time.perf_counter()
            longest = sorted(range(len(self.found)), key=lambda index: -len(self.found[index].frames))
            work = partial(score, settings=settings, model=self.model, cache=self.cache, every=self.every)
            values = dict(zip(longest, self.pool.map(work, [self.found[index] for index in longest]), strict=True))
            self.known[key] = [values[index] for index in range(len(self.found))]
            draft = self.path.with_suffix(".part")
            draft.write_text(json.dumps(self.known))
            draft.replace(self.path)
            changed = {name: value for name, value in settings.items() if self.start[name] != value}
            print(f"  {np.mean(self.known[key]):.4f} in {time.perf_counter() - began:.0f} s: {changed}", flush=True)
        return np.array(self.known[key])


@torch.inference_mode()
def score(one: MaskSequence | PointSequence, *, settings: dict[str, Any], model: str, cache: Path, every: int) -> float:
    """Return the score of one sequence: the mean of J and F, or PCK@0.2."""
    config = PropagationConfig.from_mapping({name: value for name, value in settings.items() if name != "size"})
    matches = Sequence(one, model, settings["size"], config, cache)
    if isinstance(one, PointSequence):
        return pck(one, matches, replace(config, anchor_factor=1.0, label_power=1.0))  # as for all keypoints
    return j_and_f(one, matches, config, every)


def j_and_f(one: MaskSequence, matches: Sequence, config: PropagationConfig, every: int) -> float:
    """Return the mean of J and F of every so many frames."""
    geometry, mask = matches.geometry, first_mask(one.annotations[0])
    soft = matches.propagate(labels_to_grid(mask, mask.ids(), geometry.grid, config.first_labels), config)
    scores = []
    for t in range(every, len(soft) - 1, every):
        found = strongest(as_frame(one.frames[t]), soft[t], config).numpy() > 0
        truth = as_mask(one.annotations[t], empty=True).values > 0
        scores += [region_similarity(truth, found), boundary_accuracy(truth, found)]
    return float(np.mean(scores))


def pck(one: PointSequence, matches: Sequence, config: PropagationConfig) -> float:
    """Return the share of joints at most 0.2 times the square root of the animal's area away, as `Badja.score` does."""
    geometry = matches.geometry
    first = geometry.to_grid(torch.from_numpy(one.points[0]).float())

    def read(heat: Tensor) -> Tensor:
        points, scores = grid_to_points(heat, config.point_top_k, config.point_radius)
        return points.masked_fill((scores < config.point_lost_below)[:, None], torch.inf)

    def redraw(heat: Tensor) -> Tensor:
        return redraw_points(heat, read(heat), config.point_redraw, config.point_sigma) if config.point_redraw else heat

    soft = matches.propagate(points_to_grid(first, geometry.grid, config.point_sigma), config, redraw)
    stems, correct = [path.stem for path in one.frames], []
    for path in one.annotations[1:]:  # the first is the file of the joints; masks of the annotated frames follow
        t = stems.index(path.stem)
        if 0 < t < len(soft):
            away = np.linalg.norm(geometry.to_frame(read(soft[t])).numpy() - one.points[t], axis=1)
            counted = np.isfinite(one.points[[0, t]]).all(axis=(0, 2))
            correct.append(away[counted] <= 0.2 * np.sqrt(np.count_nonzero(as_mask(path, empty=True).values)))
    return float(np.concatenate(correct).mean())


def shortened(one: AnnotatedFrames, num: int) -> Any:
    """Return the first frames of a sequence."""
    annotations = one.annotations if isinstance(one, PointSequence) else one.annotations[:num]
    return replace(one, frames=one.frames[:num], annotations=annotations)


if __name__ == "__main__":
    main()
