"""Options that several commands share, and helpers for what they print."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from tyro.conf import Positional, arg

from siammae.models.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from torch import Tensor

    from siammae.encoder import Encoder
    from siammae.geometry import InputSize

Video = Annotated[Positional[str], arg(metavar="VIDEO", help="Video file, picture, folder of images, or quoted glob.")]
OnDamage = Annotated[
    Literal["error", "skip", "repeat"],
    arg(help="Treatment of frames that cannot be read: stop, leave them out, or repeat the last whole frame."),
]
Out = Annotated[Path, arg(aliases=["-o"])]
Json = Annotated[bool, arg(name="json", help="Print JSON, for programs.")]
Dtype = Literal["float32", "float16", "bfloat16"]
PICTURES = ".png", ".jpg", ".jpeg"  # suffixes of a picture to write


@dataclass(frozen=True)
class ModelOptions:
    """The encoder of a command, and the size at which it sees frames."""

    model: str = DEFAULT_MODEL
    """Registered name, hf-hub:OWNER/NAME, timm:NAME, model folder or .safetensors file."""
    pretrained: bool = True
    """Load trained weights; --no-pretrained takes the initial weights of the architecture."""
    size: tuple[int, ...] = ()
    """Shorter side in pixels at which the encoder sees the frames, or height and width."""
    device: str | None = None
    """Device to run on: cuda, mps or cpu; the fastest one available if not given."""
    dtype: Dtype = "float32"
    """Number type of weights and features."""

    def load(self) -> "Encoder":
        """Load the encoder."""
        import torch

        from siammae.models.load import load_model

        return load_model(self.model, pretrained=self.pretrained, device=self.device, dtype=getattr(torch, self.dtype))

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
