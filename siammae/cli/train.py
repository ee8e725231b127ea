"""The command `siammae train`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from siammae.cli.checks import Readable
from siammae.cli.options import stop


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
        print(f"checkpoint: {run_training(load_config(config, values))}")
    except (CheckpointError, TrainingStopped) as error:
        stop(str(error), 1)
