"""The configuration of a training run: a YAML file, `key=value` overrides, and errors that name the closest field."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from siammae.training.model_config import ModelConfig


@dataclass(frozen=True)
class DataConfig:
    """Where pairs come from and how they are drawn."""

    path: str = ""  # a folder, a file, a list of paths in a .txt file, or a tar pattern (shard-{0000..0099}.tar)
    kind: Literal["videos", "frames", "images", "shards"] = "videos"
    gap: tuple[float, float] = (4 / 30, 48 / 30)  # seconds between the frames; the paper: 4 to 48 frames at 30 per second
    fps: float = 30.0  # rate of frame folders and of frames in shards, which do not say it themselves
    scale: tuple[float, float] = (0.5, 1.0)  # area of the crop as a share of the frame's
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the crop before it is resampled to a square
    local_scale: tuple[float, float] = (0.3, 1.0)  # images: area of the masked crop as a share of the visible one's
    jitter: float = 0.0  # videos: how far each future's crop moves and grows or shrinks, in shares of its sides; the paper: 0
    # cached videos: share of changed cells from which on a pair is always kept; a stiller one is kept more rarely; 0 keeps all
    motion: float = 0.0
    flip: float = 0.5  # share of samples mirrored left to right
    repeats: int = 2  # samples drawn from one opened file
    workers: int = 4  # loader processes for each training process; 0 loads in the training process itself
    shuffle_buffer: int = 1000  # shards: clips held back in each process to be mixed
    streams: int = 8  # shards: readers of each process, shared out over its workers
    # decode every video once and keep the frames: in a file mapped into memory | host memory | the device's memory
    cache: Literal["none", "disk", "host", "device"] = "none"
    cache_folder: str = ""  # where decoded frames are kept on disk
    cache_short_side: int = 208  # pixels
    cache_fps: float = 8.0

    def __post_init__(self) -> None:
        if self.kind not in ("videos", "frames", "images", "shards"):
            raise ValueError(f"data.kind is {self.kind!r}; expected videos, frames, images or shards")
        if self.cache not in ("none", "disk", "host", "device"):
            raise ValueError(f"data.cache is {self.cache!r}; expected none, disk, host or device")
        if not 0 < self.gap[0] <= self.gap[1]:
            raise ValueError(f"data.gap is {list(self.gap)}; expected seconds, 0 < shortest <= longest")
        for name, (smallest, largest) in (("scale", self.scale), ("local_scale", self.local_scale)):
            if not 0 < smallest <= largest <= 1:
                raise ValueError(f"data.{name} is {[smallest, largest]}; expected 0 < smallest <= largest <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"data.ratio is {list(self.ratio)}; expected 0 < narrowest <= widest")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"data.jitter is {self.jitter:g}; expected a share, 0 to below 1")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"data.flip is {self.flip:g}; expected a share, 0 to 1")
        if not 0 <= self.motion <= 1 or (self.motion and self.cache == "none"):
            raise ValueError(f"data.motion is {self.motion:g}; expected a share, 0 to 1, and with more than 0 a data.cache")
        if min(self.repeats, self.shuffle_buffer, self.streams) < 1 or self.workers < 0:
            raise ValueError("data.repeats, data.shuffle_buffer and data.streams are at least 1, data.workers at least 0")
        if self.cache != "none" and (self.kind != "videos" or not self.cache_folder):
            raise ValueError("data.cache works with data.kind=videos and needs a data.cache_folder")
        if self.cache_fps <= 0 or self.fps <= 0 or self.cache_short_side < 1:
            raise ValueError("data.fps, data.cache_fps and data.cache_short_side must be above 0")


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser and its learning rate."""

    kind: Literal["adamw", "muon"] = "adamw"  # the paper's | Muon for the matrices, AdamW for the rest: learns faster early on
    base_lr: float = 1.5e-4  # learning rate for a batch of 256; the rate used is base_lr * batch_size / 256
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05  # not on norms, biases and tokens
    warmup: float = 0.1  # share of the run in which the rate rises from 0; the paper: 40 of 400 epochs, 40 of 2000
    encoder_lr: float = 1.0  # the encoder's rate as a share of the decoder's, for encoders that start from trained weights
    layer_decay: float = 1.0  # how much smaller the rate of each block is than that of the next one
    clip: float | None = None  # largest norm of the gradient
    ema: float | None = None  # decay of an average of the weights, which is then what is exported; 0.999

    def __post_init__(self) -> None:
        if self.kind not in ("adamw", "muon"):
            raise ValueError(f"optim.kind is {self.kind!r}; expected adamw or muon")
        if self.base_lr <= 0 or self.weight_decay < 0:
            raise ValueError("optim.base_lr must be above 0 and optim.weight_decay not below 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"optim.warmup is {self.warmup:g}; expected a share of the run, 0 to below 1")
        if not 0 < self.encoder_lr <= 1 or not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"optim.encoder_lr is {self.encoder_lr:g} and optim.layer_decay {self.layer_decay:g}; expected above 0, to 1"
            )
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"optim.clip is {self.clip:g}; expected a norm above 0, or null")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"optim.ema is {self.ema:g}; expected a decay between 0 and 1, or null")


