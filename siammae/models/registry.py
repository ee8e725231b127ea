"""The registry: models that siammae knows by name. Importing it does not import torch."""

import difflib
import fnmatch
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siammae.errors import WeightsError

EMBEDDED = "embedded"  # source of the weights that come with the package
WEIGHTS_FOLDER = Path(__file__).parent / "weights"  # model folders that come with the package


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a registered model, known before it is loaded.

    Attributes:
        name: name for `load_model`.
        architecture, model_args: timm's name of the architecture and the arguments that rebuild it.
        patch_size: pixels; embed_dim: channels of a feature; depth: blocks; num_heads: attention heads of each block.
        num_parameters: parameters of the encoder, the fixed position table included.
        weights: source of the pretrained weights: `EMBEDDED` for those in the package, "hf-hub:owner/name@commit", or None
            while none are published.
        sha256: digest of the published model.safetensors, checked after every download; None if there is none.
        license: license of the weights, or None.
        metrics: scores of the weights, by data set and metric.
    """

    name: str
    architecture: str
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    num_parameters: int
    model_args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    sha256: str | None = None
    license: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


_PAPER_SIZES = (
    ModelInfo("vits16", "vit_small_patch16_224", 16, 384, 12, 6, 21_665_664),
    ModelInfo("vitb16", "vit_base_patch16_224", 16, 768, 12, 12, 85_798_656),
    ModelInfo("vitl16", "vit_large_patch16_224", 16, 1024, 24, 16, 303_301_632),
    ModelInfo("vitt16", "vit_tiny_patch16_224", 16, 192, 12, 3, 5_524_416),
    ModelInfo("vitt8", "vit_tiny_patch16_224", 8, 192, 12, 3, 5_526_720, {"patch_size": 8}),
)
_EMBEDDED = (
    ModelInfo(
        "vits8",
        "vit_small_patch8_224",
        8,
        384,
        12,
        6,
        21_894_912,
        {"patch_size": 8, "img_size": 296},
        weights=EMBEDDED,
        license="apache-2.0",
        metrics={"DAVIS-2016 (10 sequences) J&F": 83.1, "BADJA (4) PCK@0.2": 63.7},
    ),
    ModelInfo(
        "vitt8d6",
        "vit_tiny_patch16_224",
        8,
        192,
        6,
        3,
        2_734_656,
        {"patch_size": 8, "img_size": 96, "depth": 6},
        weights=EMBEDDED,
        license="cc-by-nc-4.0",
        metrics={"DAVIS-2016 (10 sequences) J&F": 64.0, "BADJA (4) PCK@0.2": 51.0},
    ),
    ModelInfo(
        "vitt8d6-features",
        "vit_tiny_patch16_224",
        8,
        192,
        6,
        3,
        2_756_160,
        {"patch_size": 8, "img_size": 128, "depth": 6},
        weights=EMBEDDED,
        license="cc-by-nc-4.0",
        metrics={"DAVIS-2016 (10 sequences) J&F": 69.0, "BADJA (4) PCK@0.2": 48.4},
    ),
)
REGISTRY = {info.name: info for info in (*_EMBEDDED, *_PAPER_SIZES)}

DEFAULT_MODEL = "vits8"  # embedded in the package


def list_models(pattern: str = "*", pretrained: bool | None = None) -> list[str]:
    """List the registered models that match a shell pattern such as "vits*".

    Args:
        pattern: shell pattern of names.
        pretrained: True keeps models with published weights, False those without, None both.
    """
    return [
        name
        for name, info in REGISTRY.items()
        if fnmatch.fnmatchcase(name, pattern) and pretrained in (None, info.weights is not None)
    ]


def model_info(name: str) -> ModelInfo:
    """Return the facts about a registered model; ValueError names the closest models if there is none of that name."""
    if name not in REGISTRY:
        raise ValueError(unknown_name(name))
    return REGISTRY[name]


def check_name(name: str | os.PathLike[str]) -> None:
    """Raise what `load_model` raises for a name that can be no model's, as far as can be told without loading anything.

    Raises:
        WeightsError: a folder or file that is not there.
        ValueError: no such registered model.
    """
    text = os.fspath(name)
    if text.startswith(("timm:", "hf-hub:")) or text in REGISTRY or Path(text).exists():
        return
    if isinstance(name, os.PathLike) or os.sep in text or text.endswith(".safetensors"):
        repo = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?", text)
        hint = f"; did you mean hf-hub:{text}?" if repo and not text.endswith(".safetensors") else ""
        raise WeightsError(f"no such model folder or .safetensors file: {text}{hint}")
    raise ValueError(unknown_name(text))


def unknown_name(name: str) -> str:
    """Write the message about a name that no model has."""
    if re.match(r"(vit|deit3?|eva02|beit(v2)?)_", name):
        return f"no model is called {name!r}; did you mean timm:{name}?"
    close = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.5) or list(REGISTRY)
    return (
        f"no model is called {name!r}. Closest names: {', '.join(close)}. Also possible: hf-hub:owner/name, timm:NAME for any "
        "of timm's vision transformers, a model folder, or a .safetensors file"
    )
