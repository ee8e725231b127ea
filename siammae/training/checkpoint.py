"""Checkpoints: everything a run needs to go on exactly where it was, in a folder that appears whole or not at all."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siammae.files import atomic_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

STATE = "run.json"
RETIRED = "streams", "shuffle_buffer"  # fields of data.shards that configurations no longer have


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read, or that belongs to another run."""


def checkpoints(output: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    return sorted((state.parent for state in output.glob(f"checkpoint-*/{STATE}")), key=lambda path: int(path.name[11:]))


def write_checkpoint(target: Path, state: dict[str, Any], accelerator: "Accelerator") -> None:
    """Write a checkpoint folder; called by every process, each of which writes its own tensors.

    Args:
        target: the folder; it appears whole or not at all.
        state: written as run.json.
        accelerator: saves models, optimizers and random states.

    Raises:
        CheckpointError: the disk refused; earlier checkpoints are untouched.
    """
    from accelerate.utils import broadcast_object_list

    try:
        with ExitStack() as stack:
            draft = stack.enter_context(atomic_folder(target, overwrite=True)) if accelerator.is_main_process else None
            folder = broadcast_object_list([draft])[0]
            accelerator.save_state(str(folder))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                (folder / STATE).write_text(json.dumps(state, indent=1))
        accelerator.wait_for_everyone()
    except (OSError, RuntimeError) as error:
        earlier = checkpoints(target.parent)
        intact = f"; the newest whole checkpoint is {earlier[-1]}" if earlier else "; there is no earlier checkpoint"
        raise CheckpointError(f"could not write checkpoint {target}: {error}{intact}") from error


def remove_old(output: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints."""
    for path in checkpoints(output)[:-keep]:
        shutil.rmtree(path)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Read the run.json of a checkpoint.

    Raises:
        CheckpointError: the folder is no checkpoint.
    """
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is not a checkpoint: {error}") from error
    shards = state.get("config", {}).get("data", {}).get("shards", {})
    for name in RETIRED:
        shards.pop(name, None)
    return state


def check_same_model(checkpoint: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to resume from a checkpoint of another model.

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
