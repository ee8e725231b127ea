"""Model cards: made from what is known, readable by the Hub, with a snippet that runs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from siammae import load_model, save_model
from siammae.cli import main
from siammae.encoder import Encoder
from siammae.evaluation import Davis, evaluate
from siammae.models.build import build_encoder
from siammae.models.card import model_card
from siammae.synthetic import render_clip
from siammae.video import write_video


@pytest.fixture
def described() -> Encoder:
    """An encoder of which everything is known."""
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 1}, name="tiny").eval()
    encoder.metadata = {
        "license": "cc-by-nc-4.0",
        "data": "- films of birds, CC BY 4.0",
        "results": "Better than nothing.",
        "training": {"method": "SiamMAE", "steps": 7, "model": {"decoder": "cross-self"}},
    }
    return encoder


def test_a_card_tells_everything(described: Encoder) -> None:
    card = model_card(described, picture="loss.png")
    for text in ("# tiny", "films of birds", "Better than nothing.", "| steps | 7 |", "| decoder | cross-self |", "loss.png",
                 "may lose", "arXiv:2305.14344", "gupta2023siamese", "shorter side of 480 pixels"):  # fmt: skip
        assert text in card
    for title in ("Use", "Intended use and limits", "Results", "Data", "Training", "License", "Citation"):
        assert f"## {title}\n" in card
    bare = model_card(build_encoder("vit_tiny_patch16_224", {"depth": 1}))
    assert "None measured yet." in bare
    assert bare.count("Not stated") == 3  # data, training, license
    assert "license:" not in bare


def test_a_card_says_what_the_weights_are_derived_from() -> None:
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 1}, name="tiny")
    encoder.metadata = {
        "license": "apache-2.0",
        "base_model": "someone/dino-tiny",
        "source": {"method": "DINO", "file": "tiny.pth", "sha256": None},
        "changes": "The patch projection was resized from 14 to 8 pixels.",
    }
    card = ModelCard(model_card(encoder))
    assert (card.data.base_model, card.data.license, card.data.eval_results) == ("someone/dino-tiny", "apache-2.0", None)
    origin = card.text.split("## Origin\n")[1].split("\n## ")[0]
    assert "[someone/dino-tiny](https://huggingface.co/someone/dino-tiny)" in origin
    assert "| method | DINO |\n| file | tiny.pth |\n" in origin
    assert "sha256" not in origin
    assert "resized from 14 to 8 pixels" in origin
    assert "pretrained by DINO" in card.text
    assert "{" not in card.text.split("```bibtex")[0]  # nothing of the template is left


def test_the_snippet_of_a_card_runs(described: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clip = render_clip(2, (96, 128))
    write_video("video.mp4", clip.frames, 25)
    Image.fromarray(clip.masks[0].astype(np.uint8)).save("mask-of-the-first-frame.png")
    folder = save_model(described, "path/to/this/folder")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert np.asarray(names["masks"]).shape == (2, 96, 128)


def test_evaluations_go_into_config_and_card(described: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = render_clip(4, (64, 96))
    for index, (frame, mask) in enumerate(zip(clip.frames, clip.masks, strict=True)):
        for kind, pixels in (("JPEGImages", frame), ("Annotations", mask.astype(np.uint8))):
            path = tmp_path / "DAVIS" / kind / "480p" / "cat" / f"{index:05d}.{'jpg' if kind == 'JPEGImages' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    folder = save_model(described.half(), tmp_path / "tiny")
    before = (folder / "model.safetensors").read_bytes()
    evaluation = evaluate(Davis(tmp_path / "DAVIS"), tmp_path / "out", str(folder), protocol="dino", size=64)
    assert evaluation is not None
    for _ in range(2):  # the second time it replaces what the first wrote
        main(["card", str(folder), str(tmp_path / "out")])
    value = round(100 * evaluation.scores.headline[1], 2)
    (entry,) = json.loads((folder / "config.json").read_text())["siammae"]["evaluations"]
    assert (entry["dataset"], entry["protocol"], entry["metric"], entry["value"]) == ("davis", "dino", "J&F", value)
    text = (folder / "README.md").read_text()
    assert f"| davis | 1 | dino | 64 | J&F | {value:g} |" in text
    front = yaml.safe_load(text.split("---")[1])
    assert front["pipeline_tag"] == "image-feature-extraction"
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == value
    assert ModelCard(text).data.to_dict()["library_name"] == "siammae"
    loaded = load_model(folder, device="cpu")
    assert loaded.metadata["evaluations"] == [entry]
    assert (folder / "model.safetensors").read_bytes() == before
    alone = load_model(folder / "model.safetensors", device="cpu").metadata
    assert alone == {key: value for key, value in loaded.metadata.items() if key != "evaluations"}
    other = save_model(build_encoder("vit_tiny_patch16_224", {"depth": 2}), tmp_path / "other")
    with pytest.raises(SystemExit):
        main(["card", str(other), str(tmp_path / "out")])
    assert "is of other weights" in capsys.readouterr().err
