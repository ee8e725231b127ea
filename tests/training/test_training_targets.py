"""Feature targets: the teacher's features of the same crops, their statistics, the loss, and runs that learn them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from siammae import Encoder, WeightsError, load_model, save_model
from siammae.files import save_tensors
from siammae.models.build import build_encoder
from siammae.training.config import OptimConfig, TrainConfig, config_from_dict
from siammae.training.folder import export, load_siammae
from siammae.training.initial import build_model, start_from
from siammae.training.log import read_log
from siammae.training.loop import Run, train
from siammae.training.model import masks_for
from siammae.training.model_config import ModelConfig
from siammae.training.optim import build_optimizer
from siammae.training.targets import Standardizer, cosine_loss
from siammae.training.teacher import Teacher, fit

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = {
    "architecture": "vit_tiny_patch16_224", "depth": 1, "patch_size": 8, "image_size": 32,
    "decoder_depth": 1, "decoder_width": 64, "decoder_heads": 2, "future_ratio": 0.75,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of another architecture, width, patch and mean, with random weights."""
    args = {"depth": 2, "embed_dim": 24, "num_heads": 2, "patch_size": 7, "img_size": 28}
    encoder = build_encoder("vit_small_patch14_dinov2", args, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), name="small")
    generator = torch.Generator().manual_seed(3)
    for parameter in encoder.vit.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return save_model(encoder, tmp_path_factory.mktemp("teacher") / "model")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four folders of eight frames in which a texture moves."""
    root = tmp_path_factory.mktemp("frames")
    for number in range(4):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC))
        (root / f"clip{number}").mkdir()
        for k in range(8):
            Image.fromarray(np.roll(picture, 2 * k, axis=1)).save(root / f"clip{number}" / f"{k:02d}.png")
    return root


@pytest.fixture
def config(frames: Path, folder: Path, tmp_path: Path) -> TrainConfig:
    return config_from_dict(
        {
            "output": str(tmp_path / "run"),
            "model": MODEL | {"target": "features", "teacher": str(folder), "past_weight": 0.5},
            "data": {"path": str(frames), "kind": "frames", "fps": 10, "gap": [0.1, 0.5], "workers": 0},
            "optim": {"base_lr": 0.05},
            "batch_size": 8, "steps": 6, "precision": "float32", "device": "cpu", "log_every": 1, "checkpoint_every": 3,
        }
    )  # fmt: skip


def teacher(folder: Path, **changes: Any) -> Teacher:
    return Teacher(load_model(folder, device="cpu"), **({"layer": -1, "size": None, "grid": 4} | changes))


def test_teacher_features_are_those_of_the_same_crops_at_its_own_size(folder: Path) -> None:
    crops = torch.randint(256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    found = teacher(folder)(crops)
    assert found.shape == (2, 3, 16, 24)
    encoder = load_model(folder, device="cpu")
    resized = F.interpolate(crops[1].float(), (28, 28), mode="bilinear", antialias=True).round().clamp(0, 255) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    with torch.inference_mode():
        wanted = encoder((resized - mean) / std).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found[1], wanted, atol=1e-5, rtol=1e-5)


def test_a_teacher_of_a_finer_grid_is_averaged_over_each_patch(folder: Path) -> None:
    crops = torch.randint(256, (1, 1, 3, 32, 32), dtype=torch.uint8)
    fine = teacher(folder, grid=8)(crops).view(4, 2, 4, 2, 24)  # rows, columns of 8 x 8 patches in pairs
    pooled = teacher(folder, size=56)(crops)
    torch.testing.assert_close(pooled[0, 0].view(4, 4, 24), fine.mean(dim=(1, 3)), atol=1e-5, rtol=1e-5)


def test_a_layer_of_the_teacher_can_be_asked_for(folder: Path) -> None:
    crops = torch.randint(256, (1, 2, 3, 32, 32), dtype=torch.uint8)
    assert not teacher(folder, layer=0)(crops).allclose(teacher(folder)(crops), atol=0.1)


def test_crops_of_the_right_size_are_left_alone() -> None:
    crops = torch.randint(256, (2, 2, 3, 16, 16), dtype=torch.uint8)
    assert fit(crops, 16) is crops
    assert fit(crops, 8).shape == (2, 2, 3, 8, 8)
    assert fit(torch.full((1, 1, 3, 16, 16), 77, dtype=torch.uint8), 10).eq(77).all()


@pytest.mark.parametrize("kind", ["mean", "deviation"])
def test_standardized_features_have_the_corpus_mean_and_deviation(kind: str) -> None:
    features = torch.randn(6, 50, 8) * torch.linspace(0.1, 4, 8) + torch.linspace(-3, 3, 8)
    standardizer = Standardizer(8, kind)
    standardizer.estimate(features)
    found = standardizer(features).flatten(0, 1)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)
    wanted = torch.ones(8) if kind == "deviation" else features.flatten(0, 1).std(dim=0)
    torch.testing.assert_close(found.std(dim=0), wanted, atol=1e-4, rtol=1e-4)


def test_principal_components_keep_what_varies_most() -> None:
    """Of features that lie in a plane, two components keep all angles."""
    plane = torch.linalg.qr(torch.randn(10, 2))[0].T
    features = torch.randn(200, 2) @ plane * 3 + 5
    standardizer = Standardizer(10, "mean", channels=2)
    standardizer.estimate(features)
    found, centered = standardizer(features), features - features.mean(dim=0)
    assert found.shape == (200, 2)
    torch.testing.assert_close(found @ found.T, centered @ centered.T, atol=1e-3, rtol=1e-3)


def test_moving_statistics_reach_those_of_the_features() -> None:
    features = torch.randn(1000, 4) * torch.tensor([1.0, 2, 3, 4]) + 7
    standardizer = Standardizer(4, "deviation")
    for _ in range(60):
        standardizer.move(features.mean(dim=0), features.square().mean(dim=0), rate=0.2)
    torch.testing.assert_close(standardizer.mean, features.mean(dim=0), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(standardizer.deviation, features.std(dim=0), atol=1e-2, rtol=1e-2)


def test_the_loss_is_one_minus_cosine() -> None:
    a, b = torch.randn(3, 5, 7), torch.randn(3, 5, 7)
    cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    torch.testing.assert_close(cosine_loss(a, b), 1 - cosine.mean())
    assert cosine_loss(a, 3 * a).abs() < 1e-6


def test_only_masked_patches_of_the_future_and_visible_ones_of_the_past_count() -> None:
    config = ModelConfig(**MODEL | {"target": "features", "teacher": "x", "past_weight": 1.0, "past_ratio": 0.5, "futures": 2})
    model = build_model(config, teacher_width=24)
    crops = torch.randint(256, (3, 3, 3, 32, 32), dtype=torch.uint8)
    masks = masks_for(model, 3, seed=0, micro_batch=0, device=torch.device("cpu"))
    features = torch.randn(3, 3, 16, 24)
    loss = model(crops, masks, features)
    hidden = features.clone()
    for b in range(3):
        hidden[b, 0, masks.past.masked[b]] = 99.0
        for t in range(2):
            hidden[b, 1 + t, masks.future.visible[2 * b + t]] = 99.0
    torch.testing.assert_close(model(crops, masks, hidden), loss)
    assert set(model.terms) == {"future", "past"}
    torch.testing.assert_close(model.terms["future"] + model.terms["past"], loss.detach())
    hidden[0, 1, masks.future.masked[0]] = 99.0
    assert not torch.allclose(model(crops, masks, hidden), loss)


def test_a_student_that_is_its_teacher_has_no_loss_in_the_past(tmp_path: Path) -> None:
    """Its own visible tokens are the teacher's, standardised alike."""
    config = ModelConfig(**MODEL | {"target": "features", "teacher": "x", "past_weight": 1.0})
    model = build_model(config)
    crops = torch.randint(256, (2, 2, 3, 32, 32), dtype=torch.uint8)
    features = Teacher(model.encoder, layer=-1, size=None, grid=4)(crops)
    assert model.standardizer is not None
    model.standardizer.estimate(features)
    model(crops, masks_for(model, 2, seed=0, micro_batch=0, device=torch.device("cpu")), features)
    assert model.terms["past"] < 1e-5


