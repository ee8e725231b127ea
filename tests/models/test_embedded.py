"""The model that comes with the package: complete, small, described truthfully, and better than what has learnt nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from siammae import list_models, load_model, model_info, propagate_labels
from siammae.models.registry import DEFAULT_MODEL, WEIGHTS_FOLDER
from siammae.synthetic import render_clip

FOLDER = WEIGHTS_FOLDER / DEFAULT_MODEL


def test_the_default_model_is_embedded_and_loads_without_a_name() -> None:
    assert list_models(pretrained=True) == [DEFAULT_MODEL]
    assert {path.name for path in WEIGHTS_FOLDER.iterdir()} == {DEFAULT_MODEL}
    files = "README.md", "config.json", "decoder.safetensors", "loss.png", "model.safetensors"
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(files)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 45e6
    encoder = load_model(device="cpu")
    assert (encoder.name, encoder.dtype, encoder.training) == (DEFAULT_MODEL, torch.float32, False)
    assert encoder.digest() != load_model(DEFAULT_MODEL, pretrained=False, device="cpu").digest()


def test_what_is_told_of_it_is_true() -> None:
    info, config, card = (
        model_info(DEFAULT_MODEL),
        json.loads((FOLDER / "config.json").read_text()),
        (FOLDER / "README.md").read_text(),
    )
    section = config["siammae"]
    assert section["license"] == info.license
    assert f"license: {info.license}" in card
    assert section["training"]["model"]["depth"] == info.depth
    for name, value in section["metrics"].items():
        assert f"{value:.3f}" in card, name
    for group in ("panda70m", "droid", "bridgedata", "kabr"):
        assert group in section["data"]


@torch.inference_mode()
def test_timm_loads_it_without_us() -> None:
    images = torch.randn(1, 3, 96, 144)
    model = timm.create_model(f"local-dir:{FOLDER}", pretrained=True).eval()
    ours = load_model(device="cpu")
    torch.testing.assert_close(model.forward_features(images), ours.vit.forward_features(images))


def test_it_carries_masks_offline() -> None:
    clip = render_clip(4)
    masks = propagate_labels(clip.frames, clip.masks[0], progress=False)
    assert np.mean((masks[-1] > 0) == (clip.masks[-1] > 0)) > 0.95


@pytest.mark.parametrize("name", ["dog", "car-roundabout"])
def test_it_beats_what_it_began_with(real_data: Path, name: str) -> None:
    from repository.test_real import mean_j, sequence

    frames, gt = sequence(real_data, name, 16)
    trained, untrained = (
        mean_j(gt, propagate_labels(frames, gt[0], load_model(pretrained=pretrained, device="cpu"), config="dino"))
        for pretrained in (True, False)
    )
    assert trained > untrained
