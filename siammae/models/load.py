"""load_model: an Encoder by its name, from the registry, the Hugging Face Hub, timm or a model folder."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from siammae.encoder import Encoder
from siammae.errors import WeightsError
from siammae.models import openvino
from siammae.models.build import COMMON_ARGS, build_encoder, import_timm
from siammae.models.folder import CONFIG_FILE, HUB_FILES, PROJECTION_FILE, has_projection, read_model
from siammae.models.hub import PREFIX, Repo, fetch
from siammae.models.patches import with_patch_size
from siammae.models.registry import DEFAULT_MODEL, EMBEDDED, REGISTRY, WEIGHTS_FOLDER, ModelInfo, check_name, list_models

RuntimeName = Literal["torch", "openvino", "auto"]


def load_model(
    name: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    pretrained: bool = True,
    patch_size: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    runtime: RuntimeName = "torch",
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Encoder:
    """Load an Encoder in eval mode.

    Args:
        name: a registered model (`list_models`), a model folder, a `.safetensors` file that `save_model` wrote,
            "hf-hub:owner/name[@revision]" for a repo of the Hugging Face Hub, or "timm:NAME" for one of timm's vision
            transformers.
        pretrained: False takes the initial weights of the architecture, for a registered model the same ones each time.
        patch_size: side of a patch in pixels, instead of the model's own: the patch projection is resized by its
            pseudo-inverse, the grid of positions stays (`siammae.models.patches.with_patch_size`).
        device: device of the encoder; None takes CUDA, else MPS, else the CPU.
        dtype: number type of weights and features. None is float32, with matrix products in bfloat16 where the CPU has
            instructions for it; torch.float32 is float32 throughout.
        runtime: what computes features on the CPU: "torch", "openvino" (needs `pip install "siammae[fast]"`), or "auto":
            OpenVINO where it is installed, expected to be faster, and can run the model. Layers before the last, attention maps
            and gradients are always torch's.
        revision: branch, tag or commit of a repo, instead of the one in its name.
        cache_dir: folder for downloads; None is the Hub's own cache.
        token: token for private and gated repos; None takes that of `hf auth login` or HF_TOKEN.
        local_files_only: use only files in the cache.

    Raises:
        ValueError: no such model, or a patch size, device, dtype or runtime that cannot be used.
        WeightsError: no published weights under that name; a repo that cannot be fetched; or a file that is missing, damaged
            or does not fit.
    """
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        raise ValueError(f"the name of a model is {name!r}; expected such as {DEFAULT_MODEL!r}, or the path of a model folder")
    text = os.fspath(name)
    hub_options: dict[str, Any] = {"cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
    if text.startswith("timm:"):
        encoder = _from_timm(text.removeprefix("timm:"), pretrained)
    elif text.startswith(PREFIX):
        repo = Repo.parse(text.removeprefix(PREFIX))
        folder = _fetch_model(replace(repo, revision=revision or repo.revision), hub_options)
        encoder = read_model(folder, pretrained, name=text)
    elif text in REGISTRY:
        encoder = _from_registry(REGISTRY[text], pretrained, revision, hub_options)
    else:
        check_name(name)
        if not text.endswith(".safetensors") and not Path(text).is_dir():
            raise WeightsError(f"{text} is no model folder and no .safetensors file")
        encoder = read_model(Path(text), pretrained)
    if patch_size is not None:
        encoder = with_patch_size(encoder, patch_size)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype is {dtype!r}; expected a floating torch.dtype such as torch.float16")
    try:
        encoder = encoder.to(device or default_device(), dtype or torch.float32).eval()
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    encoder.precision = "auto" if dtype is None else "float32"
    _attach(encoder, runtime)
    return encoder


def _attach(encoder: Encoder, runtime: RuntimeName) -> None:
    """Give the encoder its runtime; ValueError or ImportError if it cannot have the one that was asked for."""
    if runtime not in ("torch", "openvino", "auto"):
        raise ValueError(f"runtime is {runtime!r}; expected 'torch', 'openvino' or 'auto'")
    if runtime == "torch" or (runtime == "auto" and (openvino.unavailable(encoder) or not openvino.is_faster())):
        return
    reason = openvino.unavailable(encoder)
    if reason:
        raise (ImportError if openvino.INSTALL in reason else ValueError)(f"runtime 'openvino' cannot be used: {reason}")
    found = openvino.OpenVino()
    try:
        found.prepare(encoder)
    except ValueError:
        if runtime == "openvino":
            raise
        return
    encoder.runtime = found


def as_encoder(model: str | os.PathLike[str] | torch.nn.Module) -> Encoder:
    """Return an Encoder as it is, one of timm's vision transformers as an Encoder, or load the one of that name."""
    if isinstance(model, Encoder):
        return model
    if isinstance(model, str | os.PathLike):
        return load_model(model)
    if isinstance(model, torch.nn.Module):
        return Encoder.from_timm(model)
    raise ValueError(
        f"the model is a {type(model).__name__}; expected an Encoder, one of timm's vision transformers, or a name for "
        "load_model"
    )


def default_device() -> torch.device:
    """Return CUDA if available, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _from_registry(info: ModelInfo, pretrained: bool, revision: str | None, hub_options: Mapping[str, Any]) -> Encoder:
    if not pretrained:
        return build_encoder(info.architecture, info.model_args, name=info.name)
    if info.weights is None:
        available = list_models(pretrained=True)
        raise WeightsError(
            f"{info.name} has no published weights yet. Models that have some: {', '.join(available)}. Otherwise "
            f"use any of timm's vision transformers, such as timm:vit_small_patch16_224.dino, your own model folder, or "
            f"pretrained=False for the initial weights"
        )
    if info.weights == EMBEDDED:
        return read_model(WEIGHTS_FOLDER / info.name, pretrained, name=info.name)
    repo = Repo.parse(info.weights.removeprefix(PREFIX))
    pinned = None if revision else info.sha256
    folder = _fetch_model(replace(repo, revision=revision or repo.revision), hub_options, sha256=pinned)
    return read_model(folder, pretrained, name=info.name)


def _fetch_model(repo: Repo, hub_options: Mapping[str, Any], *, sha256: str | None = None) -> Path:
    """Download the model folder of a repo, with the projection that its config may name."""
    folder = fetch(repo, HUB_FILES, sha256=sha256, **hub_options)
    if has_projection(folder):
        fetch(replace(repo, revision=folder.name), (CONFIG_FILE, PROJECTION_FILE), **hub_options)
    return folder


def _from_timm(name: str, pretrained: bool) -> Encoder:
    timm = import_timm()
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models("*vit*"), n=3, cutoff=0.3)
        raise ValueError(f"timm has no model {architecture!r}. Closest names: {', '.join(close)}")
    try:
        with torch.device("cpu"):
            vit = timm.create_model(name, pretrained=pretrained, **COMMON_ARGS)
    except TypeError as error:
        raise ValueError(f"timm:{name} cannot be an encoder: it takes no images of other sizes ({error})") from error
    except RuntimeError as error:
        raise ValueError(f"timm has no pretrained weights called {name!r}: {error}") from error
    except Exception as error:
        if not pretrained:
            raise
        raise WeightsError(f"the weights of timm:{name} could not be fetched: {error}") from error
    cfg = vit.pretrained_cfg
    return Encoder(
        vit,
        architecture=architecture,
        model_args={},
        mean=cfg["mean"],
        std=cfg["std"],
        name=f"timm:{name}",
        metadata={"license": cfg.get("license")} if pretrained else {},
    )
