"""What the commands have in common: types of their options, and what these stand for."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

Out = Annotated[Path, arg(aliases=["-o"])]
Json = Annotated[bool, arg(name="json", help="Print JSON, for programs.")]
Dtype = Literal["float32", "float16", "bfloat16"]
PICTURES = ".png", ".jpg", ".jpeg"  # suffixes of one picture that is written


def load(model: str, pretrained: bool = True, device: str | None = None, dtype: Dtype = "float32") -> Any:
    """The Encoder that `--model` and its like ask for."""
    import torch

    from siammae.models.load import load_model

    return load_model(model, pretrained=pretrained, device=device, dtype=getattr(torch, dtype))


def encoder_size(numbers: tuple[int, ...]) -> Any:
    """What `--size` stands for: nothing, the shorter side, or height and width."""
    return None if not numbers else numbers[0] if len(numbers) == 1 else numbers


def pixels(frame: Any) -> Any:
    """A frame [3, H, W] as an array [H, W, 3]."""
    return frame.permute(1, 2, 0).numpy()


def read_numbered(video: str, numbers: list[int]) -> list[Any]:
    """The frames [H, W, 3] of these numbers, in their order, each read once."""
    from siammae.video.frames import read_frames

    if min(numbers) < 0:
        raise ValueError(f"frame {min(numbers)}: expected the number of a frame, 0 or more")
    found: dict[int, Any] = {}
    for index, frame in enumerate(read_frames(video)):
        if index in numbers:
            found[index] = pixels(frame)
        if index == max(numbers):
            return [found[number] for number in numbers]
    raise ValueError(f"{video} has only {index + 1} frames; frame {max(numbers)} was asked for")


def print_json(values: Any) -> None:
    """Values as JSON on standard output."""
    import json

    print(json.dumps(values, indent=2, default=str))


def stop(message: str, code: int) -> None:
    """End the process with one line on standard error."""
    print(f"siammae: {message}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)


def read_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Single values of a config from words such as "top_k=7"; ValueError where one has no "="."""
    values: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"{text}: expected name=value, such as top_k=7")
        values[name] = _value(value)
    return values


def _value(text: str) -> Any:
    """A number, True, False, or the word itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def read_config(preset: str, changes: tuple[str, ...]) -> Any:
    """The PropagationConfig that `--preset` and `--set` ask for."""
    from siammae.propagation import PropagationConfig

    return PropagationConfig.preset(preset, **read_changes(changes))
