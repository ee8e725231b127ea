"""From a training run to a model folder."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import siammae
from siammae.training.checkpoint import CheckpointError, write_checkpoint
from siammae.training.config import TrainConfig, config_to_dict, load_config
from siammae.training.engine import build_accelerator
from siammae.training.folder import DECODER_FILE, export, load_siammae
from siammae.training.initial import build_model
from siammae.training.log import append_log
from siammae.training.model import SiamMAE, masks_for
from siammae.training.optim import WeightAverage


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    model = ["model.architecture=vit_tiny_patch16_224", "model.depth=1", "model.patch_size=8", "model.image_size=32"]
    return load_config(None, [f"output={tmp_path}/run", "steps=5", "model.decoder_depth=1", "model.future_ratio=0.75", *model])


@pytest.fixture
def model(config: TrainConfig) -> SiamMAE:
    """A model whose every weight differs from the initial ones."""
    model = build_model(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    return model.eval()


@pytest.fixture
def checkpoint(config: TrainConfig, model: SiamMAE) -> Path:
    run = Path(config.output)
    run.mkdir()
    append_log(run, {"step": 1, "loss": 1.0, "seconds": 3.0})
    append_log(run, {"step": 5, "loss": 0.5, "seconds": 60.0})
    state = {"step": 5, "config": config_to_dict(config)}
    accelerator = build_accelerator(dataclasses.replace(config, device="cpu", precision="float32"))
    accelerator.prepare(model)
    path = run / "checkpoint-0000005"
    write_checkpoint(path, state, accelerator)
    (run / "snapshots").mkdir()
    save_file(model.encoder.vit.state_dict(), run / "snapshots" / "encoder-0000003.safetensors")
    return path


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0), ("float16", 1e-3)])
def test_exported_encoder_is_loaded_by_the_library(
    checkpoint: Path, model: SiamMAE, tmp_path: Path, precision: str, tolerance: float
) -> None:
    folder = export(checkpoint, tmp_path / "tiny8", precision=precision, license="cc-by-nc-4.0", metrics={"J": 0.5})
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "loss.png", "model.safetensors"]
    encoder = siammae.load_model(str(folder), device="cpu")
    assert encoder.name == "tiny8"
    assert encoder.metadata["metrics"] == {"J": 0.5}
    assert encoder.metadata["training"]["steps"] == 5
    for key, value in model.encoder.vit.state_dict().items():
        torch.testing.assert_close(encoder.vit.state_dict()[key].float(), value, atol=tolerance, rtol=tolerance)
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16 if precision == "float16" else torch.float32}
    frames = np.zeros((1, 40, 48, 3), dtype=np.uint8)
    assert siammae.extract_features(frames, encoder, size=32, progress=False).shape[1] == 192


def test_card_tells_recipe_data_licence_and_results(checkpoint: Path, tmp_path: Path) -> None:
    folder = export(checkpoint, tmp_path / "tiny8", license="cc-by-nc-4.0", data="- films of birds", results="J .5 on birds")
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: siammae\n")
    for text in ("license: cc-by-nc-4.0", "# tiny8", "- films of birds", "J .5 on birds", "| steps | 5 |", "| minutes | 1.0 |",
                 "| future ratio | 0.75 |", "loss.png"):  # fmt: skip
        assert text in card


def test_run_folders_and_snapshots_are_sources_too(checkpoint: Path, tmp_path: Path) -> None:
    run = checkpoint.parent
    newest = export(run, tmp_path / "newest")
    assert siammae.load_model(str(newest), device="cpu").metadata["training"]["steps"] == 5
    early = export(run / "snapshots" / "encoder-0000003.safetensors", tmp_path / "early")
    assert siammae.load_model(str(early), device="cpu").metadata["training"] | {"loss": None} == {
        **siammae.load_model(str(newest), device="cpu").metadata["training"],
        "steps": 3, "past_frames": 768, "pairs": 768, "minutes": 0.1, "loss": None,
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="holds only the encoder"):
        export(run / "snapshots" / "encoder-0000003.safetensors", tmp_path / "whole", with_decoder=True)
    assert not (tmp_path / "whole").exists()


def test_average_is_what_is_exported(checkpoint: Path, model: SiamMAE, tmp_path: Path) -> None:
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.zero_()
    torch.save(average.state_dict(), checkpoint / "custom_checkpoint_0.pkl")
    stored = load_file(export(checkpoint, tmp_path / "tiny8") / "model.safetensors")
    assert all(not value.any() for value in stored.values())


def test_decoder_is_kept_where_asked(checkpoint: Path, model: SiamMAE, tmp_path: Path) -> None:
    folder = export(checkpoint, tmp_path / "whole", precision="float32", with_decoder=True)
    assert (folder / DECODER_FILE).exists()
    loaded = load_siammae(folder)
    frames = torch.randint(0, 256, (1, 2, 3, 32, 32), dtype=torch.uint8)
    masks = masks_for(model, 1, seed=0, micro_batch=0, device=torch.device("cpu"))
    torch.testing.assert_close(loaded.reconstruct(frames, masks).prediction, model.reconstruct(frames, masks).prediction)
    with pytest.raises(CheckpointError, match="has no decoder"):
        load_siammae(export(checkpoint, tmp_path / "bare"))


def test_nothing_is_overwritten_unasked(checkpoint: Path, tmp_path: Path) -> None:
    folder = export(checkpoint, tmp_path / "tiny8")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export(checkpoint, folder)
    export(checkpoint, folder, name="again", overwrite=True)
    assert siammae.load_model(str(folder), device="cpu").metadata["training"]["steps"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "tiny8"]
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds other files too"):
        export(checkpoint, folder, overwrite=True)
    assert (folder / "thesis.txt").exists()


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        export(tmp_path, tmp_path / "model")
