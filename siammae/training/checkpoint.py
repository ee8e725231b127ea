"""Checkpoints: everything a run needs to go on exactly where it was, in a folder that appears whole or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATE = "run.json"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or does not belong to this run."""


def checkpoints(output: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = (path for path in output.glob("checkpoint-*") if path.suffix != ".tmp" and (path / STATE).exists())
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def write_checkpoint(
    output: Path,
    name: str,
    state: dict[str, Any],
    save: Callable[[Path], None],
    *,
    main: bool,
    wait: Callable[[], None],
) -> Path:
    """Write the folder `output/name` through a temporary one beside it.

    Args:
        state: written as run.json, last.
        save: writes tensors into the folder it is given; called by every process.
        main: whether this process makes, names and removes folders.
        wait: a barrier over all processes.

    Raises:
        CheckpointError: the disk refused; earlier checkpoints are untouched.
    """
    target, unfinished = output / name, output / f"{name}.tmp"
    try:
        if main:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        wait()
        save(unfinished)
        wait()
        if main:
            (unfinished / STATE).write_text(json.dumps(state, indent=1))
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
        wait()
    except (OSError, RuntimeError) as error:
        if main:
            shutil.rmtree(unfinished, ignore_errors=True)
        earlier = checkpoints(output)
        intact = f"; the newest whole checkpoint is {earlier[-1]}" if earlier else "; there is no earlier checkpoint"
        raise CheckpointError(f"could not write checkpoint {target}: {error}{intact}") from error
    return target


def remove_old(output: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints."""
    for path in checkpoints(output)[:-keep]:
        shutil.rmtree(path)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The run.json of a checkpoint.

    Raises:
        CheckpointError: the folder is no checkpoint.
    """
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is not a checkpoint: {error}") from error
    return state


def check_same_model(checkpoint: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to resume from another model's checkpoint.

    Raises:
        CheckpointError: the model sections differ; each difference is named.
    """
    different = [
        f"model.{key} is {wanted.get(key)!r}, the checkpoint's {stored.get(key)!r}"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key) != wanted.get(key)
    ]
    if different:
        raise CheckpointError(
            f"{checkpoint} is of another model: {'; '.join(different)}. Choose another output folder, "
            "or go on with the checkpoint's model"
        )
