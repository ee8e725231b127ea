"""The configuration of a training run: a YAML file, `key=value` overrides, and errors that name the closest field."""

import difflib
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from siammae.training.model_config import ModelConfig
from siammae.training.section import Section

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


SHORTENED = reprlib.Repr()  # of values in messages: aliases make a few lines of YAML into gigabytes of text
SHORTENED.maxlevel, SHORTENED.maxstring, SHORTENED.maxlong, SHORTENED.maxother = 3, 200, 60, 200


@dataclass(frozen=True)
class CacheConfig(Section):
    """Decoded videos: every video is decoded once and its frames are kept."""

    prefix: ClassVar[str] = "data.cache."
    kind: Literal["none", "disk", "host", "device"] = "none"  # a file mapped into memory | host memory | the device's memory
    folder: str = ""  # folder of the decoded frames
    short_side: int = 208  # pixels
    fps: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind != "none" and not self.folder:
            raise ValueError(f"data.cache.kind is {self.kind}; it needs a data.cache.folder for the decoded frames")
        if self.fps <= 0 or self.short_side < 1:
            raise ValueError("data.cache.fps must be above 0 and data.cache.short_side at least 1")


@dataclass(frozen=True)
class ShardsConfig(Section):
    """Reader of shards."""

    prefix: ClassVar[str] = "data.shards."
    timeout: float = 60.0  # seconds within which a store answers; the run ends with an error after two tries

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timeout <= 0:
            raise ValueError(f"data.shards.timeout is {self.timeout:g}; expected seconds above 0")


@dataclass(frozen=True)
class AppearanceConfig(Section):
    """Changes of color and blur; the paper makes none."""

    prefix: ClassVar[str] = "data.appearance."
    color: float = 0.0  # largest change of brightness, contrast and saturation, as a share; the hue turns by a quarter of it
    blur: float = 0.0  # share of samples that are blurred, by 0.1 to 2 pixels at 224 pixels
    shared: bool = True  # one change for all frames of a sample; false draws one for each frame

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("color", self.color), ("blur", self.blur)):
            if not 0 <= value <= 1:
                raise ValueError(f"data.appearance.{name} is {value:g}; expected a share, 0 to 1")
        if not (self.shared or self.color or self.blur):
            raise ValueError(
                "data.appearance.shared=false draws a change for each frame; set data.appearance.color or blur above 0 too"
            )


@dataclass(frozen=True)
class DataConfig(Section):
    """Source of pairs, and the way they are drawn."""

    prefix: ClassVar[str] = "data."
    path: str = ""  # a folder, a file, or a list of paths in a .txt file; shards: a folder or an address (s3://bucket/folder)
    kind: Literal["videos", "frames", "images", "shards"] = "videos"
    gap: tuple[float, float] = (4 / 30, 48 / 30)  # seconds between the frames; the paper: 4 to 48 frames at 30 per second
    fps: float = 30.0  # rate of frame folders, which do not say it themselves
    scale: tuple[float, float] = (0.5, 1.0)  # area of the crop as a share of the frame's
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the crop before it is resampled to a square
    local_scale: tuple[float, float] = (0.3, 1.0)  # images: area of the masked crop as a share of the visible one's
    jitter: float = 0.0  # videos: how far each future's crop moves and grows or shrinks, in shares of its sides; the paper: 0
    motion: float = 0.0  # cached videos: pairs with a smaller share of changed cells are drawn more rarely; 0 keeps all
    flip: float = 0.5  # share of samples mirrored left to right
    repeats: int = 2  # samples drawn from one opened file
    workers: int = 4  # loader processes for each training process; 0 loads in the training process itself
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    shards: ShardsConfig = field(default_factory=ShardsConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
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
        if not 0 <= self.motion <= 1 or (self.motion and self.cache.kind == "none"):
            raise ValueError(f"data.motion is {self.motion:g}; expected a share, 0 to 1, and with more than 0 a data.cache")
        if self.repeats < 1 or self.workers < 0 or self.fps <= 0:
            raise ValueError("data.repeats is at least 1, data.workers at least 0, and data.fps above 0")
        if self.cache.kind != "none" and self.kind != "videos":
            raise ValueError(f"data.kind is {self.kind}; data.cache keeps decoded videos and works with data.kind=videos")


@dataclass(frozen=True)
class OptimConfig(Section):
    """The optimizer and its learning rate."""

    prefix: ClassVar[str] = "optim."
    kind: Literal["adamw", "muon"] = (
        "adamw"  # the paper's | Muon for matrices and AdamW for the rest, which learns faster at first
    )
    base_lr: float = 1.5e-4  # learning rate for a batch of 256; the rate is base_lr * batch_size / 256
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05  # not on norms, biases and tokens
    warmup: float = 0.1  # share of the run in which the rate rises from 0; the paper: 40 of 400 epochs, 40 of 2000
    encoder_lr: float = 1.0  # the encoder's rate as a share of the decoder's, for encoders that start from trained weights
    layer_decay: float = 1.0  # each block's rate as a share of the next one's
    clip: float | None = None  # largest norm of the gradient
    ema: float | None = None  # decay of an average of the weights, such as 0.999; the average is exported

    def __post_init__(self) -> None:
        super().__post_init__()
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
class TrainConfig(Section):
    """A training run. Exactly one of `steps`, `epochs` and `max_minutes` sets its length."""

    output: str  # folder of checkpoints, logs and pictures
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    init: str = ""  # model whose encoder the run starts from: a name, a folder or a .safetensors file; empty: initial weights
    freeze_encoder: bool = False  # train only the decoder, such as for a model that came without one
    batch_size: int = 256  # pairs of one optimizer step, over all processes and accumulation
    accumulation: int = 1  # backward passes of one optimizer step in each process
    steps: int | None = None
    epochs: float | None = None  # pairs drawn, in multiples of the number of files (the usual effective epochs)
    max_minutes: float | None = None  # the schedule follows the clock and ends after this time
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    compile: bool = False
    fsdp: bool = False  # shard weights over the processes (FSDP2) instead of copying them to each (DDP)
    device: Literal["auto", "cpu"] = "auto"
    log_every: int = 10  # steps
    picture_every: int = 500  # steps between reconstruction pictures
    checkpoint_every: int = 1000  # steps between checkpoints
    checkpoint_minutes: float = 10.0  # longest time between two checkpoints
    keep: int = 3  # newest checkpoints kept
    snapshots: int = 0  # encoders kept during the run, evenly spread, to see how features change
    resume: bool = True  # go on from the newest checkpoint in `output`; false refuses a folder that has one
    trackers: tuple[str, ...] = ()  # accelerate's trackers, such as tensorboard or wandb
    project: str = "siammae"  # project of the trackers
    name: str = ""  # the run's name in the trackers; empty takes the output folder's

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = [name for name in ("steps", "epochs", "max_minutes") if getattr(self, name) is not None]
        if len(lengths) != 1:
            raise ValueError(f"set exactly one of steps, epochs and max_minutes; got {', '.join(lengths) or 'none'}")
        if getattr(self, lengths[0]) <= 0:
            raise ValueError(f"{lengths[0]} is {getattr(self, lengths[0])}; expected more than 0")
        if not self.output:
            raise ValueError("output is empty; expected a folder for checkpoints and logs")
        if self.trackers and not self.project:
            raise ValueError("project is empty; trackers need the name of a project")
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
    """Read a run's configuration from a YAML file and `key=value` overrides, such as `model.decoder=cross`.

    Raises:
        ValueError: an unknown key (the closest field is named), a value of the wrong kind, or one that cannot work.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = read_yaml(Path(path).read_bytes(), str(path)) or {}
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
        section[last] = read_yaml(text, f"override {override!r}")
    return config_from_dict(values)


def read_yaml(content: str | bytes, label: str) -> Any:
    """Read YAML of plain values; ValueError, which names the `label`, for anything else."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError('training configs need pyyaml; install it with: pip install "siammae[train]"') from error
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, RecursionError) as error:  # PyYAML's for bad values
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{label} is not YAML: {reason}") from error


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Build a configuration from nested values, with the checks of `load_config`; the inverse of `config_to_dict`."""
    adapter = _adapter()
    from pydantic import ValidationError

    try:
        config = adapter.validate_python(values)
    except ValidationError as error:
        raise ValueError(_explain(error)) from None
    except OverflowError as error:
        raise ValueError(f"a whole number is too large: {error}") from None
    _refuse_booleans(values, config)
    return config


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Return plain nested values, as YAML and JSON hold them."""
    values: dict[str, Any] = _adapter().dump_python(config, mode="json")
    return values


