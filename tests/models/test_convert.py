"""Published checkpoints, imitated key by key and shape by shape, as model folders."""

import os
import pickle
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import timm
import torch
from foreign import checkpoint, decoder_state, encoder_state
from torch import Tensor

from siammae import WeightsError, load_model
from siammae.cli import main
from siammae.models.checkpoints import convert, read_checkpoint
from siammae.training.folder import load_siammae

FAMILIES = ["cropmae", "catmae", "rsp", "tobo", "mae"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_known_by_its_keys(family: str, tmp_path: Path) -> None:
    counts = {"cropmae": 230, "catmae": 231, "rsp": 346, "tobo": 334, "mae": 150}  # of the published S/16 files
    found = read_checkpoint(checkpoint(tmp_path / "a.pth", family))
    assert found.family == family
    assert len(found.encoder) == 150
    assert len(found.encoder) + len(found.rest) == counts[family]


@pytest.mark.parametrize(("patch", "prefix"), [(16, ""), (8, "module."), (16, "module.base_encoder.")])
def test_tokens_are_those_of_the_weights(patch: int, prefix: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "cropmae.pth", "cropmae", prefix, depth=2, patch=patch)
    folder = convert(path, tmp_path / "model", license="mit")
    encoder = load_model(folder, device="cpu")
    assert (encoder.patch_size, encoder.depth, encoder.metadata["license"]) == (patch, 2, "mit")
    wanted = timm.create_model("vit_small_patch16_224", num_classes=0, depth=2, patch_size=patch)
    wanted.load_state_dict(encoder_state(depth=2, patch=patch))
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        tokens = wanted.eval().forward_features(images)[:, 1:]
        assert torch.allclose(encoder(images).flatten(2).transpose(1, 2), tokens, atol=1e-5)
    assert torch.equal(encoder.vit.pos_embed, wanted.pos_embed)


def test_heads_can_be_asked_for(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.pth", "mae", depth=1)
    assert load_model(convert(path, tmp_path / "usual"), device="cpu").vit.blocks[0].attn.num_heads == 6
    assert load_model(convert(path, tmp_path / "few", heads=3), device="cpu").vit.blocks[0].attn.num_heads == 3
    with pytest.raises(WeightsError, match="heads is 5; expected a divisor of the 384"):
        convert(path, tmp_path / "odd", heads=5)
    assert sorted(os.listdir(tmp_path)) == ["a.pth", "few", "usual"]  # nothing half-made is left


def test_a_tobo_decoder_comes_along(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "tobo.pth", "tobo", depth=1)
    model = load_siammae(convert(path, tmp_path / "model"))
    assert (model.config.decoder_depth, model.config.decoder_width, model.config.decoder_heads) == (8, 512, 16)
    state = decoder_state("tobo")
    block = model.decoder.layers[3]
    queries, sources = torch.randn(1, 5, 512), torch.randn(1, 7, 512)

    def layer_norm(tokens: Tensor, name: str) -> Tensor:
        weight, bias = (state[f"decoder_blocks.3.{name}.{kind}"] for kind in ("weight", "bias"))
        return torch.nn.functional.layer_norm(tokens, (512,), weight, bias, 1e-6)

    def linear(tokens: Tensor, name: str) -> Tensor:
        weight, bias = (state[f"decoder_blocks.3.{name}.{kind}"] for kind in ("weight", "bias"))
        return torch.nn.functional.linear(tokens, weight, bias)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = [part.unflatten(2, (16, 32)).transpose(1, 2) for part in (query, key, value)]
        weights = (heads[0] @ heads[1].transpose(2, 3) / 32**0.5).softmax(dim=-1)
        return (weights @ heads[2]).transpose(1, 2).flatten(2)

    with torch.inference_mode():
        key, value = linear(layer_norm(sources, "norm_kv1"), "cattn.kv").chunk(2, dim=-1)
        tokens = queries + linear(attend(linear(layer_norm(queries, "norm1"), "cattn.q"), key, value), "cattn.proj")
        tokens = tokens + linear(attend(*linear(layer_norm(tokens, "norm3"), "attn.qkv").chunk(3, dim=-1)), "attn.proj")
        hidden = torch.nn.functional.gelu(linear(layer_norm(tokens, "norm4"), "mlp2.fc1"))
        wanted = tokens + linear(hidden, "mlp2.fc2")
        assert torch.allclose(block(queries, sources), wanted, atol=1e-4)
    others = convert(checkpoint(tmp_path / "rsp.pth", "rsp", depth=1), tmp_path / "rsp")
    assert load_model(others, device="cpu").metadata["decoder"] is None


class Trap:
    def __reduce__(self) -> Any:
        return os.system, ("touch trapped",)


def test_files_that_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(content: Any, message: str) -> None:
        torch.save(content, "bad.pth")
        with pytest.raises(WeightsError, match=message):
            convert("bad.pth", "model")
        assert not Path("model").exists()

    refused(
        {"model": encoder_state(1), "extra": Trap()},
        r"holds an object of the type (posix|nt)\.system, so it is not read: a pickle can run any code",
    )
    assert not Path("trapped").exists()
    refused({"epoch": 3}, "holds a dict with no state dict in it")
    refused({"conv1.weight": torch.zeros(3)}, r"no key that ends in patch_embed\.proj\.weight.*conv1\.weight")
    refused(encoder_state(1) | {"head.weight": torch.zeros(3)}, r"its other weights are of no known family.*")
    refused(encoder_state(1) | {"b.patch_embed.proj.weight": torch.zeros(3)}, "has 2 encoders")
    refused(encoder_state(1, width=400), "an encoder of 400 channels; expected one of 192, 384, 768, 1024")
    cut = encoder_state(1)
    del cut["blocks.0.norm2.bias"]
    refused(cut, r"is no vit_small_patch16_224 with patch 16 and 1 blocks: blocks\.0\.norm2\.bias differ")
    refused(encoder_state(1) | {"pos_embed": torch.zeros(1, 20, 384)}, "expected a square grid of patches")
    Path("text.pth").write_text("not a checkpoint")
    with pytest.raises(WeightsError, match=r"text\.pth"):
        convert("text.pth", "model")
    whole = checkpoint(tmp_path / "whole.pth", "mae", depth=1).read_bytes()
    Path("half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"half\.pth is damaged or no checkpoint"):
        convert("half.pth", "model")
    with pytest.raises(WeightsError, match="no such file"):
        convert("none.pth", "model")
    with pytest.raises(WeightsError, match=r"looks like MAE.*not rsp"):
        convert("whole.pth", "model", family="rsp")
    Path("old.pth").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(WeightsError, match=r"old\.pth"):
        convert("old.pth", "model")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "catmae.pth", "catmae", depth=1, patch=8)
    command = ["convert", str(path), "-o", str(tmp_path / "model"), "--from", "catmae"]
    main(command)
    printed = capsys.readouterr().out
    assert "CatMAE" in printed
    assert "vit_small_patch16_224, patch 8" in printed
    assert "decoder: none; 81 other tensors left out" in printed
    with pytest.raises(SystemExit):
        main(command)
    assert "exists; remove it" in capsys.readouterr().err


PLAIN: dict[str, Any] = {
    "path": Path("a/b"),
    "windows": PureWindowsPath("a"),
    "number": np.float64(0.5),
    "whole": np.int64(3),
    "array": np.arange(3),
    "date": datetime.now(UTC),
    "id": uuid4(),
    "set": frozenset([1]),
    "options": Namespace(output=Path("x"), lr=np.float32(1), range=range(3)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_data_beside_the_weights_is_no_obstacle(kind: str, tmp_path: Path) -> None:
    state = encoder_state(1)
    torch.save({"model": state, "rest": PLAIN[kind]}, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth").encoder
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


class Experiment:
    """Something of somebody's own code."""


def test_the_refused_type_is_named_in_one_line(tmp_path: Path) -> None:
    torch.save({"model": encoder_state(1), "rest": Experiment()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError) as error:
        read_checkpoint(tmp_path / "a.pth")
    assert f"holds an object of the type {Experiment.__module__}.Experiment, so it is not read" in str(error.value)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
