"""Export: from a checkpoint of a run to a model folder that `siammae.load_model` reads."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from siammae.encoder import Encoder
from siammae.files import atomic, atomic_folder, read_tensors, save_tensors
from siammae.models.card import model_card
from siammae.models.folder import DECODER_FILE, MODEL_FILES, read_model, rewrite_metadata, write_model
from siammae.models.load import load_model
from siammae.models.patches import with_architecture
from siammae.training.checkpoint import STATE, CheckpointError, checkpoints, read_state
from siammae.training.config import TrainConfig, config_from_dict, config_to_dict
from siammae.training.initial import rebuilt_encoder
from siammae.training.log import CURVE, draw_log, read_log
from siammae.training.model import ENCODER_PREFIX, SiamMAE, encoder_weights
from siammae.training.model_config import ModelConfig

_TARGETS = {"features": ", with a teacher's features as the target", "ema": ", with its own average's features as the target"}


def export(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    precision: Literal["float16", "float32"] = "float16",
    with_decoder: bool = False,
    architecture: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    changes: str = "",
    data: str = "",
    results: str = "",
    metrics: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the encoder of a checkpoint as a model folder: weights, config and card.

    Args:
        source: a checkpoint folder; a run's folder, for its newest checkpoint; or one of a run's snapshots, a
            .safetensors file. Where a run averages its weights, the average is taken.
        folder: the model folder to write; it appears whole or not at all.
        name: name of the model; by default the folder's name.
        precision: number type of the stored weights.
        with_decoder: keep what `load_siammae` needs to reconstruct frames, in decoder.safetensors.
        architecture: timm's name of another architecture of the same size; LayerScale that it lacks is folded into the linear
            layers, with equal features.
        license: license of the weights, such as cc-by-nc-4.0.
        base_model: repo on the Hub, owner/name, of the model that the run started from, for the card.
        changes: Markdown for the card: changes made to that model, and where it was obtained.
        data: Markdown for the card: the training data, with licenses.
        results: Markdown for the card: measured results, with protocol and command.
        metrics: numbers for the config's `siammae` section.
        overwrite: replace `folder` if it exists.

    Raises:
        CheckpointError: `source` is no checkpoint, or a snapshot is asked for its decoder.
        ValueError: the weights do not fit `architecture`.
        FileExistsError: `folder` exists and `overwrite` is not set, or it holds other files too.
    """
    target = Path(folder).absolute()
    with atomic_folder(target, overwrite=overwrite, files={*MODEL_FILES, CURVE, DECODER_FILE}) as draft:
        run, step, config, encoder, weights = _read(Path(source))
        encoder.vit.load_state_dict(encoder_weights(weights))
        settings = replace(config.model, teacher=_without_folders(config.model.teacher))
        if architecture is not None:
            encoder, settings = with_architecture(encoder, architecture), replace(settings, architecture=architecture)
        encoder.name = name or target.name
        encoder.metadata = {
            "license": license,
            "base_model": base_model,
            "changes": changes or None,
            "data": data,
            "training": _summary(run, step, config),
            "results": results,
            "metrics": dict(metrics or {}),
            "decoder": asdict(settings) if with_decoder else None,
        }
        encoder.to(dtype=getattr(torch, precision))
        draw_log(run)
        picture = CURVE if (run / CURVE).exists() else None
        write_model(encoder, draft, card=model_card(encoder, picture=picture))
        if picture:
            shutil.copyfile(run / CURVE, draft / CURVE)
        if with_decoder:
            save_decoder(draft / DECODER_FILE, weights, encoder.dtype)
    return target


def is_run(source: str | os.PathLike[str]) -> bool:
    """Check whether a path is a training run's folder, one of its checkpoints or one of its snapshots."""
    path = Path(source)
    if path.suffix == ".safetensors":
        return path.is_file() and path.parent.name == "snapshots" and bool(checkpoints(path.parent.parent))
    return (path / STATE).is_file() or bool(checkpoints(path))


