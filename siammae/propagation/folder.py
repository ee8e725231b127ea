"""The masks of a video as a folder of PNG files: written one by one, in flat memory, and resumable after an interruption.

The folder holds a mask for each frame, and the record `siammae.json`, which says how they were made.
"""

import hashlib
import itertools
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siammae import __version__
from siammae.encoder import Encoder
from siammae.errors import whole_number
from siammae.files import atomic, locked, read_tensors, remove_drafts, save_tensors
from siammae.geometry import InputSize, as_size
from siammae.labels.masks import Mask, MaskLike, as_mask, write_mask
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import ConfigLike, as_config
from siammae.propagation.masks import VOID_ID, LabelPropagator, given_scores
from siammae.propagation.table import SCORES_FILE, ScoreTable, has_rows
from siammae.propagation.walk import check_start, walk
from siammae.video.frames import Frames, FrameSource, read_frames

RECORD_FILE = "siammae.json"
STATE_FILE = ".siammae-state.safetensors"

SECONDS_BETWEEN_STATES = 20.0


def propagate_to_folder(
    frames: FrameSource,
    mask0: MaskLike | Mapping[int, MaskLike],
    folder: str | os.PathLike[str],
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    config: ConfigLike = None,
    start: int = 0,
    void_id: int | None = None,
    resume: bool = False,
    restart: bool = False,
    progress: bool | None = None,
) -> Path:
    """Write the mask of every frame of a video as an indexed PNG, and the scores of the objects as `scores.csv`.

    The table has the columns frame, object, score, lost (0 or 1), area (pixels) and box (left top right bottom, the last two
    exclusive); see `siammae.propagation.Scores`.

    Args:
        frames, model, size, config, start, void_id, progress: see `siammae.propagate_labels`.
        mask0: the mask of frame `start`; or masks by the numbers of their frames, when `start` is left out: propagation begins
            at the first of them, each of the others is an anchor from its frame on (`LabelPropagator.add`), and the frames
            before the first get their masks backwards from it. Soft labels are refused.
        folder: folder for one PNG for each frame, named after the frame's own file or numbered 00000 and up, with the palette
            of the first mask or DAVIS's. It is made if missing.
        resume: go on where an interrupted propagation into the same folder, with the same settings, stopped. Masks that are
            missing from it, or broken, are made again, with a warning that names them.
        restart: start over, if the folder holds an unfinished propagation with other settings. One that had written no mask
            but that of the first anchor is started over in any case, with a warning.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder holds masks already and `resume` is off; or another propagation writes into it now.
        ValueError: `resume` with other settings than before; and the errors of `propagate_labels`.
    """
    source, encoder, target = read_frames(frames), as_encoder(model), Path(folder)
    start, void_id, anchors = check_start(source, start), whole_number(void_id, *VOID_ID), _anchors(mask0, start)
    start, mask = next(iter(anchors.items()))
    check_start(source, start)
    if source.length is not None and max(anchors) >= source.length > start:
        raise ValueError(f"a mask is given for frame {max(anchors)}, but {source.label} has only {source.length} frames")
    if source.folder is not None and source.folder.resolve() == target.resolve():
        raise ValueError(f"{target} is the folder of the frames; choose another for the masks")
    settings = _settings(source, anchors, encoder, size, config, start, void_id)
    target.mkdir(parents=True, exist_ok=True)
    with locked(target):
        state, kept = _open_folder(target, settings, source, mask.size, resume=resume, restart=restart)
        if state is None:
            return target
        done = int(state["position"]) if state else -1
        saved_at, count, left = time.monotonic(), 0, set(anchors)
        table = ScoreTable(target, done + 1)
        for position, (index, frame, begins) in enumerate(walk(source, start, progress)):
            count, number = max(count, index + 1), source.number(index)
            left.discard(number)
            if begins:
                propagator = LabelPropagator(frame, mask, encoder, size=size, config=config, void_id=void_id)
                ids, scores = mask.values, given_scores(mask, propagator.scores)
            elif position > done and number in anchors:
                propagator.add(frame, anchors[number])
                ids, scores = anchors[number].values, given_scores(anchors[number], propagator.scores)
            elif position > done:
                ids = propagator.step(frame)
                scores = propagator.scores
            if position == done:
                propagator.load_state_dict(state)
            name = source.name(index)
            if position > done and not (begins and position):
                table.write(position, number, scores)
            if position <= done or name in kept:
                continue
            write_mask(target / f"{name}.png", ids, mask.palette)
            if position == 0 or time.monotonic() - saved_at > SECONDS_BETWEEN_STATES:
                _write_state(target, propagator, position)
                saved_at = time.monotonic()
        if left and source.number(count - 1) > max(left):
            raise ValueError(f"a mask is given for frame {min(left)} of {source.label}, which is damaged and was skipped")
        if left:
            raise ValueError(f"a mask is given for frame {max(anchors)}, but {source.label} has only {count} frames")
        table.finish()
        _write_record(target, settings, finished=True, masks=count)
        (target / STATE_FILE).unlink(missing_ok=True)
    return target


