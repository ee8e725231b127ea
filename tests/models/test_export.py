"""Encoders for other runtimes give what torch gives; nothing that differs is written."""

import runpy
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor

import siammae.models.runtimes
from siammae import load_model
from siammae.cli import main
from siammae.encoder import Encoder
from siammae.models.runtimes import export_encoder


def run(path: Path, images: Tensor) -> Tensor:
    if path.suffix == ".pt2":
        found: Tensor = torch.export.load(path).module()(images)
        return found
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("size", [(96, 160), None], ids=["fixed", "any size"])
def test_exported_features_are_the_encoder_s(
    tmp_path: Path, encoder: Encoder, suffix: str, size: tuple[int, int] | None
) -> None:
    path = export_encoder(encoder, tmp_path / f"encoder{suffix}", size=size)
    for shape in [(1, 3, 96, 160)] if size else [(1, 3, 96, 160), (2, 3, 224, 64), (1, 3, 32, 480)]:
        images = torch.randn(shape)
        with torch.inference_mode():
            assert torch.allclose(run(path, images), encoder(images), atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # complete in one file


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"
    main(["export", "vitt8d6", "-o", str(out), "--size", "64", "112"])
    assert "images of 3 x 64 x 112" in capsys.readouterr().out
    images = torch.randn(1, 3, 64, 112)
    with torch.inference_mode():
        assert torch.allclose(run(out, images), load_model("vitt8d6", device="cpu")(images), atol=1e-3)


def test_what_cannot_be_or_differs_is_not_written(tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"ends in \.tflite; expected one of \.onnx, \.pt2"):
        export_encoder(encoder, tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="size is 100 x 160 pixels; expected whole patches of tiny, 16"):
        export_encoder(encoder, tmp_path / "a.pt2", size=(100, 160))
    monkeypatch.setattr(
        siammae.models.runtimes, "_write_program", lambda *args: lambda images: torch.zeros(len(images), 192, 2, 2)
    )
    with pytest.raises(ValueError, match="the exported model differs by 1 of the largest feature, so it is not written"):
        export_encoder(encoder, tmp_path / "a.pt2", size=(32, 32))
    assert not list(tmp_path.iterdir())


def test_torch_hub_loads_the_clone() -> None:
    code = "import torch; m = torch.hub.load('.', 'vitt8d6', source='local', device='cpu'); print(m.digest())"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == load_model("vitt8d6", device="cpu").digest()
    assert callable(runpy.run_path(str(root / "hubconf.py"))["vits16"])
