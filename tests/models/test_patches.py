"""Weights of one vision transformer in another: patches of another size, positions of another grid, LayerScale folded in."""

from pathlib import Path

import pytest
import torch
from foreign import checkpoint
from torch import Tensor
from torch.nn import functional as F

from siammae import Encoder, WeightsError, load_model
from siammae.cli import main
from siammae.models.build import build_encoder
from siammae.models.checkpoints import convert
from siammae.models.folder import save_model
from siammae.models.patches import (
    fit_weights,
    fold_layer_scale,
    has_fixed_positions,
    resize_projection,
    with_architecture,
    with_patch_size,
)

SCALED = {"depth": 2, "embed_dim": 48, "num_heads": 2, "patch_size": 7, "img_size": 35}


@pytest.fixture
def scaled() -> Encoder:
    """A small model of DINOv2's kind: LayerScale, learned positions; every weight random."""
    encoder = build_encoder("vit_small_patch14_dinov2", SCALED).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in encoder.vit.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return encoder


def features(encoder: Encoder, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return encoder(images)


def test_features_are_equal_after_layer_scale_is_folded_in(scaled: Encoder) -> None:
    plain = build_encoder("vit_small_patch16_224", SCALED)
    plain.vit.load_state_dict(fit_weights(scaled.vit.state_dict(), plain.vit, "scaled"))
    images = torch.randn(2, 3, 35, 42)
    assert not any(".ls" in key for key in plain.vit.state_dict())
    torch.testing.assert_close(features(plain.eval(), images), features(scaled, images), atol=1e-4, rtol=1e-4)
    without = {key: value for key, value in scaled.vit.state_dict().items() if ".ls" not in key}
    plain.vit.load_state_dict(without)
    assert not torch.allclose(features(plain, images), features(scaled, images), atol=0.1)  # LayerScale does something here


def test_features_are_equal_in_an_architecture_with_layer_scale(scaled: Encoder) -> None:
    folded = fold_layer_scale(scaled.vit.state_dict())
    other = build_encoder("vit_small_patch14_dinov2", SCALED).eval()
    other.vit.load_state_dict(fit_weights(folded, other.vit, "folded"))
    images = torch.randn(1, 3, 35, 35)
    torch.testing.assert_close(features(other, images), features(scaled, images), atol=1e-4, rtol=1e-4)


def test_another_architecture_of_the_same_size_gives_equal_features(scaled: Encoder) -> None:
    plain = with_architecture(scaled, "vit_small_patch16_224")
    images = torch.randn(1, 3, 35, 42)
    assert (plain.architecture, plain.patch_size, plain.model_args) == ("vit_small_patch16_224", 7, SCALED)
    torch.testing.assert_close(features(plain, images), features(scaled, images), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"does not fit the run's model: blocks\.0\.attn\.proj\.bias"):
        with_architecture(scaled, "vit_small_patch16_18x2_224")


@pytest.mark.parametrize("larger", [8, 12, 20])
def test_a_larger_projection_gives_the_same_for_enlarged_patches(larger: int) -> None:
    weight = torch.randn(16, 3, 4, 4, dtype=torch.float64)
    patches = torch.randn(10, 3, 4, 4, dtype=torch.float64)
    enlarged = F.interpolate(patches, (larger, larger), mode="bicubic", antialias=True)
    found = torch.einsum("dcpq,bcpq->bd", resize_projection(weight, larger).double(), enlarged)
    torch.testing.assert_close(found, torch.einsum("dcpq,bcpq->bd", weight, patches), atol=1e-4, rtol=1e-4)


def test_a_smaller_projection_is_the_least_squares_solution() -> None:
    """No other projection of 8 x 8 patches agrees better with the old one of 14 x 14 patches, for white noise."""
    weight = torch.randn(1, 1, 14, 14, dtype=torch.float64)
    basis = torch.eye(196, dtype=torch.float64).view(196, 1, 14, 14)
    smaller = F.interpolate(basis, (8, 8), mode="bicubic", antialias=True).flatten(1)  # [196, 64]
    best = torch.linalg.lstsq(smaller, weight.flatten()[:, None]).solution.flatten()
    found = resize_projection(weight, 8).double().flatten()
    error, least = ((smaller @ vector - weight.flatten()).square().sum() for vector in (found, best))
    assert error <= least * 1.001


def test_another_patch_size_keeps_grid_and_positions(scaled: Encoder) -> None:
    resized = with_patch_size(scaled, 14)
    rough = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(rough, (35, 35), mode="bicubic")
    enlarged = F.interpolate(images, (70, 70), mode="bicubic", antialias=True)
    assert (resized.patch_size, resized.vit.patch_embed.grid_size, resized.default_size) == (14, (5, 5), 420)
    assert torch.equal(resized.vit.pos_embed, scaled.vit.pos_embed)
    before, after = features(scaled, images), features(resized, enlarged)
    assert after.shape == before.shape
    assert F.cosine_similarity(before, after, dim=1).min() > 0.99  # enlarging whole pictures is not enlarging patches
    assert with_patch_size(scaled, 7) is scaled


def test_a_resized_model_is_saved_and_loaded(scaled: Encoder, tmp_path: Path) -> None:
    save_model(scaled, tmp_path / "model")
    small = load_model(tmp_path / "model", patch_size=4, device="cpu")
    again = load_model(save_model(small, tmp_path / "small"), device="cpu")
    images = torch.randn(1, 3, 20, 24)
    assert again.patch_size == 4
    assert again.metadata["resized_from"] == {"patch_size": 7}
    torch.testing.assert_close(features(again, images), features(small, images))


def test_changed_weights_do_not_keep_the_scores_of_the_original(scaled: Encoder) -> None:
    scaled.metadata = {"license": "apache-2.0", "metrics": {"loss": 0.1}, "evaluations": [{"metric": "J", "value": 0.9}]}
    for changed in (with_patch_size(scaled, 4), with_architecture(scaled, "vit_small_patch16_224")):
        assert changed.metadata["license"] == "apache-2.0"
        assert not {"metrics", "evaluations"} & set(changed.metadata)
    assert "evaluations" in scaled.metadata


def test_a_model_of_timm_takes_another_patch_size() -> None:
    encoder = load_model("timm:vit_tiny_patch16_224", pretrained=False, patch_size=8, device="cpu")
    assert (encoder.patch_size, encoder.default_size, encoder.vit.pos_embed.shape[1]) == (8, 240, 197)
    assert features(encoder, torch.randn(1, 3, 16, 24)).shape == (1, 192, 2, 3)


@pytest.mark.parametrize("wrong", [0, -8, 1000, 8.0, True])
def test_a_patch_size_that_cannot_be_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=r"patch_size is .*; expected a whole number of pixels, 1 to 256"):
        load_model("vitt8", pretrained=False, patch_size=wrong, device="cpu")


