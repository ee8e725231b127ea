"""accelerate, set up from a run's configuration: processes, precision, sharding and trackers."""

from typing import TYPE_CHECKING, Any

from siammae.training.config import TrainConfig
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
        from accelerate.tracking import get_available_trackers
        from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
    except ImportError as error:
        raise ImportError('training needs accelerate; install it with: pip install "siammae[train]"') from error

    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run in this process may have other settings
    available = [str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()]
    missing = [name for name in config.trackers if name not in available]
    if missing:
        raise ValueError(f"trackers {', '.join(missing)} are not installed; here: {', '.join(available) or 'none'}")
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
        accelerator.init_trackers("siammae")
    return accelerator
