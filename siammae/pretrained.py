"""Names to weights to Encoders: loading and saving models.

A model folder holds `config.json` (timm's keys `architecture`, `model_args`, `pretrained_cfg`, ... and a `siammae` section),
`model.safetensors` (the encoder, with timm's own keys) and `README.md` (the model card).
"""

import difflib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from siammae.encoder import BUILT_IN_ARGS, Encoder, build_encoder, import_timm
from siammae.hub import PREFIX, Repo, fetch, upload
from siammae.registry import DEFAULT_MODEL, EMBEDDED, REGISTRY, WEIGHTS_FOLDER, ModelInfo, list_models, unknown_name
from siammae.tensors import WeightsError, read_header, read_tensors, save_tensors

MODEL_FILES = CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
HUB_FILES = CONFIG_FILE, WEIGHTS_FILE

# beginnings of the arguments with which timm would load other files
FOREIGN_ARGS = "pretrained", "checkpoint_path", "cache_dir", "features_only"


def load_model(
    name: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    pretrained: bool = True,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Encoder:
    """An Encoder in eval mode.

    Args:
        name: a registered model (`list_models`), a model folder, a `.safetensors` file that `save_model` wrote,
            "hf-hub:owner/name[@revision]" for a repo of the Hugging Face Hub, or "timm:NAME" for one of timm's vision
            transformers.
        pretrained: False gives the initial weights of the architecture: the same ones each time for a registered model.
        device: where it goes; None takes CUDA, else MPS, else the CPU.
        dtype: of its weights and features; None is float32.
        revision: branch, tag or commit of a repo, instead of one in its name.
        cache_dir: where downloads are kept; None is the Hub's own cache.
        token: for private and gated repos; None takes the one of `hf auth login` or HF_TOKEN.
        local_files_only: take nothing but what is in the cache.

    Raises:
        ValueError: no such model.
        WeightsError: no published weights under that name; a repo that cannot be had; or a file that is missing, damaged or
            does not fit.
    """
    text = os.fspath(name)
    hub: dict[str, Any] = {"cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
    if text.startswith("timm:"):
        encoder = _from_timm(text.removeprefix("timm:"), pretrained)
    elif text.startswith(PREFIX):
        repo = Repo.parse(text.removeprefix(PREFIX))
        encoder = _from_files(fetch(replace(repo, revision=revision or repo.revision), HUB_FILES, **hub), pretrained, name=text)
    elif text in REGISTRY:
        encoder = _from_registry(REGISTRY[text], pretrained, revision, hub)
    elif text.endswith(".safetensors") or Path(text).is_dir():
        encoder = _from_files(Path(text), pretrained)
    elif isinstance(name, os.PathLike) or os.sep in text:
        raise WeightsError(f"no such model folder or .safetensors file: {text}")
    else:
        raise ValueError(unknown_name(text))
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype is {dtype!r}; expected a floating torch.dtype such as torch.float16")
    try:
        return encoder.to(device or default_device(), dtype or torch.float32).eval()
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error


def as_encoder(model: str | os.PathLike[str] | Encoder) -> Encoder:
    """An Encoder as it is, or the one of that name."""
    if not isinstance(model, str | os.PathLike | Encoder):
        raise ValueError(f"the model is a {type(model).__name__}; expected an Encoder or a name for load_model")
    return model if isinstance(model, Encoder) else load_model(model)


def default_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _from_registry(info: ModelInfo, pretrained: bool, revision: str | None, hub: Mapping[str, Any]) -> Encoder:
    if not pretrained:
        return build_encoder(info.architecture, info.model_args, name=info.name)
    if info.weights is None:
        available = list_models(pretrained=True)
        raise WeightsError(
            f"{info.name} has no published weights yet. Models that have: {', '.join(available)}. Otherwise "
            f"use any of timm's vision transformers, such as timm:vit_small_patch16_224.dino, your own model folder, or "
            f"pretrained=False for the initial weights"
        )
    if info.weights == EMBEDDED:
        return _from_files(WEIGHTS_FOLDER / info.name, pretrained, name=info.name)
    repo = Repo.parse(info.weights.removeprefix(PREFIX))
    pinned = None if revision else info.sha256
    folder = fetch(replace(repo, revision=revision or repo.revision), HUB_FILES, sha256=pinned, **hub)
    return _from_files(folder, pretrained, name=info.name)


def _from_timm(name: str, pretrained: bool) -> Encoder:
    timm = import_timm()
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models("*vit*"), n=3, cutoff=0.3)
        raise ValueError(f"timm has no model {architecture!r}. Closest names: {', '.join(close)}")
    try:
        vit = timm.create_model(name, pretrained=pretrained, **BUILT_IN_ARGS)
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
        metadata={"licence": cfg.get("license")} if pretrained else {},
    )