def test_features_must_come_with_the_batch(config: TrainConfig) -> None:
    model = build_model(config.model, teacher_width=24)
    crops = torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8)
    masks = masks_for(model, 1, seed=0, micro_batch=0, device=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"model\.target is features; forward needs the teacher's features"):
        model(crops, masks)
    with pytest.raises(ValueError, match=r"model\.target is features; only models of pixels reconstruct pictures"):
        model.reconstruct(crops, masks)


# --- runs


@pytest.mark.parametrize("target", ["features", "ema"])
def test_a_run_resumes_exactly(config: TrainConfig, tmp_path: Path, target: Any) -> None:
    """Statistics and the teacher's average come back with the checkpoint; the first crops are not measured again."""
    if target == "ema":
        model = dataclasses.replace(config.model, target="ema", teacher="")
        config = dataclasses.replace(config, model=model, optim=dataclasses.replace(config.optim, ema=0.9))
    whole = load_file(train(config) / "model.safetensors")
    halves = tmp_path / "halves"
    halves.mkdir()
    (Path(config.output) / "checkpoint-0000003").rename(halves / "checkpoint-0000003")
    resumed = load_file(train(dataclasses.replace(config, output=str(halves))) / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(whole[key].equal(resumed[key]) for key in whole)
    assert whole["standardizer.deviation"].ne(1).all()


def test_the_loss_falls_below_that_of_a_constant_prediction(config: TrainConfig) -> None:
    """Standardised features have no mean, so one answer for all patches has a loss of about 1."""
    config = dataclasses.replace(config, steps=40, batch_size=16, optim=OptimConfig(base_lr=0.03))
    train(config)
    losses = [entry["loss_future"] for entry in read_log(Path(config.output))]
    assert losses[0] > 0.8
    assert np.mean(losses[-5:]) < 0.85
    assert read_log(Path(config.output))[-1]["loss_past"] < read_log(Path(config.output))[0]["loss_past"]


def test_the_teacher_of_ema_is_the_average_of_the_weights(config: TrainConfig) -> None:
    model = dataclasses.replace(config.model, target="ema", teacher="")
    run = Run(dataclasses.replace(config, model=model, optim=dataclasses.replace(config.optim, ema=0.9)))
    run.run()
    assert run.teacher is not None
    assert run.average is not None
    moved = 0
    for name, parameter in run.teacher.encoder.vit.named_parameters():
        assert parameter.equal(run.average.module.state_dict()[f"encoder.vit.{name}"])
        moved += not parameter.equal(run.raw_model.encoder.vit.state_dict()[name])
    assert moved > 10


def test_components_as_wide_as_the_student_need_no_head(config: TrainConfig) -> None:
    assert isinstance(build_model(config.model, teacher_width=24).past_head, torch.nn.Linear)
    model = dataclasses.replace(config.model, teacher_channels=192)
    wide = build_model(model, teacher_width=384)
    assert isinstance(wide.past_head, torch.nn.Identity)
    assert wide.decoder_pred.out_features == 192
    with pytest.raises(ValueError, match=r"model\.teacher_channels is 192; the teacher has 24 channels"):
        Run(dataclasses.replace(config, model=model))


def test_an_export_keeps_statistics_and_the_start(config: TrainConfig, folder: Path, tmp_path: Path) -> None:
    """A model that goes on from another keeps its mean and deviation of colors and its grid of positions."""
    model = dataclasses.replace(config.model, architecture="vit_small_patch14_dinov2")
    start = build_encoder("vit_small_patch14_dinov2", {"depth": 1, "patch_size": 4, "img_size": 24}, mean=(0.5, 0.4, 0.3))
    start.vit.pos_embed.data.normal_()
    save_model(start, tmp_path / "start")
    checkpoint = train(dataclasses.replace(config, model=model, init=str(tmp_path / "start")))
    made = export(checkpoint, tmp_path / "model", with_decoder=True, precision="float32")
    encoder = load_model(made, device="cpu")
    assert (encoder.mean, encoder.patch_size, encoder.vit.patch_embed.grid_size) == ((0.5, 0.4, 0.3), 8, (6, 6))
    whole, stored = load_siammae(made), load_file(checkpoint / "model.safetensors")
    assert all(value.equal(stored[key]) for key, value in whole.state_dict().items())
    training = encoder.metadata["training"]
    assert (training["init"], training["model"]["teacher"]) == ("start", "model")  # folders of this machine mean nothing there
    assert training["method"].endswith("with a teacher's features as the target")
    origin = {"base_model": "owner/base", "changes": "Made smaller."}
    plain = export(checkpoint, tmp_path / "plain", precision="float32", architecture="vit_small_patch8_224", **origin)
    card = (plain / "README.md").read_text()
    assert "\nbase_model: owner/base\n" in card
    assert "Made smaller." in card
    assert str(tmp_path) not in card
    images = torch.randn(1, 3, 32, 40)
    folded = load_model(plain, device="cpu")
    assert folded.architecture == "vit_small_patch8_224"
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), encoder(images), atol=1e-4, rtol=1e-4)


