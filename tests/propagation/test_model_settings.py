"""Settings that a model brings along, and what a caller sets instead."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from siammae import KeypointPropagator, LabelPropagator, PropagationConfig, load_model, save_model
from siammae.encoder import Encoder
from siammae.propagation import propagate_to_folder


def test_a_model_brings_its_own_settings(tmp_path: Path, encoder: Encoder, texture: NDArray[np.uint8]) -> None:
    model = copy.copy(encoder)
    model.metadata = {**encoder.metadata, "propagation": {"top_k": 3, "temperature": 0.02}}
    saved = load_model(save_model(model, tmp_path / "model"), device="cpu")
    mask = np.tri(*texture.shape[:2], dtype=np.uint8)
    for given, expected in (
        (None, PropagationConfig(top_k=3, temperature=0.02)),
        ({"radius": 5}, PropagationConfig(top_k=3, temperature=0.02, radius=5)),
        ({"top_k": 9}, PropagationConfig(top_k=9, temperature=0.02)),
        ("default", PropagationConfig()),
        ("dino", PropagationConfig.preset("dino")),
        ({"preset": "dino", "top_k": 7}, PropagationConfig.preset("dino", top_k=7)),
        (PropagationConfig(), PropagationConfig()),
    ):
        assert LabelPropagator(texture, mask, saved, config=given).config == expected
        assert KeypointPropagator(texture, [[4, 4]], saved, config=given).config == expected
    folder = propagate_to_folder([texture], mask, tmp_path / "masks", saved, progress=False)
    assert json.loads((folder / "siammae.json").read_text())["config"] == asdict(PropagationConfig(top_k=3, temperature=0.02))


def test_settings_that_a_model_cannot_have_are_an_error(encoder: Encoder, texture: NDArray[np.uint8]) -> None:
    model = copy.copy(encoder)
    model.metadata = {"propagation": {"top_k": 0}}
    with pytest.raises(ValueError, match="top_k is 0; expected a whole number, 1 or more"):
        LabelPropagator(texture, np.tri(*texture.shape[:2], dtype=np.uint8), model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": "5"}, "top_k is '5'; expected a whole number, 1 or more$"),
        ({"top_k": 0}, "top_k is 0; expected a whole number, 1 or more$"),
        ({"top_k": 10**13}, "top_k is 10000000000000; expected a whole number, 1 or more and at most 1000000000000$"),
        ({"context_frames": -1}, "context_frames is -1; expected a whole number, 0 or more$"),
    ],
)
def test_whole_numbers_have_limits(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PropagationConfig(**changes)
    assert PropagationConfig(context_frames=0, top_k=10**12).top_k == 10**12
