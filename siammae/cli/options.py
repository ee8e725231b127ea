"""Options that several commands share, and helpers for what they print."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from tyro.conf import Positional, arg

from siammae.cli.checks import ModelName, ReadableVideo
from siammae.models.registry import DEFAULT_MODEL, REGISTRY

if TYPE_CHECKING:
    from torch import Tensor

    from siammae.encoder import Encoder
    from siammae.geometry import InputSize
    from siammae.video.frames import Frames

Video = Annotated[
    Positional[str], arg(metavar="VIDEO", help="Video file, picture, folder of images, or quoted glob."), ReadableVideo()
]
OnDamage = Annotated[
    Literal["error", "skip", "repeat"],
    arg(help="Treatment of frames that cannot be read: stop, leave them out, or repeat the last whole frame."),
]
FrameSpan = Annotated[
    str | None,
    arg(name="frames", metavar="A:B", help="Frames to use, from A up to but without B, as numbers; either may be left out."),
]
Out = Annotated[Path, arg(aliases=["-o"])]
Json = Annotated[bool, arg(name="json", help="Print JSON, for programs.")]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
PICTURES = ".png", ".jpg", ".jpeg"  # suffixes of a picture to write


@dataclass(frozen=True)
class ModelOptions:
    """The encoder of a command, and the size at which it sees frames."""

    model: Annotated[str, ModelName()] = DEFAULT_MODEL
    """Registered name, hf-hub:OWNER/NAME, timm:NAME, model folder, .safetensors file, or folder of a training run."""
    pretrained: bool = True
    """Load trained weights; --no-pretrained takes the initial weights of the architecture."""
    size: tuple[int, ...] = ()
    """Shorter side in pixels at which the encoder sees the frames, or height and width."""
    device: str | None = None
    """Device to run on: cuda, mps or cpu; the fastest one available if not given."""
    dtype: Dtype = "auto"
    """Number type of weights and features; auto is float32 with products in bfloat16 where the CPU has them."""
    runtime: Literal["torch", "openvino", "auto"] = "torch"
    """Library that computes features on the CPU; auto takes OpenVINO where it is installed and can run the model."""

    def load(self) -> "Encoder":
        """Load the encoder."""
        import torch

        dtype = None if self.dtype == "auto" else getattr(torch, self.dtype)
        return load_named(self.model, pretrained=self.pretrained, device=self.device, dtype=dtype, runtime=self.runtime)

    @property
    def input_size(self) -> "InputSize":
        """The `size` of the library: None, the shorter side, or (height, width)."""
        match self.size:
            case ():
                return None
            case (side,):
                return side
            case (height, width):
                return height, width
        raise ValueError(f"--size has {len(self.size)} numbers; expected one, the shorter side in pixels, or height and width")


@dataclass(frozen=True)
class PropagationOptions:
    """The settings of a propagation."""

    preset: str | None = None
    """Published settings to start from: dino, crw or cropmae; the model's own settings if not given."""
    set: tuple[str, ...] = ()
    """Single values to change, such as top_k=7 radius=20."""

    def config(self) -> dict[str, Any]:
        """Return the preset's name and the changes, for `as_config`; ValueError for a name or value that does not exist."""
        from siammae.propagation.config import as_config

        values = read_changes(self.set) | ({} if self.preset is None else {"preset": self.preset})
        as_config(values)
        return values


Model = Annotated[ModelOptions, arg(name="")]
Propagation = Annotated[PropagationOptions, arg(name="")]


def load_named(name: str, **options: Any) -> "Encoder":
    """Load a model by its name, as `load_model` does, or the encoder of a training run's folder, checkpoint or snapshot."""
    from siammae.models.load import load_model

    if name not in REGISTRY and Path(name).exists():
        from siammae.training.folder import is_run, load_run

        if is_run(name):
            return load_run(name, **options)
    return load_model(name, **options)


def read_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Read single values of a config from words such as "top_k=7"; ValueError for a word without "="."""
    values: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"{text}: expected name=value, such as top_k=7")
        values[name] = _value(value)
    return values


def _value(text: str) -> Any:
    """Read a number, True or False; any other text is returned as it is."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def read_span(frames: "Frames", text: str | None) -> tuple["Frames", int]:
    """Return the frames of a span such as 100:250, which keep their names, and the number of the first.

    Raises:
        ValueError: no such span, or one without frames.
    """
    if text is None:
        return frames, 0
    if frames.on_damage == "skip":
        raise ValueError("--frames needs the number of every frame: give --on-damage repeat with it, or leave one of them out")
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (first, last)):
        raise ValueError(f"--frames {text}: expected A:B, such as 100:250, or 100: for all from 100 on")
    numbers = range(len(frames))[slice(int(first or 0), int(last) if last else None)]
    if not numbers:
        raise ValueError(f"--frames {text} holds no frame: {frames.label} has {len(frames)}, 0 to {len(frames) - 1}")
    part = frames[numbers.start : numbers.stop]
    part.names = [frames.name(number) for number in numbers]
    return part, numbers.start


def read_numbered(video: str, numbers: list[int]) -> "list[Tensor]":
    """Read the frames [3, H, W] with these numbers, in the given order; ValueError for a number below 0 or past the end."""
    from siammae.video.frames import read_frames

    if min(numbers) < 0:
        raise ValueError(f"frame {min(numbers)}: expected the number of a frame, 0 or more")
    return read_frames(video).at(numbers)


def print_json(values: Any) -> None:
    """Print values as JSON on standard output."""
    import json

    print(json.dumps(values, indent=2, default=str))


def stop(message: str, code: int) -> NoReturn:
    """Print one line on standard error and exit with this code."""
    print(f"siammae: {message}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)