def read_folder(frames: Frames, folder: str | os.PathLike[str]) -> Iterator[tuple[Tensor, NDArray[Any]]]:
    """Yield each frame [3, H, W] with its mask [H, W] from a folder that `propagate_to_folder` wrote, while there are masks."""
    names = frames.names or map(frames.name, itertools.count())
    masks = itertools.takewhile(Path.exists, (Path(folder) / f"{name}.png" for name in names))
    for mask, frame in zip(masks, frames, strict=False):
        yield frame, as_mask(mask, empty=True).values


def _anchors(mask0: MaskLike | Mapping[int, MaskLike], start: int) -> dict[int, Mask]:
    """Return the masks by the numbers of their frames, ascending, with ids of one type; ValueError if they do not fit."""
    if isinstance(mask0, Mapping) and start:
        raise ValueError(f"start is {start}, and masks are given by the numbers of their frames; leave start out")
    given = mask0 if isinstance(mask0, Mapping) else {start: mask0}
    if not given:
        raise ValueError("no masks are given; expected one at least")
    numbers = {whole_number(number, "the number of a mask's frame", "a whole number"): mask for number, mask in given.items()}
    if min(numbers) < 0:
        raise ValueError(f"a mask is given for frame {min(numbers)}; expected the number of a frame, 0 or more")
    masks = {number: as_mask(mask, empty=number != min(numbers)) for number, mask in sorted(numbers.items())}
    first = next(iter(masks.values()))
    for number, mask in masks.items():
        if mask.soft:
            raise ValueError("soft labels cannot be written as PNG masks; use siammae.propagate_labels")
        if mask.size != first.size:
            sizes = [f"{size[0]} x {size[1]}" for size in (mask.size, first.size)]
            raise ValueError(f"the mask of frame {number} is {sizes[0]} pixels, the first mask {sizes[1]} (height x width)")
    kind = np.result_type(*(mask.values.dtype for mask in masks.values()))
    return {
        number: replace(mask, values=mask.values.astype(kind, copy=False), form="numpy", dtype=kind)
        for number, mask in masks.items()
    }


