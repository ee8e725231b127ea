"""bfloat16 and OpenVINO: features stay the same, and everything else stays with torch and says so."""

import copy
import pickle
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import siammae.encoder
from siammae import load_model
from siammae.encoder import Encoder
from siammae.models import load, openvino
from siammae.models.build import build_encoder
from siammae.models.openvino import OpenVino
from siammae.ops.matmul import bfloat16_products

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIAMMAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny() -> Encoder:
    return build_encoder("vit_tiny_patch16_224", {"depth": 2}, name="tiny").eval()


def images(*size: int) -> Tensor:
    return torch.randn(*size[:-2], 3, *size[-2:], generator=torch.Generator().manual_seed(0))


def least_cosine(found: Tensor, expected: Tensor) -> float:
    return float(F.cosine_similarity(found.double(), expected.double(), dim=1).min())


@torch.inference_mode()
def test_bfloat16_products_keep_float32_features(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siammae.encoder, "bfloat16_is_faster", lambda: True)
    exact = tiny(images(2, 48, 64))
    assert tiny.multiplies == torch.float32
    tiny.precision = "auto"
    assert tiny.multiplies == torch.bfloat16
    found = tiny(images(2, 48, 64))
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert least_cosine(found, exact) > 0.9999
    assert torch.equal(tiny.exact()(images(2, 48, 64)), exact)
    monkeypatch.setattr(siammae.encoder, "bfloat16_is_faster", lambda: False)
    assert torch.equal(tiny(images(2, 48, 64)), exact)


def test_gradients_and_other_number_types_know_no_bfloat16(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siammae.encoder, "bfloat16_is_faster", lambda: True)
    with torch.no_grad():
        exact = tiny(images(1, 32, 32))
    tiny.precision = "auto"
    assert torch.allclose(tiny(images(1, 32, 32)), exact, atol=1e-5)
    assert tiny.double().multiplies == torch.float64


@torch.inference_mode()
def test_patches_are_projected_in_float32() -> None:
    layer, pixels = torch.nn.Conv2d(3, 8, 4, stride=4), images(1, 16, 16)
    with bfloat16_products():
        assert torch.equal(layer(pixels), layer(pixels.clone()))
        assert layer(pixels).dtype == torch.float32
        assert F.linear(pixels, torch.ones(2, 16)).dtype == torch.bfloat16


def test_load_model_chooses_by_dtype() -> None:
    assert load_model("vitt8d6", device="cpu").precision == "auto"
    exact = load_model("vitt8d6", device="cpu", dtype=torch.float32)
    assert (exact.precision, exact.multiplies, exact.runtime) == ("float32", torch.float32, None)


@needs_openvino
@torch.inference_mode()
def test_openvino_gives_torchs_features_at_every_size(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siammae.encoder, "bfloat16_is_faster", lambda: False)
    sizes = [(2, 48, 64), (1, 32, 96), (1, 48, 64), (1, 16, 16), (1, 64, 64), (2, 48, 64)]
    expected = [tiny(images(*size)) for size in sizes]
    tiny.runtime = OpenVino()
    for size, features in zip(sizes, expected, strict=True):
        found = tiny(images(*size))
        assert found.shape == features.shape
        assert least_cosine(found, features) > 0.99999
        torch.testing.assert_close(found, features, atol=1e-3, rtol=1e-3)


@needs_openvino
@torch.inference_mode()
def test_openvino_computes_what_later_weights_say(tiny: Encoder) -> None:
    tiny.runtime = OpenVino()
    tiny(images(1, 32, 32))
    with torch.no_grad():
        tiny.vit.norm.bias.add_(1)
    found = tiny(images(1, 32, 32))
    assert least_cosine(found, tiny.exact()(images(1, 32, 32))) > 0.9999


@needs_openvino
def test_a_converted_model_is_kept_and_a_damaged_one_made_again(
    tiny: Encoder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[str] = []
    convert = openvino._convert

    def counted(encoder: Encoder) -> object:
        converted.append(encoder.name)
        return convert(encoder)

    monkeypatch.setattr(openvino, "_convert", counted)
    with torch.no_grad():
        expected = tiny(images(1, 32, 32))
        for _ in range(2):
            tiny.runtime = OpenVino()
            assert least_cosine(tiny(images(1, 32, 32)), expected) > 0.9999
        assert len(converted) == 1
        (folder,) = (cache / "openvino").iterdir()
        (folder / "blocks.xml").write_text("<net")
        tiny.runtime = pickle.loads(pickle.dumps(copy.deepcopy(tiny.runtime)))
        assert least_cosine(tiny(images(1, 32, 32)), expected) > 0.9999
    assert len(converted) == 2
    assert [path.name for path in (cache / "openvino").iterdir()] == [folder.name]  # no draft is left


@needs_openvino
def test_what_only_torch_computes_is_said(tiny: Encoder) -> None:
    with torch.no_grad():
        layer, maps = tiny(images(1, 32, 32), layer=0), tiny.attention(images(1, 32, 32))
    tiny.runtime = OpenVino()
    with torch.no_grad():
        with pytest.warns(UserWarning, match="torch computes layer 0 of tiny: openvino cannot"):
            assert torch.equal(tiny(images(1, 32, 32), layer=0), layer)
        with pytest.warns(UserWarning, match="torch computes attention maps of tiny"):
            assert torch.equal(tiny.attention(images(1, 32, 32)), maps)
    with pytest.warns(UserWarning, match="torch computes gradients of tiny"):
        tiny(images(1, 32, 32))[:, 0].sum().backward()


def test_a_runtime_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="runtime is 'onnx'; expected 'torch', 'openvino' or 'auto'"):
        load_model("vitt8d6", device="cpu", runtime="onnx")  # type: ignore[arg-type]
    monkeypatch.setattr(openvino, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'it is not installed: pip install "siammae\[fast\]"'):
        load_model("vitt8d6", device="cpu", runtime="openvino")
    assert load_model("vitt8d6", device="cpu", runtime="auto").runtime is None


@needs_openvino
def test_a_runtime_for_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"takes float32 weights, and the encoder's are torch\.float16"):
        load_model("vitt8d6", device="cpu", dtype=torch.float16, runtime="openvino")
    assert load_model("vitt8d6", device="cpu", dtype=torch.float16, runtime="auto").runtime is None

    def fails(encoder: Encoder) -> object:
        raise ValueError("x cannot run in OpenVINO")

    monkeypatch.setattr(openvino, "_convert", fails)
    with pytest.raises(ValueError, match="cannot run in OpenVINO"):
        load_model("vitt8d6", device="cpu", runtime="openvino")
    assert load_model("vitt8d6", device="cpu", runtime="auto").runtime is None


@needs_openvino
def test_blocks_that_need_more_than_tokens_are_one_error() -> None:
    rotary = build_encoder("vit_small_patch16_dinov3", {"depth": 1}, initial_weights=False, name="rotary").eval()
    with pytest.raises(ValueError, match=r"rotary cannot run in OpenVINO: .*runtime='torch' can") as error:
        OpenVino().prepare(rotary)
    assert "\n" not in str(error.value)


@needs_openvino
def test_auto_takes_openvino_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "is_faster", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(load.load_model("vitt8d6", device="cpu", runtime="auto").runtime, OpenVino)
    monkeypatch.setattr(openvino, "is_faster", lambda: False)
    assert load.load_model("vitt8d6", device="cpu", runtime="auto").runtime is None
