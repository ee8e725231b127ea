"""Safetensors files, with one error for all that can be wrong with them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor


class WeightsError(OSError):
    """Weights that are not there, cannot be read, or do not fit the model."""


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what may go wrong while `path` is read into a WeightsError."""
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}") from None
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; WeightsError where there is none or it is damaged."""
    from safetensors.torch import load_file

    with _reading(path):
        return load_file(path)


def read_header(path: Path) -> dict[str, str]:
    """The texts that a safetensors file carries beside its tensors; WeightsError as `read_tensors`."""
    from safetensors import safe_open

    with _reading(path), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, and the texts of `header`; OSError where the disk refuses."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=dict(header or {}))
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    path.chmod(0o644)  # safetensors makes files that only their owner can read