def _settings(
    source: Frames,
    anchors: Mapping[int, Mask],
    encoder: Encoder,
    size: InputSize,
    config: ConfigLike,
    start: int,
    void_id: int | None,
) -> dict[str, Any]:
    """Collect all settings that decide the masks; a resumed propagation must agree in all of them."""
    digests = {
        number: hashlib.sha256(np.ascontiguousarray(mask.values).tobytes()).hexdigest() for number, mask in anchors.items()
    }
    settings = {
        "siammae": __version__,
        "frames": str(Path(source.label).resolve()) if Path(source.label).exists() else source.label,
        "on_damage": source.on_damage,
        "names": source.names and hashlib.sha256("\n".join(source.names).encode()).hexdigest(),
        "mask_sha256": digests if len(digests) > 1 else digests[start],
        "model": encoder.name,
        "weights_sha256": encoder.digest(),
        "size": as_size(size),
        "start": start,
        "void_id": void_id,
        "config": asdict(as_config(config, encoder)),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _open_folder(
    folder: Path, settings: Mapping[str, Any], source: Frames, size: tuple[int, int], *, resume: bool, restart: bool
) -> tuple[dict[str, Tensor] | None, set[str]]:
    """Prepare the folder.

    Returns:
        The state to go on from, empty to begin at the first frame, or None if all masks are there; and the names of frames
        whose masks need not be written.
    """
    remove_drafts(folder)
    record, written = folder / RECORD_FILE, sorted(folder.glob("*.png"))
    if not written:
        return _begin(folder, settings), set()
    if not record.exists():
        raise FileExistsError(f"{folder} holds pictures but no {RECORD_FILE}, so nothing can be resumed; choose another folder")
    before = _load_record(record)
    changed = _differences(before, settings)
    if not before["finished"] and (len(written) == 1 or (restart and changed)):
        if changed or not resume:
            _remove(written, source)
            reason = f"with other settings ({'; '.join(changed)})" if changed else "but had only its first mask"
            warnings.warn(f"{folder} was started {reason}; it is started over", stacklevel=3)
            return _begin(folder, settings), set()
    elif not resume:
        raise FileExistsError(
            f"{folder} holds masks already; choose another folder, empty it, or resume the propagation that made them"
        )
    read_record(record, settings)
    return _resume(folder, before, settings, source, size)


def _begin(folder: Path, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    (folder / STATE_FILE).unlink(missing_ok=True)
    _write_record(folder, settings, finished=False)
    return {}


def _remove(written: Sequence[Path], source: Frames) -> None:
    """Remove the masks of another run; FileExistsError if there are pictures that it cannot have written."""
    others = [path.name for path in written if not path.stem.isdecimal() and path.stem not in (source.names or ())]
    if others:
        raise FileExistsError(f"{written[0].parent} holds other pictures too ({', '.join(others[:3])}); choose another folder")
    for path in written:
        path.unlink()


def _resume(
    folder: Path, before: Mapping[str, Any], settings: Mapping[str, Any], source: Frames, size: tuple[int, int]
) -> tuple[dict[str, Tensor] | None, set[str]]:
    """Look at the masks that should be there; returns what `_open_folder` does."""
    state = read_tensors(folder / STATE_FILE) if (folder / STATE_FILE).exists() else {}
    if before["finished"]:
        numbers: Iterable[int] = range(before["masks"])
    else:
        numbers = _visited(int(state["position"]) if state else -1, before["start"], source)
    names = [source.name(number) for number in numbers]
    bad = [name for name in names if not _is_whole(folder / f"{name}.png", size)]
    scored = (folder / SCORES_FILE).exists() if before["finished"] else has_rows(folder, map(source.number, numbers))
    if not bad and scored:
        return (None if before["finished"] else state), set()
    if not bad:
        warnings.warn(f"{folder}: the table of scores was missing or broken and is made again", stacklevel=4)
        return _begin(folder, settings), set(names)
    named = ", ".join(f"{name}.png" for name in bad[:5]) + (", ..." if len(bad) > 5 else "")
    warnings.warn(f"{folder}: {len(bad)} masks were missing or broken and are made again: {named}", stacklevel=4)
    return _begin(folder, settings), set(names) - set(bad)


def _visited(position: int, start: int, source: Frames) -> list[int]:
    """Return the numbers of the frames that `walk` has visited up to a position."""
    forwards = len(source) - start if start else position + 1
    return [start + place if place < forwards else start - (place - forwards) for place in range(position + 1)]


def _is_whole(path: Path, size: tuple[int, int]) -> bool:
    """Tell if a mask can be read and has its frame's size."""
    try:
        return as_mask(path, empty=True).size == size
    except (FileNotFoundError, ValueError):
        return False


def read_record(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read the record of a folder; ValueError if it is damaged, or made with other settings than these."""
    before = _load_record(path)
    if changed := _differences(before, settings):
        raise ValueError(f"{path.parent} was made with other settings and cannot be resumed: {'; '.join(changed)}")
    return before


def _load_record(path: Path) -> dict[str, Any]:
    try:
        before: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged, so it cannot be resumed: {error}; choose another folder") from error
    return before


def _differences(before: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    return [f"{key} was {before.get(key)}, now {value}" for key, value in settings.items() if before.get(key) != value]


def _write_record(folder: Path, settings: Mapping[str, Any], **progress: Any) -> None:
    with atomic(folder / RECORD_FILE) as draft:
        draft.write_text(json.dumps({**settings, **progress}, indent=2) + "\n")


def _write_state(folder: Path, propagator: LabelPropagator[Any], position: int) -> None:
    with atomic(folder / STATE_FILE) as draft:
        save_tensors(draft, {**propagator.state_dict(), "position": torch.tensor(position, device="cpu")})