# --- where a run starts


def test_a_run_starts_from_a_model_of_another_patch_size(tmp_path: Path) -> None:
    config = ModelConfig(**MODEL | {"architecture": "vit_small_patch14_dinov2", "depth": 2})
    args = {"depth": 2, "patch_size": 14, "img_size": 70}
    source = build_encoder("vit_small_patch14_dinov2", args)
    source.vit.pos_embed.data.normal_()
    save_tensors(tmp_path / "plain.safetensors", {key: value.half() for key, value in source.vit.state_dict().items()})
    encoder = start_from(config, str(tmp_path / "plain.safetensors"))
    assert (encoder.patch_size, encoder.vit.patch_embed.grid_size) == (8, (5, 5))
    model = build_model(config, encoder=encoder)
    crops = torch.randint(256, (1, 2, 3, 32, 32), dtype=torch.uint8)
    tokens = model.encoder.encode(model._embed(model.normalize(crops[:, 0]), torch.arange(16)[None]))
    wanted = encoder(model.normalize(crops[:, 0])).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens[:, 1:], wanted, atol=1e-4, rtol=1e-4)  # timm resamples the positions alike


def test_fixed_positions_become_those_of_the_crops(tmp_path: Path) -> None:
    source = build_encoder("vit_tiny_patch16_224", {"depth": 1, "patch_size": 8, "img_size": 64})
    encoder = start_from(ModelConfig(**MODEL), str(save_model(source, tmp_path / "model")))
    assert encoder.vit.pos_embed.equal(build_model(ModelConfig(**MODEL)).encoder.vit.pos_embed)


