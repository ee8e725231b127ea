"""Calibration of doubt: the scores of objects beside the J of their masks, on DAVIS sequences and on failures made from them.

    python benchmarks/doubt.py DAVIS CACHE --model vits8 --frames 40

Labels are propagated as in benchmarks/search.py, with the model's own settings, and J is that of the mask with edges; the score
sees features without the projection, as in `siammae.propagation`. Failures: masks shifted at random, and frames of other
sequences, black and white frames in place of the frame. Weights are fitted to J (logistic), cross-validated: each sequence is
scored by weights fitted to the others. The figures of "shipped" are those of the weights in siammae/propagation/scores.py,
with a score of 0 in the frames that `foreign_below` finds.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matches import Sequence, features, loaded, strongest
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from torch import Tensor
from torch.nn import functional as F

from siammae.evaluation.datasets import Davis
from siammae.evaluation.datasets.sequences import MaskSequence, first_mask
from siammae.evaluation.metrics import region_similarity
from siammae.features import encode
from siammae.labels import as_mask, labels_to_grid
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import as_config
from siammae.propagation.scenes import Scene
from siammae.propagation.scores import BIAS, CONFIDENT, MEMORY_EVERY, WEIGHTS, Looks, logistic
from siammae.video import as_frame

Row = tuple[str, str, float, tuple[float, ...], float]  # sequence, kind, J, signals, continuity of the frame


def jaccard(mine: Tensor, truth: Tensor) -> float:
    """Compute J of masks [h, w] of the grid; two empty masks agree."""
    return region_similarity(truth.numpy(), mine.numpy())


def collect(one: MaskSequence, model: str, cache: Path, every: int, strangers: dict[str, Tensor]) -> list[Row]:
    """Propagate a sequence; returns the signals of every so many frames, and of failures made from every other of them."""
    encoder = loaded(model)
    config = as_config({}, encoder)
    matches = Sequence(one, model, 240, config, cache)
    plain = F.normalize(features(one, encoder, matches.geometry, config.layer, cache).float(), dim=1)
    mask = first_mask(one.annotations[0])
    ids, grid = [0, 1], matches.geometry.grid
    mask = replace(mask, values=np.uint8(mask.values > 0))
    soft = matches.propagate(labels_to_grid(mask, ids, grid), config)
    looks, scene, rows, generator = Looks(exclusive=True), Scene(), [], torch.Generator().manual_seed(0)
    looks.anchor(plain[0], soft[0])
    scene.anchor(plain[0])

    def add(kind: str, seen: Tensor, labels: Tensor, j: float) -> None:
        inside = labels.argmax(dim=0) == 1
        if (signals := looks.signals(seen, inside, 1)) is not None:
            rows.append((one.name, kind, j, (*signals, looks.overlap(seen, inside, 1)), scene.continuity(seen)))

    for t in range(1, len(soft)):
        if t % every == 0:
            truth = np.uint8(as_mask(one.annotations[t], empty=True).values > 0)
            found = strongest(as_frame(one.frames[t]), soft[t], config).numpy() > 0
            add("real", plain[t], soft[t], region_similarity(truth > 0, found))
            if t % (2 * every) == 0:
                dy, dx = (int(torch.randint(-n, n + 1, (1,), generator=generator)) for n in (12, 25))
                shifted = soft[t].roll((dy, dx), (1, 2))
                real = labels_to_grid(as_mask(truth, empty=True), ids, grid).argmax(dim=0) == 1
                add("shifted", plain[t], shifted, jaccard(shifted.argmax(dim=0) == 1, real))
                names = [name for name, stranger in strangers.items() if name != one.name and stranger.shape == plain[t].shape]
                frames = [names[t // every % (len(names) - 2)], "black", "white"]
                for name in frames:
                    add(name if name in ("black", "white") else "foreign", strangers[name], soft[t], 0.0)
        if t % MEMORY_EVERY == 0 and looks.confidence(plain[t], soft[t].argmax(dim=0) == 1, 1) >= CONFIDENT:
            looks.remember(plain[t], soft[t], [1])
        scene.keep(plain[t])
    return rows


def fit(signals: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit weights and bias of a logistic map from signals [n, k] to J [n], by Newton's method: [k + 1]."""
    inputs = np.c_[signals, np.ones(len(signals))]
    weights = np.zeros(inputs.shape[1])
    for _ in range(50):
        predicted = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (predicted - target) / len(target) + 1e-3 * weights
        curve = (inputs * (predicted * (1 - predicted))[:, None]).T @ inputs / len(target) + 1e-3 * np.eye(len(weights))
        weights -= np.linalg.solve(curve, slope)
    return weights


def report(title: str, score: NDArray[np.float64], target: NDArray[np.float64], kinds: NDArray[np.str_]) -> None:
    """Print correlations, and precision and recall of lost at several thresholds."""
    bad, real = target < 0.1, kinds == "real"
    print(
        f"{title}: all {len(score)}: Spearman {spearmanr(score, target)[0]:.3f}, Pearson {pearsonr(score, target)[0]:.3f}; "
        f"{real.sum()} real frames: Spearman {spearmanr(score[real], target[real])[0]:.3f}"
    )
    for below in (0.1, 0.15, 0.2, 0.25, 0.3):
        lost = score < below
        hits = int((lost & bad).sum())
        shares = ", ".join(f"{kind} {lost[kinds == kind].mean():.2f}" for kind in ("black", "white", "foreign", "shifted"))
        print(
            f"  lost below {below:.2f}: precision {hits / max(int(lost.sum()), 1):.3f}, recall {hits / int(bad.sum()):.3f}, "
            f"{int((lost & ~bad & real).sum())} real frames wrongly; shares lost: {shares}"
        )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("davis", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=40, help="frames of each sequence, from its first on")
    parser.add_argument("--every", type=int, default=4, help="score every such frame")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    encoder = loaded(options.model)
    config = as_config({}, encoder)
    rows: list[Row] = []
    found = [
        replace(one, frames=one.frames[: options.frames], annotations=one.annotations[: options.frames])
        for one in Davis(options.davis).find()
    ]
    strangers = {}
    for one in found:
        geometry = Sequence(one, options.model, 240, config, options.cache).geometry
        grids = features(one, encoder, geometry, config.layer, options.cache)[:1].float()
        strangers[one.name] = F.normalize(grids, dim=1)[0]
    for name, level in (("black", 0), ("white", 255)):
        frame = torch.full((3, *geometry.frame), level, dtype=torch.uint8)
        strangers[name] = F.normalize(encode(encoder, [frame], geometry, config.layer).float(), dim=1)[0]
    for one in found:
        rows += collect(one, options.model, options.cache, options.every, strangers)
        print(f"{one.name}: {len(rows)} rows", flush=True)
    names, kinds = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    target, signals = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    validated = np.zeros(len(rows))
    for name in dict.fromkeys(names):
        held = names == name
        weights = fit(signals[~held], target[~held])
        validated[held] = [logistic(values, weights[:-1], weights[-1]) for values in signals[held]]
    print("fitted to all:", fit(signals, target).round(2))
    report("cross-validated", validated, target, kinds)
    foreign = np.array([row[4] for row in rows]) < config.foreign_below
    report("shipped", np.where(foreign, 0, [logistic(values, WEIGHTS, BIAS) for values in signals]), target, kinds)


if __name__ == "__main__":
    main()
