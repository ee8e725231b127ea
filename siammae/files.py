"""Files and folders that are written whole or not at all, and safetensors files."""

import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from siammae.errors import WeightsError

PathLike = str | os.PathLike[str]


@contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix; renamed to `path` when the block ends well, removed when it does not."""
    target = Path(path)
    draft = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        yield draft
        draft.replace(target)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(draft):  # what people know is the target
            raise OSError(error.errno, f"{target} cannot be written: {error.strerror or error}") from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(folder: PathLike) -> None:
    """Remove what `atomic` left in a folder when its process was killed: drafts that nobody has touched for a minute."""
    for draft in Path(folder).glob(".*.part.*"):
        if time.time() - draft.stat().st_mtime > 60:
            draft.unlink(missing_ok=True)


def check_output(path: PathLike, suffixes: Iterable[str]) -> str:
    """The suffix of a file to be written, before any work is done for it.

    ValueError lists `suffixes` where it is none of them; FileNotFoundError where its folder does not exist.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{os.fspath(path)} ends in {suffix or 'no suffix'}; expected one of {', '.join(sorted(suffixes))}")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)} cannot be written: there is no folder {Path(path).parent}")
    return suffix


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


def check_target(target: Path, files: Collection[str], overwrite: bool) -> None:
    """FileExistsError where a model folder with `files` must not be written: it is there, or it holds something else."""
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; remove it, choose another folder, or pass overwrite=True")
    if target.exists() and not {file.name for file in target.iterdir()} <= set(files):
        raise FileExistsError(f"{target} holds more than a model, so it is not overwritten; choose another folder")


def replace_folder(draft: Path, target: Path) -> None:
    """Rename `draft` to `target`; a folder that is there already goes only once the new one stands."""
    retired = draft / "replaced"
    if target.exists():
        target.rename(retired)
    try:
        draft.rename(target)
    except BaseException:
        if retired.exists():
            retired.rename(target)
        raise
    shutil.rmtree(target / retired.name, ignore_errors=True)
