"""The commands `siammae train` and `siammae export-run`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from siammae.cli.checks import Readable
from siammae.cli.options import Out, stop


def train(
    config: Annotated[Positional[Path], arg(metavar="CONFIG"), Readable("file")],
    values: Annotated[Positional[tuple[str, ...]], arg(metavar="KEY=VALUE")] = (),
) -> None:
    """Pretrain an encoder on videos; run it under torchrun or accelerate launch for several processes.

    Example: siammae train small.yaml data.path=videos output=runs/small max_minutes=60

    Args:
        config: YAML file with the settings, such as those in examples/training.
        values: Single values that replace the file's, such as model.decoder=cross.
    """
    from siammae.training.checkpoint import CheckpointError
    from siammae.training.config import load_config
    from siammae.training.loop import TrainingStopped
    from siammae.training.loop import train as run_training

    try:
        checkpoint = run_training(load_config(config, values))
    except (CheckpointError, TrainingStopped) as error:
        stop(str(error), 1)
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(f"checkpoint: {checkpoint}")
        print("\n".join(_next_steps(checkpoint)), file=sys.stderr)  # for people; programs read standard output


def _next_steps(checkpoint: Path) -> list[str]:
    """Return the commands that continue from a run that ended or was stopped."""
    from siammae.training.folder import describe_run

    facts = describe_run(checkpoint)
    run, progress = facts["run"], facts["progress"]
    lines = [f"stopped at {progress:.0%} of the run; the same command continues it"] if progress < 1 else []
    return [
        *lines,
        "next:",
        f"  siammae propagate VIDEO MASK -o masks --model {run}      # try it",
        f"  siammae evaluate davis DAVIS -o scores --model {run}     # measure it",
        f"  siammae export-run {run} -o MODEL --license LICENSE      # a model folder, for load_model and siammae push",
    ]


def export_run(
    run: Annotated[Positional[Path], arg(metavar="RUN"), Readable("training run")],
    out: Out,
    name: str | None = None,
    precision: Literal["float16", "float32"] = "float16",
    with_decoder: bool = False,
    architecture: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    data: str = "",
    overwrite: bool = False,
) -> None:
    """Write the encoder of a training run as a model folder: weights, config and card.

    Example: siammae export-run runs/small -o my-model --license cc-by-4.0 --data "My own videos."

    Args:
        run: Folder of a run (its newest checkpoint is taken), a checkpoint, or a snapshot.
        out: Folder for the model.
        name: Name of the model; the folder's name if not given.
        precision: Number type of the stored weights.
        with_decoder: Store the decoder too, for siammae reconstruct.
        architecture: timm's name of another architecture of the same size, to store the weights as.
        license: License of the weights, such as cc-by-4.0.
        base_model: Repo on the Hub, OWNER/NAME, of the model that the run started from, for the card.
        data: Sentences for the card about the training data and its licenses.
        overwrite: Replace the folder if it exists.
    """
    from siammae.training.checkpoint import CheckpointError
    from siammae.training.folder import describe_run, export

    try:
        folder = export(
            run, out, name=name, precision=precision, with_decoder=with_decoder, architecture=architecture, license=license,
            base_model=base_model, data=data, overwrite=overwrite,
        )  # fmt: skip
    except CheckpointError as error:
        stop(str(error), 2)
    facts = describe_run(run) if run.is_dir() else {}
    print(f"model: {folder}" + (f": {facts['architecture']}, {facts['past_frames']:,} past frames" if facts else ""))
    print(f"use it: siammae.load_model({str(out)!r}), or --model {out}")