def _from_files(path: Path, pretrained: bool, name: str | None = None) -> Encoder:
    """The encoder of a model folder, or of a lone `.safetensors` file, which carries its config in its header."""
    if path.is_dir():
        config, weights = _read_config(path / CONFIG_FILE), path / WEIGHTS_FILE
    else:
        config, weights = _header_config(path), path
    label = path / CONFIG_FILE if path.is_dir() else path
    try:
        section = dict(config.get("siammae", {}))
        stored_name = section.pop("name", None)
        pretrained_cfg = config["pretrained_cfg"]
        encoder = build_encoder(
            _architecture(config["architecture"]),
            _model_args(config.get("model_args", {})),
            initial_weights=not pretrained,
            mean=_colour(pretrained_cfg["mean"]),
            std=_colour(pretrained_cfg["std"]),
            default_size=section.pop("default_size", None),
            name=name or stored_name or path.name,
            metadata=section,
        )
    except KeyError as error:
        raise WeightsError(f"{label} lacks the key {error}; expected a config that save_model or timm wrote") from error
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{label} describes no model that can be built: {error}") from error
    if pretrained:
        state = read_tensors(weights)
        if config.get("num_classes"):  # timm's own repos keep the classifier, which an encoder has not
            state = {key: tensor for key, tensor in state.items() if not key.startswith(("head.", "fc_norm."))}
        _load_strictly(encoder, state, weights)
    return encoder


def _architecture(name: Any) -> str:
    """The architecture of a config, if timm has it under that very name: names such as hf-hub:... would load other repos."""
    if not isinstance(name, str) or ":" in name or not import_timm().is_model(name):
        raise ValueError(f"timm has no architecture {name!r}")
    return name