@dataclass(frozen=True)
class TrainConfig:
    """A training run. Exactly one of `steps`, `epochs` and `max_minutes` says how long it is."""

    output: str  # folder of checkpoints, logs and pictures
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    init: str = ""  # model whose encoder the run starts from: a name, a folder or a .safetensors file; empty: initial weights
    freeze_encoder: bool = False  # train the decoder alone, such as that of a model that came without one
    batch_size: int = 256  # pairs of one optimiser step, over all processes and accumulation
    accumulation: int = 1  # backward passes of one optimiser step
    steps: int | None = None
    epochs: float | None = None  # pairs drawn, in multiples of the number of files (the usual effective epochs)
    max_minutes: float | None = None  # the schedule follows the clock and ends after so long
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "bf16"
    compile: bool = False
    fsdp: bool = False  # shard weights over the processes (FSDP2) instead of copying them to each (DDP)
    device: Literal["auto", "cpu"] = "auto"
    log_every: int = 10  # steps
    picture_every: int = 500  # steps between reconstruction pictures
    checkpoint_every: int = 1000  # steps between checkpoints
    checkpoint_minutes: float = 10.0  # at most so long between two checkpoints
    keep: int = 3  # newest checkpoints kept
    snapshots: int = 0  # encoders kept on the way, evenly spread, to see how features change with training
    resume: bool = True  # go on from the newest checkpoint in `output`; false refuses a folder that has one
    trackers: tuple[str, ...] = ()  # accelerate's trackers, such as tensorboard

    def __post_init__(self) -> None:
        lengths = [name for name in ("steps", "epochs", "max_minutes") if getattr(self, name) is not None]
        if len(lengths) != 1:
            raise ValueError(f"set exactly one of steps, epochs and max_minutes; got {', '.join(lengths) or 'none'}")
        if getattr(self, lengths[0]) <= 0:
            raise ValueError(f"{lengths[0]} is {getattr(self, lengths[0])}; expected more than 0")
        if not self.output:
            raise ValueError("output is empty; expected a folder for checkpoints and logs")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}; expected fp32 or bf16")
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"device is {self.device!r}; expected auto or cpu")
        if min(self.batch_size, self.accumulation, self.log_every, self.picture_every, self.keep) < 1:
            raise ValueError("batch_size, accumulation, log_every, picture_every and keep are at least 1")
        if self.checkpoint_every < 1 or self.checkpoint_minutes <= 0:
            raise ValueError("checkpoint_every is at least 1 and checkpoint_minutes above 0")
        if self.fsdp and self.optim.ema is not None:
            raise ValueError("optim.ema keeps whole weights in every process; it needs fsdp=false")
        if self.fsdp and self.optim.kind == "muon":
            raise ValueError("optim.kind=muon needs whole matrices in every process, so fsdp=false")
        if self.model.target == "ema" and self.optim.ema is None:
            raise ValueError(
                "model.target=ema takes its features from the average of the weights: set optim.ema, such as 0.999"
            )
        if self.snapshots < 0:
            raise ValueError(f"snapshots is {self.snapshots}; expected 0 or more")
        if self.data.kind == "images" and self.model.futures > 1:
            raise ValueError("data.kind=images gives pairs of crops; it needs model.futures=1")


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """A run's configuration from a YAML file and `key=value` overrides, such as `model.decoder=cross`.

    Raises:
        ValueError: an unknown key (the closest field is named), a value of the wrong kind, or one that cannot work.
    """
    try:
        import yaml
    except ImportError as error:
        raise ImportError('training configs need pyyaml; install it with: pip install "siammae[train]"') from error

    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = yaml.safe_load(Path(path).read_text()) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not YAML: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds a {type(values).__name__}; expected keys and values")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"override {override!r} has no '='; write key=value, such as optim.base_lr=1e-4")
        section = values
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ValueError(f"override {override!r}: {parent} is a value, not a section")
        section[last] = yaml.safe_load(text)
    return config_from_dict(values)


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """The inverse of `config_to_dict`, with the checks of `load_config`."""
    config: TrainConfig = _build(TrainConfig, values, "")
    return config


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain nested values, as YAML and JSON hold them."""
    plain: dict[str, Any] = _plain(asdict(config))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _build(kind: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise ValueError(f"unknown key {prefix}{key}{_closest(key, prefix)}")
    required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    for name in required:
        if name not in values:
            raise ValueError(f"{prefix}{name} is missing")
    return kind(**{key: _convert(value, hints[key], f"{prefix}{key}") for key, value in values.items()})


def _closest(key: str, prefix: str) -> str:
    names = _all_names(TrainConfig, "")
    here = [name for name in names if name.startswith(prefix) and "." not in name[len(prefix) :]]
    close = difflib.get_close_matches(prefix + key, here, n=1, cutoff=0.5)
    close = close or [name for name in names if name.rpartition(".")[2] == key]
    close = close or difflib.get_close_matches(prefix + key, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; fields here: {', '.join(here)}"


def _all_names(kind: Any, prefix: str) -> list[str]:
    names = []
    for name, hint in typing.get_type_hints(kind).items():
        names.append(prefix + name)
        if dataclasses.is_dataclass(hint):
            names += _all_names(hint, f"{prefix}{name}.")
    return names


def _convert(value: Any, hint: Any, name: str) -> Any:
    """`value` as YAML gave it, as the field's type, or a ValueError that says what was expected."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{name} is {value!r}; expected a section with keys of its own")
        return _build(hint, value, f"{name}.")
    if get_origin(hint) is types.UnionType:
        if value is None:
            return None
        return _convert(value, next(arm for arm in get_args(hint) if arm is not types.NoneType), name)
    if get_origin(hint) is tuple:
        arms = get_args(hint)
        if not isinstance(value, list | tuple) or (arms[-1] is not Ellipsis and len(value) != len(arms)):
            count = "a list" if arms[-1] is Ellipsis else f"a list of {len(arms)} values"
            raise ValueError(f"{name} is {value!r}; expected {count}")
        return tuple(_convert(item, arms[0], name) for item in value)
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected {' or '.join(map(str, choices))}")
        return value
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except (TypeError, ValueError):
            pass
    elif hint is int and isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        return int(value)
    elif isinstance(value, hint):
        return value
    raise ValueError(f"{name} is {value!r}; expected {hint.__name__}")
