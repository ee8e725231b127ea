"""The benchmark of snapshots: what it computes once for all temperatures is what propagation gives at each."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from siammae import load_model, propagate_labels
from siammae.evaluation.metrics import mean_region_similarity


@pytest.fixture(scope="module")
def snapshots() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks/snapshots.py"
    spec = importlib.util.spec_from_file_location("snapshots", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_temperature_scores_as_propagation_does(snapshots: ModuleType) -> None:
    encoder = load_model("vitt8", pretrained=False, device="cpu")
    encoder.default_size = 48
    background = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 48, 64), dtype=np.uint8))
    frames, truth = [], []
    for k in range(5):
        frame, mask = background.clone(), np.zeros((48, 64), dtype=bool)
        frame[:, 8:32, 8 + 6 * k : 32 + 6 * k] //= 3
        mask[8:32, 8 + 6 * k : 32 + 6 * k] = True
        frames.append(frame)
        truth.append(mask)
    temperatures = [0.005, 0.05]
    found = snapshots.tuned_j(encoder, frames, truth, temperatures)
    for score, temperature in zip(found, temperatures, strict=True):
        config = {"temperature": temperature, "edges": "none", "keep_lost": True}
        masks = propagate_labels(frames, truth[0], encoder, config=config, progress=False)
        assert score == pytest.approx(mean_region_similarity(truth, masks), abs=2e-3)
    assert 0 < min(found) < 1


def test_one_model_stands_for_itself(snapshots: ModuleType) -> None:
    ((past_frames, encoder),) = snapshots.encoders("vitt8d6", None)
    assert (past_frames, encoder.name) == (0, "vitt8d6")
