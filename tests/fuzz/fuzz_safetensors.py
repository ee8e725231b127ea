"""Mutated safetensors files, read as tensors and as a model."""

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).parent))
from harness import fuzz

from siammae.files import read_header, read_tensors
from siammae.models import load_model, save_model
from siammae.models.build import build_encoder


def seeds() -> dict[str, bytes]:
    small = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    tiny = build_encoder("vit_tiny_patch16_224", {"depth": 1, "embed_dim": 12, "img_size": 32})
    model = save_model(tiny, Path(tempfile.mkdtemp()) / "model") / "model.safetensors"
    return {"two.safetensors": save(small, {"format": "pt"}), "none.safetensors": save({}), model.name: model.read_bytes()}


def read(path: Path) -> None:
    errors = []
    for reader in (read_header, read_tensors, lambda file: load_model(file, device="cpu")):
        try:
            reader(path)
        except (ValueError, OSError) as error:
            errors.append(error)
    if errors:
        raise errors[-1]


fuzz(read, seeds(), (".safetensors",))