# --- errors


def bad_run(config: TrainConfig, **changes: Any) -> TrainConfig:
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, **changes), data=dataclasses.replace(config.data, path="nowhere")
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_layer": 2}, "model.teacher_layer is 2; the teacher small has 2 blocks: -2 to 1"),
        (
            {"teacher_size": 32},
            "model.teacher_size is 32; .* 7 pixels and the crops 4 x 4 patches, so expected 28 or a multiple",
        ),
        ({"teacher": "nowhere/at/all"}, "no such model folder or .safetensors file: nowhere/at/all"),
        ({"teacher": "vits16"}, "vits16 has no published weights yet"),
    ],
)
def test_a_teacher_that_cannot_work_is_refused_before_data_is_read(config: TrainConfig, changes: Any, message: str) -> None:
    with pytest.raises((ValueError, WeightsError), match=message):
        Run(bad_run(config, **changes))


def test_an_init_of_another_width_names_both_before_data_is_read(config: TrainConfig, folder: Path) -> None:
    wrong = r"init .*model \(24 channels, 2 blocks\) does not fit the run's model \(192 channels, 1 blocks\)"
    with pytest.raises(ValueError, match=wrong):
        Run(dataclasses.replace(bad_run(config), init=str(folder)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "features"}, "model.teacher is '' and model.target features; features need a teacher"),
        ({"target": "ema", "teacher": "vits8"}, "model.teacher is 'vits8' and model.target ema"),
        ({"target": "pixels", "past_weight": 1.0}, "are for model.target=features or ema, not pixels"),
        ({"target": "normalized", "teacher_size": 224}, "are for model.target=features or ema, not normalized"),
        ({"target": "ema", "teacher_channels": 3}, "model.teacher_channels are components of a teacher's features"),
        ({"target": "ema", "past_weight": -1.0}, "model.past_weight is -1; expected 0 or more"),
        ({"target": "ema", "teacher_norm": "all"}, "model.teacher_norm is 'all'; expected mean or deviation"),
        ({"target": "ema", "teacher_size": 0}, "model.teacher_size is 0; expected pixels"),
    ],
)
def test_settings_that_do_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)