def _model_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a config that rebuild the model, without those that every encoder has."""
    foreign = [key for key in args if key.startswith(FOREIGN_ARGS)]
    if foreign:
        raise ValueError(f"model_args holds {', '.join(foreign)}, which would load other files")
    return {key: value for key, value in args.items() if key not in BUILT_IN_ARGS}


def _colour(values: Any) -> tuple[float, ...]:
    """Three numbers, for R, G and B."""
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"mean or std is {values}; expected three numbers")
    return numbers


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        return config
    except FileNotFoundError:
        raise WeightsError(f"{path.parent} is no model folder: it has no {CONFIG_FILE}") from None
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error


def _header_config(path: Path) -> dict[str, Any]:
    header = read_header(path)
    if "config" not in header:
        raise WeightsError(f"{path} does not say what model it holds; load its folder, with the {CONFIG_FILE} beside it")
    config: dict[str, Any] = json.loads(header["config"])
    return config


def _load_strictly(encoder: Encoder, state: Mapping[str, Tensor], path: Path) -> None:
    expected = encoder.vit.state_dict()
    problems = [f"{key} is missing" for key in expected if key not in state]
    problems += [f"{key} is unexpected" for key in state if key not in expected]
    problems += [
        f"{key} is {list(state[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise WeightsError(f"{path} does not fit {encoder.architecture}: {'; '.join(problems[:5])}{more}")
    encoder.vit.load_state_dict(state)


def save_model(encoder: Encoder, folder: str | os.PathLike[str], *, card: str | None = None, overwrite: bool = False) -> Path:
    """Write a model folder that `load_model` and `timm.create_model("local-dir:FOLDER", pretrained=True)` read.

    Args:
        encoder: saved in its own dtype; its `metadata` (licence, training, metrics, ...) goes into the config.
        folder: made as a whole, or not at all.
        card: text of the model card; None writes a short one from the metadata.
        overwrite: replace a folder that is there already.

    Returns:
        The folder.
    """
    target = Path(folder).resolve()
    check_target(target, MODEL_FILES, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    config = model_config(encoder)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in encoder.vit.state_dict().items()}
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        draft.chmod(0o755)
        (draft / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
        save_tensors(draft / WEIGHTS_FILE, state, {"format": "pt", "config": json.dumps(config)})
        (draft / CARD_FILE).write_text(card or short_card(encoder))
        replace_folder(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Path(folder)


def check_target(target: Path, files: Collection[str], overwrite: bool) -> None:
    """FileExistsError where a model folder with `files` must not be written: it is there, or it holds something else."""
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; remove it, choose another folder, or pass overwrite=True")
    if target.exists() and not {file.name for file in target.iterdir()} <= set(files):
        raise FileExistsError(f"{target} holds more than a model, so it is not overwritten; choose another folder")


def replace_folder(draft: Path, target: Path) -> None:
    """Rename `draft` to `target`; a folder that is there already goes only once the new one stands."""
    retired = draft / "replaced"
    if target.exists():
        target.rename(retired)
    try:
        draft.rename(target)
    except BaseException:
        if retired.exists():
            retired.rename(target)
        raise
    shutil.rmtree(target / retired.name, ignore_errors=True)


def model_config(encoder: Encoder) -> dict[str, Any]:
    """The config of a model folder: timm's keys, and ours under "siammae"."""
    height, width = (side * encoder.patch_size for side in encoder.vit.patch_embed.grid_size)
    return {
        "architecture": encoder.architecture,
        "num_classes": 0,
        "num_features": encoder.embed_dim,
        "model_args": {**encoder.model_args, **BUILT_IN_ARGS},
        "pretrained_cfg": {
            "input_size": [3, height, width],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": encoder.metadata.get("licence"),
        },
        "siammae": {"name": encoder.name, "default_size": encoder.default_size, **encoder.metadata},
    }


def short_card(encoder: Encoder) -> str:
    """A model card that says what the folder holds and how to use it."""
    licence = encoder.metadata.get("licence")
    front = ["library_name: siammae", "pipeline_tag: image-feature-extraction"] + ([f"license: {licence}"] if licence else [])
    return "\n".join(
        [
            "---",
            *front,
            "---",
            "",
            f"# {encoder.name}",
            "",
            f"A dense feature extractor for video correspondence: {encoder.architecture}, patch {encoder.patch_size}, "
            f"{encoder.embed_dim} channels, {encoder.num_parameters:,} parameters.",
            "",
            "```python",
            "import siammae",
            "",
            'model = siammae.load_model("path/to/this/folder")',
            'features = siammae.extract_features("video.mp4", model)  # [frames, channels, rows, columns]',
            "```",
            "",
            f"Licence of the weights: {licence or 'not stated'}.",
            "",
        ]
    )


def push_to_hub(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    token: str | bool | None = None,
    message: str = "Upload model",
) -> str:
    """Upload a model folder to the Hugging Face Hub, and make the repo if there is none.

    Args:
        folder: that `save_model` wrote; it is loaded first, so that nothing damaged is published.
        repo_id: owner/name.
        private: of a new repo.
        create_pr: propose the upload as a pull request instead of making it.
        token: None takes the one of `hf auth login` or HF_TOKEN.
        message: of the commit.

    Returns:
        "owner/name@commit", which names these very weights for ever; of a pull request, its address.

    Raises:
        ValueError: `repo_id` is no owner/name.
        WeightsError: the folder is no whole model, or the Hub refused.
    """
    repo = Repo.parse(repo_id)
    check_folder(folder)
    return upload(repo, Path(folder), private=private, create_pr=create_pr, token=token, message=message)


def check_folder(folder: str | os.PathLike[str]) -> Encoder:
    """The encoder of a folder that is whole, card included; WeightsError where it is not."""
    path = Path(folder)
    if not (path / CARD_FILE).is_file():
        raise WeightsError(f"{path} has no {CARD_FILE}, the model card; save_model writes one")
    return _from_files(path, pretrained=True)
