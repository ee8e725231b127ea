"""Model folders: written whole, read strictly.

A folder holds `config.json` (timm's keys `architecture`, `model_args`, `pretrained_cfg`, ... and a `siammae` section),
`model.safetensors` (the encoder, with timm's own keys) and `README.md` (the model card); some hold `projection.safetensors`
too (`siammae.models.projection`), which the config then names.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from siammae.encoder import Encoder
from siammae.errors import WeightsError
from siammae.files import atomic, atomic_folder, read_header, read_tensors, save_tensors
from siammae.models.build import COMMON_ARGS, build_encoder, import_timm
from siammae.models.card import evaluation_entry, model_card
from siammae.models.projection import read_projection, write_projection

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
PROJECTION_FILE = "projection.safetensors"
MODEL_FILES = CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, PROJECTION_FILE
HUB_FILES = CONFIG_FILE, WEIGHTS_FILE
DECODER_FILE = "decoder.safetensors"  # some folders have one
# beginnings of the arguments with which timm would load other files
FOREIGN_ARGS = "pretrained", "checkpoint_path", "cache_dir", "features_only"
LARGEST_ARG = 10_000  # no model has more pixels, channels or blocks


def read_model(path: Path, pretrained: bool = True, name: str | None = None) -> Encoder:
    """Build the encoder of a model folder, or of a lone `.safetensors` file, whose header holds the config.

    Args:
        path: model folder or `.safetensors` file.
        pretrained: False leaves the weights unread and initializes the encoder.
        name: of the encoder, instead of the stored one.

    Raises:
        WeightsError: files that are missing, damaged or do not fit each other.
    """
    if path.is_dir():
        config, weights = _read_config(path / CONFIG_FILE), path / WEIGHTS_FILE
    else:
        config, weights = _header_config(path), path
    label = path / CONFIG_FILE if path.is_dir() else path
    try:
        section = dict(config.get("siammae", {}))
        stored_name = section.pop("name", None)
        pretrained_cfg = config["pretrained_cfg"]
        architecture, model_args = _architecture(config["architecture"]), _model_args(config.get("model_args", {}))
        state = _read_state(weights, config) if pretrained else None
        if state is not None:
            _check_fit(architecture, model_args, state, weights)
        encoder = build_encoder(
            architecture,
            model_args,
            initial_weights=not pretrained,
            mean=_rgb(pretrained_cfg["mean"]),
            std=_rgb(pretrained_cfg["std"]),
            default_size=section.pop("default_size", None),
            name=name or stored_name or path.name,
            metadata=section,
        )
    except KeyError as error:
        raise WeightsError(f"{label} lacks the key {error}; expected a config that save_model or timm wrote") from error
    except (ArithmeticError, AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{label} describes no model that can be built: {error}") from error
    if state is not None:
        encoder.vit.load_state_dict(state)
        if encoder.metadata.get("projection"):
            encoder.projection = read_projection(weights.with_name(PROJECTION_FILE), encoder.embed_dim)
    return encoder


def has_projection(folder: Path) -> bool:
    """Check whether the config of a model folder names a projection; WeightsError if it cannot be read."""
    return bool(dict(_read_config(folder / CONFIG_FILE).get("siammae") or {}).get("projection"))


def _read_state(path: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read an encoder's weights, without the classifier that timm's own repos keep."""
    state = read_tensors(path)
    if config.get("num_classes"):
        return {key: tensor for key, tensor in state.items() if not key.startswith(("head.", "fc_norm."))}
    return state


def _architecture(name: Any) -> str:
    """Check that timm has an architecture of this very name: names such as hf-hub:... would load other repos."""
    if not isinstance(name, str) or ":" in name or not import_timm().is_model(name):
        raise ValueError(f"timm has no architecture {name!r}")
    return name


