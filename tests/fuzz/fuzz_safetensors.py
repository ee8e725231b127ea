"""Mutated safetensors files, read as tensors and as a model."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).parent))
from harness import fuzz

from siammae.pretrained import load_model
from siammae.tensors import read_header, read_tensors


def seeds() -> dict[str, bytes]:
    small = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    return {"two.safetensors": save(small, {"format": "pt"}), "none.safetensors": save({})}


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
