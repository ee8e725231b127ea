"""Names to encoders: the registry, folders, files, timm's models; and saving them."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from siammae import WeightsError, list_models, load_model, model_info, save_model
from siammae.encoder import Encoder
from siammae.models import as_encoder, default_device
from siammae.models.build import build_encoder


@pytest.fixture
def folder(encoder: Encoder, tmp_path: Path) -> Path:
    return save_model(encoder, tmp_path / "model")


def test_registry_lists_the_papers_sizes() -> None:
    assert {"vits16", "vits8", "vitb16", "vitl16", "vitt16", "vitt8"} <= set(list_models())
    assert list_models("vits*") == ["vits8", "vits16"]
    assert set(list_models(pretrained=True)) | set(list_models(pretrained=False)) == set(list_models())
    info = model_info("vits8")
    assert (info.patch_size, info.embed_dim, info.depth, info.num_heads) == (8, 384, 12, 6)


def test_registry_tells_the_truth() -> None:
    for name in ("vits16", "vits8", "vitt16", "vitt8", "vitt8d6"):
        info, encoder = model_info(name), load_model(name, pretrained=False, device="cpu")
        heads = encoder.vit.blocks[0].attn.num_heads
        told = (info.patch_size, info.embed_dim, info.depth, info.num_heads, info.num_parameters)
        assert told == (encoder.patch_size, encoder.embed_dim, encoder.depth, heads, encoder.num_parameters)
        assert encoder.default_size == 30 * info.patch_size


def test_initial_weights_are_the_same_each_time_and_leave_the_global_seed_alone() -> None:
    torch.manual_seed(7)
    first = load_model("vitt16", pretrained=False, device="cpu")
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), drawn)
    assert first.digest() == load_model("vitt16", pretrained=False, device="cpu").digest()
    assert not first.training
    assert first.dtype == torch.float32
    assert load_model("vitt16", pretrained=False).device.type == default_device().type


@pytest.mark.parametrize(("name", "closest"), [("vits61", "vits16"), ("vit-s8", "vits8"), ("siammae_vitb16", "vitb16")])
def test_an_unknown_name_lists_the_closest(name: str, closest: str) -> None:
    with pytest.raises(ValueError, match=f"no model is called '{name}'. Closest names: .*{closest}.*timm:NAME"):
        load_model(name)
    with pytest.raises(ValueError, match=closest):
        model_info(name)


def test_a_name_without_weights_says_what_to_do() -> None:
    for name in list_models(pretrained=False):
        with pytest.raises(WeightsError, match=f"{name} has no published weights yet.*timm:.*pretrained=False"):
            load_model(name)


@torch.inference_mode()
def test_save_and_load_are_inverse(encoder: Encoder, folder: Path) -> None:
    images = torch.randn(1, 3, 48, 64)
    for source in (folder, str(folder), folder / "model.safetensors"):
        loaded = load_model(source, device="cpu")
        assert torch.equal(loaded(images), encoder(images))
        assert (loaded.name, loaded.mean, loaded.std, loaded.default_size) == ("tiny", encoder.mean, encoder.std, 480)
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    again = save_model(load_model(folder, device="cpu"), folder.with_name("again"))
    assert json.loads((again / "config.json").read_text()) == json.loads((folder / "config.json").read_text())


def test_metadata_and_dtype_are_kept(tmp_path: Path) -> None:
    metadata = {"license": "apache-2.0", "metrics": {"J": 0.5}}
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 1, "img_size": 112}, default_size=112, metadata=metadata).half()
    saved = save_model(encoder, tmp_path / "half")
    assert {tensor.dtype for tensor in load_file(saved / "model.safetensors").values()} == {torch.float16}
    loaded = load_model(saved, dtype=torch.float16, device="cpu")
    assert loaded.digest() == encoder.digest()
    assert loaded.metadata == metadata
    assert loaded.default_size == 112
    assert loaded.vit.pos_embed.shape == (1, 50, 192)
    assert "license: apache-2.0" in (saved / "README.md").read_text()


@torch.inference_mode()
def test_timm_loads_what_we_save(encoder: Encoder, folder: Path) -> None:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert tuple(model.pretrained_cfg["mean"]) == encoder.mean
    for images in (torch.randn(1, 3, 224, 224), torch.randn(1, 3, 64, 112)):
        assert torch.equal(model.forward_features(images), encoder.vit.forward_features(images))


def test_saving_never_destroys(encoder: Encoder, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_model(encoder, folder)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            save_model(encoder, folder, overwrite=True)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]
    other = build_encoder("vit_tiny_patch16_224", {"depth": 1})
    assert load_model(save_model(other, folder, overwrite=True), device="cpu").digest() == other.digest()
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_a_folder_that_holds_more_than_a_model_is_never_overwritten(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds other files too"):
        save_model(encoder, tmp_path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "change", [{"architecture": "resnet18"}, {"architecture": None}, {"pretrained_cfg": None}, {"siammae": None}]
)
def test_configs_that_describe_no_model(folder: Path, change: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(WeightsError, match=r"config.json describes no model that can be built"):
        load_model(folder)


def test_devices_and_types_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="device 'gpu' cannot be used here"):
        load_model("vitt16", pretrained=False, device="gpu")
    with pytest.raises(ValueError, match=r"dtype is 'float16'; expected a floating torch.dtype"):
        load_model("vitt16", pretrained=False, dtype="float16")
    with pytest.raises(ValueError, match="the model is a NoneType"):
        as_encoder(None)


def test_keys_that_do_not_fit_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    state = load_file(file)
    state["extra.weight"] = state.pop("norm.weight")
    state["norm.bias"] = torch.zeros(7)
    save_file(state, file)
    message = r"norm.weight is missing; extra.weight is unexpected; norm.bias is \[7\] instead of \[192\]"
    with pytest.raises(WeightsError, match=message):
        load_model(folder)


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    for source in (folder, file):
        with pytest.raises(WeightsError, match=r"model.safetensors is damaged or no safetensors file"):
            load_model(source)
    file.unlink()
    with pytest.raises(WeightsError, match=r"no such file: .*model.safetensors"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config.json is not JSON"):
        load_model(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"config.json lacks the key 'pretrained_cfg'"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"is no model folder: it has no config.json"):
        load_model(folder)
    with pytest.raises(WeightsError, match=r"no such model folder or .safetensors file"):
        load_model(tmp_path / "missing")
    with pytest.raises(WeightsError, match=r"no such model folder or .safetensors file: missing.safetensors"):
        load_model("missing.safetensors")


def test_a_lone_file_without_config_says_what_to_load(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file(load_file(file), file)
    assert load_model(folder, device="cpu").patch_size == 16
    with pytest.raises(WeightsError, match="does not say what model it holds; load its folder"):
        load_model(file)


@torch.inference_mode()
def test_timms_vision_transformers_by_name() -> None:
    encoder = load_model("timm:vit_tiny_patch16_224", pretrained=False, device="cpu")
    assert encoder.name == "timm:vit_tiny_patch16_224"
    assert encoder.mean == (0.5, 0.5, 0.5)  # timm's own for this model
    assert encoder(torch.zeros(1, 3, 32, 48)).shape == (1, 192, 2, 3)
    registers = load_model("timm:vit_small_patch14_reg4_dinov2", pretrained=False, device="cpu")
    assert (registers.patch_size, registers.default_size) == (14, 420)
    assert registers(torch.zeros(1, 3, 28, 42)).shape == (1, 384, 2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_tinny_patch16_224", "timm has no model 'vit_tinny_patch16_224'. Closest names: .*vit_tiny_patch16_224"),
        ("timm:vit_tiny_patch16_224.nonsense", "timm has no pretrained weights called 'vit_tiny_patch16_224.nonsense'"),
        ("timm:resnet18", "timm:resnet18 cannot be an encoder"),
        ("timm:vit_tiny_r_s16_p8_224", "an Encoder needs one of timm's plain vision transformers"),
    ],
)
def test_timm_names_that_cannot_be(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(name, pretrained="nonsense" in name)


def test_timm_weights_that_cannot_be_fetched() -> None:
    with pytest.raises(WeightsError, match="the weights of timm:vit_tiny_patch16_224 could not be fetched"):
        load_model("timm:vit_tiny_patch16_224")
