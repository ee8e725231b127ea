"""Calibration of doubt: the scores of objects beside the J of their masks, on DAVIS sequences and on failures made from them.

Run: python benchmarks/doubt.py DAVIS FEATURES [--frames 60]

FEATURES holds SEQUENCE.npy [T, D, h, w] for each sequence, the features of all its frames at the model's default size
(`siammae.extract_features`). J is that of the grid. Failures: the masks of every fifth frame shifted at random, and frames of
other sequences in place of every fifth. Weights are fitted to J (logistic), cross-validated: each sequence is scored by weights
fitted to the others. The figures of "shipped" are those of the weights in siammae/propagation/scores.py.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import pearsonr, spearmanr
from torch import Tensor
from torch.nn import functional as F

from siammae import Encoder, Geometry, PropagationConfig
from siammae.labels.grid import labels_to_grid
from siammae.labels.masks import as_mask
from siammae.propagation.context import SoftPropagator
from siammae.propagation.scores import BIAS, WEIGHTS, Judge

Rows = list[tuple[str, str, float, tuple[float, float, float]]]  # sequence, kind, J, signals


def jaccard(mine: Tensor, truth: Tensor) -> float:
    """Compute J of masks [h, w]; two empty masks agree."""
    union = int((mine | truth).sum())
    return int((mine & truth).sum()) / union if union else 1.0


def read_features(path: Path, frames: int) -> Tensor:
    """Read features [T, D, h, w] of unit length."""
    return F.normalize(torch.from_numpy(np.load(path, mmap_mode="r")[:frames].astype(np.float32)), dim=1)


def collect(davis: Path, folder: Path, frames: int) -> tuple[Rows, dict[str, tuple[float, float]]]:
    """Propagate every sequence; returns signals, and the mean J of each with and without keeping what is lost."""
    rows: Rows = []
    means = {}
    names = sorted(path.stem for path in folder.glob("*.npy"))
    strangers = {name: read_features(folder / f"{name}.npy", 1)[0] for name in names}
    shifts = torch.Generator().manual_seed(0)
    for name in names:
        features = read_features(folder / f"{name}.npy", frames)
        grid = (features.shape[-2], features.shape[-1])
        paths = sorted((davis / "Annotations/480p" / name).glob("*.png"))[: len(features)]
        given = [as_mask(np.uint8(np.asarray(Image.open(path)) > 0)) for path in paths]
        truth = [labels_to_grid(mask, [0, 1], grid, "area") for mask in given]
        results = []
        for keep_lost in (True, False):
            config = PropagationConfig(keep_lost=keep_lost)
            encoder = cast(Encoder, SimpleNamespace(name="cached"))
            propagator = SoftPropagator(encoder, config, cast(Geometry, None))
            judge = Judge(True, config.lost_below, keep_lost)
            propagator.anchor(features[0], truth[0])
            judge.anchor(features[0], truth[0], [1])
            scores = []
            for index in range(1, len(features)):
                frame = features[index]
                labels = propagator.advance(frame, judge.revise)
                shown, gone = judge.without_lost(labels)
                mine = shown.argmax(dim=0) == 1 if not gone else torch.zeros(grid, dtype=torch.bool)
                real = truth[index].argmax(dim=0) == 1
                scores.append(jaccard(mine, real))
                if not keep_lost:
                    continue
                cases = [("real", frame, labels)]
                if index % 5 == 0:
                    for _ in range(2):
                        dy, dx = (int(torch.randint(-n, n + 1, (1,), generator=shifts)) for n in (12, 25))
                        cases.append(("shifted", frame, labels.roll((dy, dx), (1, 2))))
                    stranger = strangers[names[(names.index(name) + index // 5) % len(names)]]
                    if stranger.shape == frame.shape and not torch.equal(stranger, strangers[name]):
                        cases.append(("foreign", stranger, labels))
                for kind, seen, soft in cases:
                    inside = soft.argmax(dim=0) == 1
                    if (signals := judge.looks.signals(seen, inside, 1)) is not None:
                        rows.append((name, kind, 0.0 if kind == "foreign" else jaccard(inside, real), signals))
            results.append(float(np.mean(scores)))
        means[name] = (results[0], results[1])
        print(f"{name:16} J {results[0]:.3f} kept, {results[1]:.3f} with lost objects removed and searched", flush=True)
    return rows, means


def fit(signals: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit weights and bias [4] of a logistic map from signals [n, 3] to J [n], by Newton's method."""
    inputs = np.c_[signals, np.ones(len(signals))]
    weights = np.zeros(4)
    for _ in range(50):
        predicted = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (predicted - target) / len(target) + 1e-3 * weights
        curve = (inputs * (predicted * (1 - predicted))[:, None]).T @ inputs / len(target) + 1e-3 * np.eye(4)
        weights -= np.linalg.solve(curve, slope)
    return weights


def report(title: str, score: NDArray[np.float64], target: NDArray[np.float64], kinds: NDArray[np.str_]) -> None:
    """Print correlations, and precision and recall of lost at several thresholds."""
    print(f"{title}: Spearman {spearmanr(score, target)[0]:.3f}, Pearson {pearsonr(score, target)[0]:.3f}")
    bad, real = target < 0.1, kinds == "real"
    for below in (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3):
        lost = score < below
        hits = int((lost & bad).sum())
        print(
            f"  lost below {below:.2f}: precision {hits / max(int(lost.sum()), 1):.3f}, recall {hits / int(bad.sum()):.3f}, "
            f"{int((lost & ~bad & real).sum())} of {int(real.sum())} real frames wrongly"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("davis", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, means = collect(options.davis, options.features, options.frames)
    print("mean J {:.4f} kept, {:.4f} with lost objects removed and searched".format(*np.mean(list(means.values()), axis=0)))
    names, kinds = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    target, signals = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    validated = np.zeros(len(rows))
    for name in means:
        held = names == name
        weights = fit(signals[~held], target[~held])
        validated[held] = 1 / (1 + np.exp(-np.c_[signals[held], np.ones(held.sum())] @ weights))
    print("fitted to all:", fit(signals, target).round(2))
    report("cross-validated", validated, target, kinds)
    report("shipped", 1 / (1 + np.exp(-signals @ np.array(WEIGHTS) - BIAS)), target, kinds)
    real = kinds == "real"
    print(f"real frames alone, cross-validated: Spearman {spearmanr(validated[real], target[real])[0]:.3f}")


if __name__ == "__main__":
    main()
