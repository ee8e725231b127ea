"""Encoder: shapes, positions, layers, attention, the fast product, and features of whole videos."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from siammae import Geometry, extract_features, load_model, model_info, propagate_labels, save_model
from siammae.encoder import Encoder
from siammae.features import preprocess
from siammae.models.build import build_encoder, import_timm, sincos_positions
from siammae.ops.matmul import _OneDnnLinear

SIZES = {
    "vits16": (21_665_664, 21_590_016),
    "vits8": (21_894_912, 21_368_832),
    "vitb16": (85_798_656, 85_647_360),
    "vitl16": (303_301_632, 303_099_904),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts_are_the_papers(name: str) -> None:
    info = model_info(name)
    encoder = build_encoder(info.architecture, info.model_args, initial_weights=False, device="meta")  # no numbers are drawn
    positions = encoder.vit.pos_embed.numel()
    assert (encoder.num_parameters, encoder.num_parameters - positions) == SIZES[name]
    assert info.num_parameters == encoder.num_parameters
    assert {m.eps for m in encoder.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_positions_follow_the_formula() -> None:
    table = sincos_positions(3, 5, 8)
    row, column = 2, 4
    expected = [f(position * 10000 ** (-i / 2)) for position in (column, row) for f in (math.sin, math.cos) for i in range(2)]
    assert torch.allclose(table[row * 5 + column], torch.tensor(expected))


def test_positions_are_fixed_and_cls_has_none(encoder: Encoder) -> None:
    assert not encoder.vit.pos_embed.requires_grad
    assert torch.equal(encoder.vit.pos_embed[0, 1:], sincos_positions(14, 14, 192))
    assert encoder.vit.pos_embed[0, 0].eq(0).all()


@torch.inference_mode()
def test_features_are_timms_tokens(encoder: Encoder) -> None:
    images = torch.randn(2, 3, 64, 112)
    tokens = encoder.vit.forward_features(images)
    features = encoder(images)
    assert features.shape == (2, 192, 4, 7)
    assert features.stride(1) == 1  # channels last: the propagation reads them without a copy
    assert torch.allclose(features.flatten(2).transpose(1, 2), tokens[:, 1:], atol=1e-5)
    assert torch.allclose(encoder.cls(images), tokens[:, 0], atol=1e-5)


@torch.inference_mode()
def test_layers(encoder: Encoder) -> None:
    images = torch.randn(1, 3, 32, 32)
    last = encoder(images, layer=1)
    normed = encoder.vit.norm(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert torch.allclose(encoder(images), normed, atol=1e-5)
    assert torch.equal(encoder(images, layer=-2), encoder(images, layer=0))
    assert not torch.allclose(encoder(images, layer=0), last)
    with pytest.raises(ValueError, match="layer is 2; tiny has 2 blocks: -2 to 1"):
        encoder(images, layer=2)


@torch.inference_mode()
def test_attention_is_what_the_block_uses(encoder: Encoder) -> None:
    images = torch.randn(2, 3, 48, 64)
    maps = encoder.attention(images)
    assert maps.shape == (2, 3, 3, 4)
    block = encoder.vit.blocks[-1]
    tokens = encoder.vit._pos_embed(encoder.vit.patch_embed(images))
    normed = block.norm1(encoder.vit.blocks[0](encoder.vit.norm_pre(tokens)))
    block.attn.fused_attn = False
    kept = []
    hook = block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output))
    block.attn(normed)
    hook.remove()
    block.attn.fused_attn = True
    assert torch.allclose(maps.flatten(2), kept[0][:, :, 0, 1:], atol=1e-5)


@torch.inference_mode()
def test_attention_of_the_first_block_and_of_models_without_cls(encoder: Encoder) -> None:
    maps = encoder.attention(torch.randn(1, 3, 32, 32), layer=0)
    assert maps.shape == (1, 3, 2, 2)
    assert 0 < maps.sum(dim=(2, 3)).max() < 1
    no_cls = load_model("timm:vit_medium_patch16_gap_240", pretrained=False, device="cpu")
    assert no_cls(torch.zeros(2, 3, 32, 48)).shape == (2, 512, 2, 3)
    with pytest.raises(ValueError, match="has no CLS token"):
        no_cls.attention(torch.zeros(1, 3, 32, 48))


def test_maps_of_several_threads_do_not_mix(encoder: Encoder) -> None:
    images = [torch.randn(1, 3, 32, 32) for _ in range(8)]
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        alone = [encoder.attention(image) for image in images]
        together = list(pool.map(torch.no_grad()(encoder.attention), images))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 40, 32), "40 x 32 pixels; both sides must be multiples of the patch size 16"),
        ((3, 32, 32), r"\[3, 32, 32\]; expected \[B, 3, H, W\]"),
        ((1, 4, 32, 32), r"expected \[B, 3, H, W\]"),
    ],
)
def test_images_that_do_not_fit(encoder: Encoder, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_close(encoder: Encoder, dtype: torch.dtype) -> None:
    half = build_encoder("vit_tiny_patch16_224", {"depth": 2}).to(dtype).eval()
    images = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        features, exact = half(images), encoder(images)
    assert features.dtype == dtype
    assert F.cosine_similarity(features.float(), exact, dim=1).min() > 0.999


def test_gradients_flow_through_the_encoder(encoder: Encoder) -> None:
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    with _OneDnnLinear():
        encoder(images)[:, 0].sum().backward()  # one channel: the sum of all is a constant after the LayerNorm
    assert images.grad is not None
    assert images.grad.abs().max() > 1e-4


def test_a_broken_timm_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "timm":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(
        ImportError, match=rf"torch {torch.__version__.split('+')[0]}.*nms.*pip install --upgrade torch torchvision"
    ):
        import_timm()
    monkeypatch.undo()
    assert import_timm() is timm


@settings(deadline=None)
@given(
    frame=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    size=st.integers(16, 600),
    x=st.floats(-50, 2050),
    y=st.floats(-9, 9),
)
@example(frame=(1, 246), size=600, x=0.0, y=0.0)
def test_geometry_there_and_back(encoder: Encoder, frame: tuple[int, int], size: int, x: float, y: float) -> None:
    assume(size**2 * max(frame) / min(frame) < 0.9 * Image.MAX_IMAGE_PIXELS)
    shape = Geometry.of(frame, encoder, size)
    assert shape.input == (shape.grid[0] * 16, shape.grid[1] * 16)
    points = torch.tensor([[x, y]], dtype=torch.float64)
    assert torch.allclose(shape.to_frame(shape.to_grid(points)), points, rtol=0, atol=1e-9)
    height, width = frame
    corners = torch.tensor([[-0.5, -0.5], [width - 0.5, height - 0.5]], dtype=torch.float64)
    expected = torch.tensor([[-0.5, -0.5], [shape.grid[1] - 0.5, shape.grid[0] - 0.5]], dtype=torch.float64)
    assert torch.allclose(shape.to_grid(corners), expected, rtol=0, atol=1e-9)
    assert torch.allclose(shape.to_grid(corners.float()), expected.float(), rtol=1e-6)


def test_inner_blocks_are_given_before_the_final_layernorm(encoder: Encoder) -> None:
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    vit = encoder.vit
    with torch.no_grad():
        tokens = encoder.embed(images)
        for index, block in enumerate(vit.blocks):
            tokens = block(tokens)
            expected = tokens if index < encoder.depth - 1 else vit.norm(tokens)
            for layer in {index, index - encoder.depth} - {encoder.depth - 1}:
                features = encoder(images, layer=layer)
                assert torch.allclose(features.flatten(2).transpose(1, 2), expected[:, 1:], atol=1e-5)
        last = encoder(images, layer=encoder.depth - 1)  # by its own number: without the final LayerNorm
        assert torch.allclose(last.flatten(2).transpose(1, 2), tokens[:, 1:], atol=1e-5)


def test_size_is_the_shorter_side(encoder: Encoder) -> None:
    assert Geometry.of((480, 854), encoder, 240) == Geometry((480, 854), (240, 432), (15, 27))
    assert Geometry.of((854, 480), encoder, 240).input == (432, 240)
    assert Geometry.of((480, 854), encoder).input == (480, 848)
    assert Geometry.of((480, 854), encoder, (480, 832)).grid == (30, 52)


@pytest.mark.parametrize("size", [15, 0, -4, (480, 850), (0, 16), "480", 480.0, (480,) * 3])
def test_sizes_that_hold_no_whole_patches(encoder: Encoder, size: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"size is .*(patch|expected a whole number of pixels)"):
        Geometry.of((480, 854), encoder, size)


def test_preprocess_normalizes_and_resizes(encoder: Encoder) -> None:
    white = torch.full((1, 3, 20, 30), 255, dtype=torch.uint8)
    images = preprocess(white, encoder, (32, 48))
    assert images.shape == (1, 3, 32, 48)
    expected = (1 - torch.tensor(encoder.mean)) / torch.tensor(encoder.std)
    assert torch.allclose(images.mean(dim=(0, 2, 3)), expected, atol=1e-5)
    assert torch.allclose(preprocess(white.float() / 255, encoder, (32, 48)), images, atol=1e-5)


def test_extract_features_of_a_video(encoder: Encoder) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)
    features = extract_features(frames, encoder, size=32, batch_size=2)
    assert features.shape == (5, 192, 2, 3)
    assert torch.allclose(features, extract_features(iter(frames), encoder, size=32, batch_size=5), atol=1e-5)
    torch.nn.Linear(192, 1)(features.movedim(1, -1)).sum().backward()  # features can be trained upon
    unit = extract_features(frames, encoder, size=32, normalize=True)
    assert torch.allclose(unit.norm(dim=1), torch.ones(5, 2, 3), atol=1e-5)
    assert not torch.allclose(extract_features(frames, encoder, size=32, layer=0), features)
    mixed = [frames[0], torch.from_numpy(frames[1]).permute(2, 0, 1) / 255, *frames[2:]]
    assert torch.allclose(extract_features(mixed, encoder, size=32, batch_size=5), features, atol=1e-5)
    with pytest.raises(ValueError, match="batch_size is 0"):
        extract_features(frames, encoder, batch_size=0)


def test_embed_and_encode_make_up_forward(encoder: Encoder) -> None:
    images = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = encoder.encode(encoder.embed(images))
        expected = encoder(images)
    prefix = encoder.vit.num_prefix_tokens
    assert tokens.shape == (2, prefix + 12, encoder.embed_dim)
    torch.testing.assert_close(tokens[:, prefix:], expected.flatten(2).transpose(1, 2))
    with pytest.raises(ValueError, match="multiples of the patch size 16"):
        encoder.embed(images[..., :40])


def test_a_timm_model_is_taken_wherever_a_model_is(tmp_path: Path) -> None:
    vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=7).eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vit.forward_features(images)[:, 1:]
        encoder = Encoder.from_timm(vit)
        assert torch.allclose(encoder(images).flatten(2).transpose(1, 2), expected, atol=1e-4)
        assert encoder(images[..., :96, :128]).shape == (2, 192, 6, 8)
        assert torch.equal(vit.forward_features(images)[:, 1:], expected)  # the model itself is as it was
        assert vit(images).shape == (2, 7)
    assert encoder.vit.blocks[0].mlp.fc1.weight is vit.blocks[0].mlp.fc1.weight
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    assert torch.equal(extract_features(frames, vit, size=64), extract_features(frames, encoder, size=64))
    assert np.array_equal(propagate_labels(frames, mask, vit, size=64), propagate_labels(frames, mask, encoder, size=64))
    again = load_model(save_model(encoder, tmp_path / "model"), device="cpu")
    assert torch.equal(again(images), encoder(images))
    with pytest.raises(ValueError, match="the model is a ResNet; expected one of timm's plain vision transformers"):
        extract_features(frames, timm.create_model("resnet18"))
    with pytest.raises(ValueError, match="the model is a int; expected an Encoder, one of timm's vision transformers"):
        extract_features(frames, 3)  # type: ignore[arg-type]


@torch.no_grad()
def test_preprocess_makes_what_the_model_takes(encoder: Encoder) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    images = encoder.preprocess(frames, size=32)
    assert torch.equal(images, preprocess(torch.from_numpy(frames).permute(0, 3, 1, 2), encoder, (32, 48)))
    assert torch.equal(encoder.preprocess(list(map(Image.fromarray, frames)), size=(32, 48)), images)
    assert torch.equal(encoder.preprocess(Image.fromarray(frames[0]), size=32), images[:1])
    features = encoder.layers(images, [1, 0, -1])
    assert [type(features), len(features)] == [list, 3]
    assert all(
        torch.allclose(each, encoder(images, layer=layer), atol=1e-5) for each, layer in zip(features, (1, 0, -1), strict=True)
    )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "images hold torch.uint8; expected normalised floats: model.preprocess"),
        (torch.full((1, 3, 32, 32), 255.0), "values up to 255, so they are not normalised: model.preprocess"),
        (np.zeros((1, 3, 32, 32), np.float32), "images are a ndarray; expected a tensor"),
        (Image.new("RGB", (32, 32)), "images are a Image; expected a tensor"),
    ],
)
def test_images_that_are_not_prepared_are_refused_with_the_remedy(encoder: Encoder, images: Any, message: str) -> None:
    for call in (encoder, encoder.cls, encoder.attention, encoder.embed):
        with pytest.raises(ValueError, match=message):
            call(images)


@pytest.mark.parametrize("layer", [1.0, "1", True, None, [0, 1]])
def test_a_layer_is_a_number(encoder: Encoder, layer: Any) -> None:
    with pytest.raises(ValueError, match=r"expected the number of a block|has 2 blocks"):
        encoder(torch.zeros(1, 3, 32, 32), layer=layer)
