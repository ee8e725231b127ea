"""accelerate, set up from a run's configuration: processes, precision, sharding and trackers."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siammae.training.config import TrainConfig, config_to_dict
from siammae.training.decoder import BLOCKS

if TYPE_CHECKING:
    from accelerate import Accelerator


def build_accelerator(config: TrainConfig) -> "Accelerator":
    """Build accelerate's object for a single process, DDP or FSDP2.

    Raises:
        ImportError: accelerate is missing.
        ValueError: a tracker is not installed, or FSDP2 is asked for where it cannot run.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
    except ImportError as error:
        raise ImportError('training needs accelerate; install it with: pip install "siammae[train]"') from error

    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run in this process may have other settings
    _check_trackers(config.trackers)
    options: dict[str, Any] = {}
    if config.fsdp:
        options["fsdp_plugin"] = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["Block", BLOCKS[config.model.decoder].__name__],  # each gathered on its own
            state_dict_type="SHARDED_STATE_DICT",
        )
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if config.precision == "bfloat16" else "no",
        gradient_accumulation_steps=config.accumulation,
        log_with=list(config.trackers) or None,
        project_dir=config.output,
        **options,
    )
    if config.fsdp and accelerator.distributed_type != DistributedType.FSDP:
        raise ValueError(
            f"fsdp=true shards over several GPUs; this launch is {accelerator.distributed_type.value} with "
            f"{accelerator.num_processes} process(es). Launch with torchrun --nproc-per-node=GPUS, or set fsdp=false"
        )
    if config.trackers:
        _start_trackers(accelerator, config)
    return accelerator


def _check_trackers(names: tuple[str, ...]) -> None:
    """Raise ValueError for trackers that are not installed, with the command that installs them."""
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import LoggerType

    known = [str(tracker.value) for tracker in LoggerType if tracker != LoggerType.ALL]
    available = [str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()]
    missing = [name for name in names if name not in available]
    if missing:
        installable = [name for name in missing if name in known]
        remedy = f"install with: pip install {' '.join(installable)}" if installable else f"accelerate knows {', '.join(known)}"
        raise ValueError(f"trackers {', '.join(missing)} are not installed; {remedy}")


def _start_trackers(accelerator: "Accelerator", config: TrainConfig) -> None:
    """Open the run in its trackers, with its configuration; a resumed run goes on in the same one of Weights & Biases."""
    folder = Path(config.output).absolute()
    name = config.name or folder.name
    identity = f"{name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    wandb = {"name": name, "id": identity, "resume": "allow", "dir": str(folder)}
    folder.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers(config.project, dict(_flat(config_to_dict(config))), {"wandb": wandb})


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings by their full names, lists as text, without those that are not set."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, str(value) if isinstance(value, list) else value