def test_ema_needs_an_average() -> None:
    with pytest.raises(
        ValueError, match=r"model\.target=ema takes its features from the average of the weights: set optim\.ema"
    ):
        TrainConfig(output="x", steps=1, model=ModelConfig(target="ema"))


# --- rates


def test_early_blocks_of_the_encoder_have_lower_rates() -> None:
    model = build_model(ModelConfig(**MODEL | {"depth": 3}))
    optimizer = build_optimizer(model, OptimConfig(encoder_lr=0.1, layer_decay=0.5))
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    of = {name: scales[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in scales}
    assert of["decoder_pred.weight"] == of["mask_token"] == 1
    assert of["encoder.vit.norm.weight"] == of["encoder.vit.blocks.2.mlp.fc1.weight"] == pytest.approx(0.1)
    assert of["encoder.vit.blocks.0.attn.qkv.bias"] == pytest.approx(0.025)
    assert of["encoder.vit.patch_embed.proj.weight"] == of["encoder.vit.cls_token"] == pytest.approx(0.0125)
    assert len(of) == sum(parameter.requires_grad for parameter in model.parameters())


def test_a_step_moves_weights_by_their_own_rate(config: TrainConfig) -> None:
    """AdamW's first step is the rate itself, whatever the gradient."""
    optim = OptimConfig(base_lr=0.032, encoder_lr=0.1, weight_decay=0.0, warmup=0.0)
    run = Run(dataclasses.replace(config, steps=1, optim=optim))
    before = {name: parameter.detach().clone() for name, parameter in run.raw_model.named_parameters()}
    run.run()
    steps = {
        name: float((parameter.detach() - before[name]).abs().max()) for name, parameter in run.raw_model.named_parameters()
    }
    assert steps["decoder_pred.bias"] == pytest.approx(1e-3, rel=1e-2)
    assert steps["encoder.vit.norm.bias"] == pytest.approx(1e-4, rel=1e-2)


def test_rates_beyond_the_runs_own_are_refused() -> None:
    with pytest.raises(ValueError, match=r"optim.encoder_lr is 2 and optim.layer_decay 1; expected above 0, to 1"):
        OptimConfig(encoder_lr=2.0)


def test_a_student_of_pixels_has_no_teacher(config: TrainConfig) -> None:
    model = ModelConfig(**MODEL)
    run = Run(dataclasses.replace(config, model=model))
    assert run.teacher is None
    assert isinstance(run.raw_model.encoder, Encoder)
    assert run.raw_model.decoder_pred.out_features == 3 * 8 * 8