def _adapter() -> "TypeAdapter[TrainConfig]":
    """Return pydantic's reader and writer of configurations."""
    try:
        from pydantic import TypeAdapter
    except ImportError as error:
        raise ImportError('training configs need pydantic; install it with: pip install "siammae[train]"') from error
    return TypeAdapter(TrainConfig)


def _refuse_booleans(values: Mapping[str, Any], section: Any, prefix: str = "") -> None:
    """Raise ValueError for true or false in place of a number, which pydantic takes for 1 or 0."""
    for name, value in values.items():
        taken = getattr(section, name)
        if isinstance(value, Mapping):
            _refuse_booleans(value, taken, f"{prefix}{name}.")
        elif any(
            isinstance(given, bool) and not isinstance(read, bool)
            for given, read in (zip(value, taken, strict=True) if isinstance(value, list) else [(value, taken)])
        ):
            raise ValueError(f"{prefix}{name} is {value!r}; expected a number")


def _explain(error: "ValidationError") -> str:
    """Say in one line what came, what was expected, and for an unknown key the closest one."""
    unknown = "unexpected_keyword_argument"
    first = min(error.errors(), key=lambda mistake: mistake["type"] != unknown)  # a typo may make another key missing
    kind, value, path = first["type"], first["input"], ".".join(map(str, first["loc"]))
    if kind == unknown:
        return f"unknown key {path}; {_remedy(path)}"
    if kind == "value_error":  # from a section's own checks
        return str(first["ctx"]["error"])
    if kind == "missing" and isinstance(first["loc"][-1], int):
        return f"{path.rpartition('.')[0]} is {SHORTENED.repr(value)}; value number {first['loc'][-1] + 1} is missing"
    if kind == "missing":
        return f"{path} is missing"
    shown = SHORTENED.repr(value)
    expected = "a section with keys of its own" if kind == "dataclass_type" else first["msg"].removeprefix("Input should be ")
    return f"{path} is {shown}; expected {expected.replace('tuple', 'list').replace('Tuple should have ', '')}"


def _remedy(key: str) -> str:
    """Name the field that an unknown key most likely means, or else the fields of its section."""
    names = list(_names(asdict(TrainConfig(output="x", steps=1))))
    last, section = key.rpartition(".")[2], key.rpartition(".")[0]
    close = [name for name in names if name.rpartition(".")[2] == last] or difflib.get_close_matches(key, names, 1, cutoff=0.5)
    siblings = [name for name in names if name.rpartition(".")[0] == section]
    return f"did you mean {close[0]}?" if close else f"fields here: {', '.join(siblings)}"


def _names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of all fields, those of sections with a dot."""
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{name}.")
