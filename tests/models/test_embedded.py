"""The models that come with the package: complete, small, described truthfully, and better than before their training."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from siammae import list_models, load_model, model_info, propagate_labels
from siammae.models.registry import DEFAULT_MODEL, WEIGHTS_FOLDER
from siammae.synthetic import render_clip

EMBEDDED = ["vits8", "vitt8d6", "vitt8d6-features"]


def test_the_default_model_is_embedded_and_loads_without_a_name() -> None:
    assert list_models(pretrained=True) == EMBEDDED
    assert {path.name for path in WEIGHTS_FOLDER.iterdir()} == set(EMBEDDED)
    assert DEFAULT_MODEL in EMBEDDED
    assert load_model(device="cpu").name == DEFAULT_MODEL


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_model_is_whole(name: str) -> None:
    files = {"README.md", "config.json", "loss.png", "model.safetensors"}
    files |= {"vits8": {"decoder.safetensors", "projection.safetensors"}, "vitt8d6": {"decoder.safetensors"}}.get(name, set())
    assert {path.name for path in (WEIGHTS_FOLDER / name).iterdir()} == files
    encoder = load_model(name, device="cpu")
    info = model_info(name)
    assert (encoder.name, encoder.dtype, encoder.training) == (name, torch.float32, False)
    assert (encoder.patch_size, encoder.embed_dim, encoder.depth) == (info.patch_size, info.embed_dim, info.depth)
    assert encoder.digest() != load_model(name, pretrained=False, device="cpu").digest()


@pytest.mark.parametrize("name", EMBEDDED)
def test_its_card_is_true(name: str) -> None:
    info, folder = model_info(name), WEIGHTS_FOLDER / name
    config, card = json.loads((folder / "config.json").read_text()), (folder / "README.md").read_text()
    section = config["siammae"]
    assert section["license"] == info.license
    assert f"license: {info.license}" in card
    for group in ("kabr", "droid", "bridgedata"):
        assert group in section["data"].lower()
    measured = [entry["value"] for entry in section["evaluations"] if entry["protocol"] == "best"]
    assert list(info.metrics.values()) == pytest.approx(measured, abs=0.051)


def test_a_model_derived_from_another_says_so() -> None:
    folder = WEIGHTS_FOLDER / "vits8"
    card = (folder / "README.md").read_text()
    assert "base_model:" in card
    assert "DINOv2" in card


@pytest.mark.parametrize("name", EMBEDDED)
@torch.inference_mode()
def test_timm_loads_it_without_us(name: str) -> None:
    images = torch.randn(1, 3, 96, 144)
    model = timm.create_model(f"local-dir:{WEIGHTS_FOLDER / name}", pretrained=True).eval()
    ours = load_model(name, device="cpu")
    torch.testing.assert_close(model.forward_features(images), ours.vit.forward_features(images))


@pytest.mark.parametrize("name", EMBEDDED)
def test_it_carries_masks_offline(name: str) -> None:
    clip = render_clip(4)
    masks = propagate_labels(clip.frames, clip.masks[0], name, progress=False)
    assert np.mean((masks[-1] > 0) == (clip.masks[-1] > 0)) > 0.95


@pytest.mark.parametrize("name", ["dog", "car-roundabout"])
def test_it_beats_what_it_began_with(real_data: Path, name: str) -> None:
    from repository.test_real import mean_j, sequence

    frames, gt = sequence(real_data, name, 16)
    small, untrained, taught, large = (
        mean_j(gt, propagate_labels(frames, gt[0], model, config="dino"))
        for model in (
            load_model("vitt8d6", device="cpu"),
            load_model("vitt8d6", pretrained=False, device="cpu"),
            load_model("vitt8d6-features", device="cpu"),
            load_model("vits8", device="cpu"),
        )
    )
    assert untrained < small < large
    assert untrained < taught < large