def _model_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments that rebuild the model; returns those that not every encoder has."""
    foreign = [key for key in args if key.startswith(FOREIGN_ARGS)]
    if foreign:
        raise ValueError(f"model_args holds {', '.join(foreign)}, which would load other files")
    huge = [key for key, value in args.items() if isinstance(value, int | float) and not abs(value) <= LARGEST_ARG]
    if huge:
        raise ValueError(f"{', '.join(huge)} in model_args are beyond {LARGEST_ARG}")
    return {key: value for key, value in args.items() if key not in COMMON_ARGS}


def _rgb(values: Any) -> tuple[float, ...]:
    """Check three numbers, for R, G and B."""
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
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error


def _header_config(path: Path) -> dict[str, Any]:
    header = read_header(path)
    if "config" not in header:
        raise WeightsError(f"{path} does not say what model it holds; load its folder, with the {CONFIG_FILE} beside it")
    try:
        config: dict[str, Any] = json.loads(header["config"])
        return config
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the config in the header of {path} is not JSON: {error}") from error


def _check_fit(architecture: str, model_args: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> None:
    """Raise WeightsError if weights do not fit the model that a config describes; this allocates no memory."""
    with torch.device("meta"):
        expected = import_timm().create_model(architecture, **COMMON_ARGS, **model_args).state_dict()
    problems = [f"{key} is missing" for key in expected if key not in state]
    problems += [f"{key} is unexpected" for key in state if key not in expected]
    problems += [
        f"{key} is {list(state[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise WeightsError(f"{path} does not fit {architecture}: {'; '.join(problems[:5])}{more}")


def save_model(encoder: Encoder, folder: str | os.PathLike[str], *, card: str | None = None, overwrite: bool = False) -> Path:
    """Write a model folder that `load_model` and `timm.create_model("local-dir:FOLDER", pretrained=True)` read.

    Args:
        encoder: saved in its own dtype; its `metadata` (license, training, metrics, ...) goes into the config.
        folder: appears whole or not at all.
        card: text of the model card; None writes one from the metadata (`siammae.models.card.model_card`).
        overwrite: replace a model folder that exists.

    Returns:
        The folder.

    Raises:
        FileExistsError: `folder` exists and `overwrite` is off, or it holds other files too.
        OSError: the disk refused; an older folder is untouched.
    """
    with atomic_folder(folder, overwrite=overwrite, files=MODEL_FILES) as draft:
        write_model(encoder, draft, card=card)
    return Path(folder)


def write_model(encoder: Encoder, folder: Path, *, card: str | None = None) -> None:
    """Write config, weights and card of an encoder into an existing folder; `card` as in `save_model`."""
    config = model_config(encoder)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in encoder.vit.state_dict().items()}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    save_tensors(folder / WEIGHTS_FILE, state, _header(config))
    if encoder.projection is not None:
        write_projection(folder / PROJECTION_FILE, encoder.projection)
    (folder / CARD_FILE).write_text(card or model_card(encoder))


def model_config(encoder: Encoder) -> dict[str, Any]:
    """Return the config of a model folder: timm's keys, and ours under "siammae"."""
    height, width = (side * encoder.patch_size for side in encoder.vit.patch_embed.grid_size)
    return {
        "architecture": encoder.architecture,
        "num_classes": 0,
        "num_features": encoder.embed_dim,
        "model_args": {**encoder.model_args, **COMMON_ARGS},
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
            "license": encoder.metadata.get("license"),
        },
        "siammae": {"name": encoder.name, "default_size": encoder.default_size, **encoder.metadata},
    }


def add_evaluations(folder: str | os.PathLike[str], scores: Sequence[str | os.PathLike[str]]) -> Path:
    """Add scores to a model folder's config and card; they replace earlier ones of the same data set, protocol and metric.

    Args:
        folder: model folder.
        scores: files scores.json that `siammae evaluate` wrote for these very weights.

    Returns:
        The folder.

    Raises:
        WeightsError: no model folder.
        ValueError: scores that cannot be read, or of other weights.
    """
    path = Path(folder)
    encoder = read_model(path)
    kind = itemgetter("dataset", "sequences", "protocol", "input", "metric")
    entries, digest = {kind(entry): entry for entry in encoder.metadata.get("evaluations") or []}, encoder.digest()
    for file in scores:
        try:
            entry = evaluation_entry(json.loads(Path(file).read_text()))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{os.fspath(file)} is no scores.json of siammae evaluate: {type(error).__name__} {error}"
            ) from error
        if entry["weights_sha256"] != digest:
            raise ValueError(
                f"{os.fspath(file)} is of other weights than those in {path}; evaluate this folder: --model {path}"
            )
        entries[kind(entry)] = entry
    encoder.metadata["evaluations"] = list(entries.values())
    return rewrite_metadata(path, encoder)


def rewrite_metadata(path: Path, encoder: Encoder) -> Path:
    """Rewrite config and card of a model folder from the metadata of its encoder.

    The tensors stay, and so does their file, unless its header holds another config.
    """
    picture, config = next((file.name for file in path.glob("*.png")), None), model_config(encoder)
    files = {CONFIG_FILE: json.dumps(config, indent=2) + "\n", CARD_FILE: model_card(encoder, picture=picture)}
    if read_header(path / WEIGHTS_FILE) != _header(config):
        with atomic(path / WEIGHTS_FILE) as draft:
            save_tensors(draft, read_tensors(path / WEIGHTS_FILE), _header(config))
    for name, text in files.items():
        with atomic(path / name) as draft:
            draft.write_text(text)
    return path


def _header(config: dict[str, Any]) -> dict[str, str]:
    """Return the header of a weights file, which can be used alone: all of the config but the scores."""
    section = {key: value for key, value in config["siammae"].items() if key != "evaluations"}
    return {"format": "pt", "config": json.dumps({**config, "siammae": section})}


def check_folder(folder: str | os.PathLike[str]) -> Encoder:
    """Load the encoder of a model folder; WeightsError if the folder is incomplete or lacks its card."""
    path = Path(folder)
    if not (path / CARD_FILE).is_file():
        raise WeightsError(f"{path} has no {CARD_FILE}, the model card; save_model writes one")
    return read_model(path)