def test_a_checkpoint_is_converted_to_another_patch_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint(tmp_path / "tobo.pth", "tobo", depth=1)
    monkeypatch.setattr("sys.argv", ["siammae", "convert", str(path), "-o", str(tmp_path / "model"), "--patch-size", "8"])
    main()
    assert "patch 8" in (printed := capsys.readouterr().out)
    assert "decoder: none" in printed  # it predicts patches of 16 pixels
    wanted = with_patch_size(load_model(convert(path, tmp_path / "own"), device="cpu"), 8)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(features(load_model(tmp_path / "model", device="cpu"), images), features(wanted, images))


def test_weights_of_another_width_or_depth_are_named(scaled: Encoder) -> None:
    wide = build_encoder("vit_tiny_patch16_224", {"depth": 3})
    with pytest.raises(
        ValueError, match=r"it \(48 channels, 2 blocks\) does not fit the run's model \(192 channels, 3 blocks\)"
    ):
        fit_weights(scaled.vit.state_dict(), wide.vit, "it")


def test_weights_with_other_parts_are_named(scaled: Encoder) -> None:
    state = {key: value for key, value in scaled.vit.state_dict().items() if key != "norm.bias"}
    with pytest.raises(ValueError, match=r"it does not fit the run's model: norm\.bias differ"):
        fit_weights(state, scaled.vit, "it")
    state = {**scaled.vit.state_dict(), "pos_embed": torch.zeros(1, 18, 48)}
    with pytest.raises(ValueError, match="it has positions of 18 tokens; expected 1 and a square grid"):
        fit_weights(state, scaled.vit, "it")


def test_fixed_positions_are_told_from_learned_ones(scaled: Encoder) -> None:
    fresh = build_encoder("vit_tiny_patch16_224", {"depth": 1})
    assert has_fixed_positions(fresh)
    assert has_fixed_positions(fresh.half())
    assert not has_fixed_positions(scaled)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(WeightsError, match="no such model folder"):
        load_model("nowhere/model", patch_size=8)
