"""The encoder that a run starts with, and the one that a checkpoint is read into."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from siammae.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from siammae.files import read_header, read_tensors
from siammae.models.build import build_encoder
from siammae.models.load import load_model
from siammae.models.patches import POSITIONS, PROJECTION, fit_weights, has_fixed_positions
from siammae.training.model import SiamMAE
from siammae.training.model_config import ModelConfig


def build_model(
    config: ModelConfig, seed: int = 0, *, encoder: Encoder | None = None, teacher_width: int | None = None
) -> SiamMAE:
    """Build a SiamMAE with an initial decoder by `seed`, and an initial encoder if none is given."""
    encoder = encoder or initial_encoder(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SiamMAE(encoder, config, teacher_width=teacher_width)


def start_from(config: ModelConfig, name: str) -> Encoder:
    """Build the encoder that `config` describes, with the weights of a model that may have another patch size and grid.

    A fixed table of positions is made for the crops; a learned one keeps its grid and is resampled to theirs.

    Args:
        config: the run's model; its patch size and architecture count.
        name: a model as `load_model` takes it, or a .safetensors file of a plain vision transformer by timm's keys, whose
            images are taken to be normalized by ImageNet's mean and deviation.

    Raises:
        ValueError: the weights have another width or depth, or lack some.
        siammae.WeightsError: there are no such weights.
    """
    if name.endswith(".safetensors") and "config" not in read_header(Path(name)):
        state = read_tensors(Path(name))
        return continued_encoder(config, state, fixed=False, source=f"init {name}", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    found = load_model(name, device="cpu")
    state, fixed = found.vit.state_dict(), has_fixed_positions(found)
    return continued_encoder(config, state, fixed=fixed, source=f"init {name}", mean=found.mean, std=found.std)


def initial_encoder(config: ModelConfig) -> Encoder:
    """Build the encoder that `config` describes, with initial weights and a table of positions for the crops' grid."""
    return build_encoder(config.architecture, _arguments(config, config.image_size))


def continued_encoder(
    config: ModelConfig,
    state: Mapping[str, Tensor],
    *,
    fixed: bool,
    source: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Encoder:
    """Build the encoder that `config` describes, with another model's weights.

    Args:
        config: the run's model.
        state: weights by timm's keys, of any patch size.
        fixed: the positions are the fixed table, which is made for the crops' grid; learned ones keep their grid.
        source: name of the weights, for errors.
        mean: means of R, G and B by which the other model's images are normalized.
        std: deviations of R, G and B, as the means.

    Raises:
        ValueError: the weights have another width or depth, or lack some.
    """
    if PROJECTION not in state or POSITIONS not in state:
        raise ValueError(f"{source} is no plain vision transformer: it lacks {PROJECTION} or {POSITIONS}")
    side = round(max(1, state[POSITIONS].shape[1] - 1) ** 0.5)
    image_size = config.image_size if fixed else side * config.patch_size
    encoder = build_encoder(config.architecture, _arguments(config, image_size), mean=mean, std=std)
    weights = fit_weights(state, encoder.vit, source)
    if fixed:
        weights[POSITIONS] = encoder.vit.pos_embed
    encoder.vit.load_state_dict(weights)
    return encoder


def encoder_facts(encoder: Encoder) -> dict[str, Any]:
    """Return what rebuilds an encoder without its weights, for a checkpoint's run.json."""
    facts = {"architecture": encoder.architecture, "model_args": encoder.model_args}
    return facts | {"mean": list(encoder.mean), "std": list(encoder.std)}


def rebuilt_encoder(config: ModelConfig, facts: Mapping[str, Any] | None) -> Encoder:
    """Rebuild the encoder of a checkpoint, without its weights, from `encoder_facts`; None builds what `config` describes."""
    if facts is None:
        return initial_encoder(config)
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    return build_encoder(facts["architecture"], facts["model_args"], initial_weights=False, mean=mean, std=std)


def _arguments(config: ModelConfig, image_size: int) -> dict[str, Any]:
    arguments = {"patch_size": config.patch_size, "img_size": image_size}
    return arguments | ({} if config.depth is None else {"depth": config.depth})
