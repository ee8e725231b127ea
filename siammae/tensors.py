"""Safetensors files, with one error for all that can be wrong with them."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


class WeightsError(OSError):
    """Weights that are not there, cannot be read, or do not fit the model."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; WeightsError where there is none or it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error


def read_header(path: Path) -> dict[str, str]:
    """The texts that a safetensors file carries beside its tensors; WeightsError as `read_tensors`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, and the texts of `header`; OSError where the disk refuses."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=dict(header or {}))
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