def load_run(source: str | os.PathLike[str], **options: Any) -> Encoder:
    """Load the encoder of a training run, as it would be exported, in eval mode.

    Args:
        source: a run's folder, a checkpoint or a snapshot, as for `export`.
        options: options of `siammae.load_model`.

    Raises:
        CheckpointError: `source` is no checkpoint.
    """
    with tempfile.TemporaryDirectory() as draft:
        folder = export(source, Path(draft) / "model", name=Path(source).absolute().name, precision="float32")
        return load_model(folder, **options)


def describe_run(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts of a run: its newest checkpoint, the training so far, loss, configuration, and files.

    Args:
        source: a run's folder, or one of its checkpoints.

    Raises:
        CheckpointError: `source` is no checkpoint.
    """
    path = Path(source)
    newest = path if (path / STATE).is_file() else next(reversed(checkpoints(path)), path)
    state = read_state(newest)
    run, config = newest.parent, config_from_dict(state["config"])
    log = [entry for entry in read_log(run) if entry["step"] <= state["step"]]
    summary = _summary(run, state["step"], config)
    return {
        "run": str(run),
        "checkpoint": newest.name,
        "progress": log[-1]["progress"] if log else 0.0,
        **{key: summary[key] for key in ("steps", "past_frames", "pairs", "minutes", "loss", "method")},
        "architecture": config.model.architecture,
        "patch_size": config.model.patch_size,
        "data": config.data.path,
        "checkpoints": [found.name for found in checkpoints(run)],
        "snapshots": len(list(run.glob("snapshots/*.safetensors"))),
        "skipped": len(state["skipped"]),
        "config": config_to_dict(config),
    }


def add_decoder(source: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Put the decoder of a run with `init` and `freeze_encoder` into the model folder that the run started from.

    Args:
        source: a checkpoint folder, or a run's folder, for its newest checkpoint.
        folder: the model folder; it gets decoder.safetensors, and its config and card say how that was trained.

    Raises:
        CheckpointError: `source` is no checkpoint, or its encoder is not that of the folder.
    """
    path = Path(folder)
    run, step, config, _, weights = _read(Path(source))
    encoder, trained = read_model(path), encoder_weights(weights)
    known = {**encoder.vit.state_dict(), "pos_embed": trained["pos_embed"]}  # a fixed table, and in a folder a rounded one
    if trained.keys() != known.keys() or not all(torch.equal(trained[key], value.float()) for key, value in known.items()):
        raise CheckpointError(f"the encoder in {source} is not that of {path}; train with init={path} freeze_encoder=true")
    summary = _summary(run, step, config)
    encoder.metadata["decoder"] = asdict(config.model)
    encoder.metadata["decoder_training"] = {key: summary[key] for key in ("steps", "past_frames", "pairs", "minutes", "loss")}
    save_decoder(path / DECODER_FILE, weights, torch.float16)
    return rewrite_metadata(path, encoder)


def save_decoder(path: Path, weights: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Write the decoder's weights: all of a SiamMAE's that are not the encoder's."""
    decoder = {key: value.to(dtype).contiguous() for key, value in weights.items() if not key.startswith(ENCODER_PREFIX)}
    if not decoder:
        raise CheckpointError("a snapshot holds only the encoder; export a checkpoint to keep the decoder")
    with atomic(path) as draft:
        save_tensors(draft, decoder)


def load_siammae(folder: str | os.PathLike[str]) -> SiamMAE:
    """Load the whole model, decoder included, from a folder exported with `with_decoder`, in evaluation mode.

    Raises:
        CheckpointError: the folder has no decoder.
    """
    path = Path(folder)
    encoder = load_model(str(path), device="cpu")
    stored = encoder.metadata.get("decoder")
    if not stored or not (path / DECODER_FILE).exists():
        raise CheckpointError(f"{path} has no decoder; export it with with_decoder=True")
    decoder = {key: value.float() for key, value in read_tensors(path / DECODER_FILE).items()}
    statistics = decoder.get("standardizer.mean")
    model = SiamMAE(encoder, ModelConfig(**stored), teacher_width=None if statistics is None else len(statistics))
    encoder_keys = {key for key in model.state_dict() if key.startswith(ENCODER_PREFIX)}
    missing, unexpected = model.load_state_dict(decoder, strict=False)
    if set(missing) != encoder_keys or unexpected:
        raise CheckpointError(f"{path / DECODER_FILE} does not fit its config: {sorted(set(missing) - encoder_keys)[:3]}")
    return model.eval()


def _read(source: Path) -> tuple[Path, int, TrainConfig, Encoder, dict[str, Tensor]]:
    """Read the run's folder, the step, the config, an encoder without its weights, and the weights by a SiamMAE's names."""
    if source.suffix == ".safetensors":
        run = source.parent.parent
        found = checkpoints(run)
        if not found:
            raise CheckpointError(
                f"{run} has no checkpoint, so the model of {source.name} is unknown; keep at least one checkpoint of the run"
            )
        state = read_state(found[-1])
        config = config_from_dict(state["config"])
        step = int(source.stem.rpartition("-")[2])
        encoder = rebuilt_encoder(config.model, state.get("encoder"))
        return run, step, config, encoder, {ENCODER_PREFIX + key: value for key, value in read_tensors(source).items()}
    if not (source / STATE).exists() and checkpoints(source):
        source = checkpoints(source)[-1]
    state = read_state(source)
    config = config_from_dict(state["config"])
    return source.parent, state["step"], config, rebuilt_encoder(config.model, state.get("encoder")), _weights(source)


def _weights(checkpoint: Path) -> dict[str, Tensor]:
    """Read a checkpoint's weights, whole however many processes wrote them, averaged where the run averages."""
    sharded = checkpoint / "pytorch_model_fsdp_0"
    if sharded.is_dir():
        from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

        with tempfile.TemporaryDirectory() as draft:
            dcp_to_torch_save(sharded, Path(draft) / "whole.pt")
            weights: dict[str, Tensor] = torch.load(Path(draft) / "whole.pt", weights_only=True)["model"]
            return weights
    weights = read_tensors(checkpoint / "model.safetensors")
    average = checkpoint / "custom_checkpoint_0.pkl"
    if average.exists():
        averaged = torch.load(average, map_location="cpu", weights_only=True)
        weights |= {key: value for path, value in averaged.items() if (key := path.removeprefix("module.")) in weights}
    return weights


def _without_folders(name: str) -> str:
    """Return a model's name as it is, or the last name of a path, since folders mean nothing elsewhere."""
    return name if ":" in name else Path(name).name


def _summary(run: Path, step: int, config: TrainConfig) -> dict[str, Any]:
    """Return the facts of a training, for the config and the card."""
    log = read_log(run)
    then = min(log, key=lambda entry: abs(entry["step"] - step), default=None)  # only every few steps are logged
    return {
        "method": "SiamMAE (Gupta et al., NeurIPS 2023)" + _TARGETS.get(config.model.target, ""),
        "steps": step,
        "past_frames": step * config.batch_size,
        "pairs": step * config.batch_size * config.model.futures,
        "minutes": round(then["seconds"] / 60, 1) if then else None,
        "loss": then["loss"] if then else None,
        "model": {**asdict(config.model), "teacher": _without_folders(config.model.teacher) or None},
        "init": _without_folders(config.init) or None,
        "gap_seconds": list(config.data.gap),
        "crop_scale": list(config.data.scale),
        "crop_jitter": config.data.jitter,
        "batch_size": config.batch_size,
        "optimizer": config.optim.kind,
        "base_lr": config.optim.base_lr,
        "encoder_lr": config.optim.encoder_lr,
        "layer_decay": config.optim.layer_decay,
        "motion": config.data.motion,
        "ema": config.optim.ema,
        "precision": config.precision,
        "seed": config.seed,
    }
