"""The masks of a video as a folder of PNG files: written one by one, in flat memory, and resumable after an interruption.

The folder holds a mask for each frame, and the record `siammae.json`, which says how they were made.
"""

import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siammae import __version__
from siammae.encoder import Encoder
from siammae.files import atomic, read_tensors, remove_drafts, save_tensors
from siammae.geometry import InputSize
from siammae.labels.masks import Mask, MaskLike, as_mask, write_mask
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import ConfigLike, as_config
from siammae.propagation.masks import LabelPropagator
from siammae.propagation.walk import check_start, walk
from siammae.video.frames import Frames, FrameSource, read_frames

RECORD_FILE = "siammae.json"
STATE_FILE = ".siammae-state.safetensors"

SECONDS_BETWEEN_STATES = 20.0


def propagate_to_folder(
    frames: FrameSource,
    mask0: MaskLike,
    folder: str | os.PathLike[str],
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    config: ConfigLike = None,
    start: int = 0,
    void_id: int | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Path:
    """Write the mask of every frame of a video as an indexed PNG.

    Args:
        frames, mask0, model, size, config, start, void_id, progress: see `siammae.propagate_labels`; soft labels are refused.
        folder: folder for one PNG for each frame, named after the frame's own file or numbered 00000 and up, with the palette
            of `mask0` or DAVIS's. It is made if missing.
        resume: go on where an interrupted propagation into the same folder, with the same settings, stopped.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder holds masks already and `resume` is off.
        ValueError: `resume` with other settings than before; and the errors of `propagate_labels`.
    """
    source, mask, encoder, target = read_frames(frames), as_mask(mask0), as_encoder(model), Path(folder)
    if mask.soft:
        raise ValueError("soft labels cannot be written as PNG masks; use siammae.propagate_labels")
    check_start(source, start)
    if source.folder is not None and source.folder.resolve() == target.resolve():
        raise ValueError(f"{target} is the folder of the frames; choose another for the masks")
    settings = _settings(source, mask, encoder, size, config, start, void_id)
    if _open_folder(target, settings, resume):
        return target
    state = read_tensors(target / STATE_FILE) if (target / STATE_FILE).exists() else {}
    done = int(state["position"]) if state else -1
    saved_at = time.monotonic()
    for position, (index, frame, begins) in enumerate(walk(source, start, progress)):
        ids = mask.values
        if begins:
            propagator = LabelPropagator(frame, mask, encoder, size=size, config=config, void_id=void_id)
        elif position > done:
            ids = propagator.step(frame)
        if position == done:
            propagator.load_state_dict(state)
        if position <= done:
            continue
        write_mask(target / f"{source.name(index)}.png", ids, mask.palette)
        if position == 0 or time.monotonic() - saved_at > SECONDS_BETWEEN_STATES:
            _write_state(target, propagator, position)
            saved_at = time.monotonic()
    _write_record(target, settings, finished=True)
    (target / STATE_FILE).unlink(missing_ok=True)
    return target


def read_folder(frames: Frames, folder: str | os.PathLike[str]) -> Iterator[tuple[Tensor, NDArray[Any]]]:
    """Yield each frame [3, H, W] with its mask [H, W] from a folder that `propagate_to_folder` wrote, while there are masks."""
    names = frames.names or map(frames.name, itertools.count())
    masks = itertools.takewhile(Path.exists, (Path(folder) / f"{name}.png" for name in names))
    for mask, frame in zip(masks, frames, strict=False):
        yield frame, as_mask(mask, empty=True).values


def _settings(
    source: Frames,
    mask: Mask,
    encoder: Encoder,
    size: InputSize,
    config: ConfigLike,
    start: int,
    void_id: int | None,
) -> dict[str, Any]:
    """Collect all settings that decide the masks; a resumed propagation must agree in all of them."""
    settings = {
        "siammae": __version__,
        "frames": str(Path(source.label).resolve()) if Path(source.label).exists() else source.label,
        "on_damage": source.on_damage,
        "mask_sha256": hashlib.sha256(np.ascontiguousarray(mask.values).tobytes()).hexdigest(),
        "model": encoder.name,
        "weights_sha256": encoder.digest(),
        "size": size,
        "start": start,
        "void_id": void_id,
        "config": asdict(as_config(config, encoder)),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _open_folder(folder: Path, settings: Mapping[str, Any], resume: bool) -> bool:
    """Prepare the folder; returns True if it holds all masks already."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_drafts(folder)
    record = folder / RECORD_FILE
    if not any(folder.glob("*.png")):
        (folder / STATE_FILE).unlink(missing_ok=True)
        _write_record(folder, settings, finished=False)
        return False
    if not resume:
        raise FileExistsError(
            f"{folder} holds masks already; choose another folder, empty it, or resume the propagation that made them"
        )
    if not record.exists():
        raise FileExistsError(f"{folder} holds pictures but no {RECORD_FILE}, so nothing can be resumed; choose another folder")
    return bool(read_record(record, settings)["finished"])


def read_record(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read the record of a folder; ValueError if it is damaged, or made with other settings than these."""
    try:
        before: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged, so it cannot be resumed: {error}; choose another folder") from error
    changed = [f"{key} was {before.get(key)}, now {value}" for key, value in settings.items() if before.get(key) != value]
    if changed:
        raise ValueError(f"{path.parent} was made with other settings and cannot be resumed: {'; '.join(changed)}")
    return before


def _write_record(folder: Path, settings: Mapping[str, Any], *, finished: bool) -> None:
    with atomic(folder / RECORD_FILE) as draft:
        draft.write_text(json.dumps({**settings, "finished": finished}, indent=2) + "\n")


def _write_state(folder: Path, propagator: LabelPropagator[Any], position: int) -> None:
    with atomic(folder / STATE_FILE) as draft:
        save_tensors(draft, {**propagator.state_dict(), "position": torch.tensor(position, device="cpu")})
