"""Files and folders that are written whole or not at all, and safetensors files."""

import ctypes
import errno
import glob
import hashlib
import os
import secrets
import shutil
import sys
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from siammae.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

if sys.platform != "win32":
    import fcntl

PathLike = str | os.PathLike[str]
LONGEST = 200  # bytes of a name within that of a draft; most disks hold names of 255


@contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix: renamed to `path` if the block succeeds, removed if it fails.

    An OSError of the draft names `path`.
    """
    target = Path(path)
    draft = target.with_name(f".{_short(target.stem)}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        yield draft
        draft.replace(target)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(draft):
            raise _of_target(error, draft, target) from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def _of_target(error: OSError, draft: Path, target: Path) -> OSError:
    """Make an error of a draft name the target, which is what people know."""
    reason = error.strerror or str(error).replace(str(draft), str(target))
    message = reason if reason.startswith(str(target)) else f"{target} cannot be written: {reason}"
    return OSError(message) if error.errno is None else OSError(error.errno, message)


def _short(name: str) -> str:
    """Return a name that leaves room for a draft's marks: a long one becomes its beginning and a digest of the whole."""
    encoded = os.fsencode(name)
    if len(encoded) <= LONGEST:
        return name
    return f"{encoded[: LONGEST - 17].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:16]}"


@contextmanager
def locked(folder: PathLike) -> Iterator[None]:
    """Keep a folder for this call, until it ends or its process dies.

    Raises:
        FileExistsError: another call, of this process or another, has the folder; at once.
    """
    try:
        descriptor = _hold(Path(folder))
    except (BlockingIOError, FileExistsError):
        raise FileExistsError(f"{os.fspath(folder)} is being written by another run; choose another folder, or wait") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _hold(folder: Path) -> int:
    """Lock a folder until the returned descriptor is closed; BlockingIOError or FileExistsError if it is locked."""
    if sys.platform == "win32":  # where the file vanishes when its descriptor is closed, and a folder cannot be locked
        return os.open(folder / ".siammae.lock", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TEMPORARY)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError as error:
        warnings.warn(f"{folder} cannot be locked ({error.strerror}): let no other run write into it", stacklevel=4)
    return descriptor


def remove_drafts(folder: PathLike) -> None:
    """Remove the drafts that killed processes left in a folder: those of `atomic` that have not changed for a minute."""
    for draft in Path(folder).glob(".*.part.*"):
        if time.time() - draft.stat().st_mtime > 60:
            draft.unlink(missing_ok=True)


def check_output(path: PathLike, suffixes: Iterable[str]) -> str:
    """Return the suffix of a file to be written, in lower case; call it before any work is done for the file.

    Raises:
        ValueError: the suffix is none of `suffixes`.
        FileNotFoundError: the file's folder does not exist.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{os.fspath(path)} ends in {suffix or 'no suffix'}; expected one of {', '.join(sorted(suffixes))}")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)} cannot be written: there is no folder {Path(path).parent}")
    return suffix


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors in reading `path` into a WeightsError."""
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}") from None
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read the tensors of a safetensors file; WeightsError if it is missing or damaged."""
    from safetensors.torch import load_file

    with _reading(path):
        return load_file(path)


def read_header(path: Path) -> dict[str, str]:
    """Read the texts that a safetensors file carries beside its tensors; WeightsError as in `read_tensors`."""
    from safetensors import safe_open

    with _reading(path), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]", header: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, and the texts of `header`; OSError if the disk refuses."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=dict(header or {}))
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    path.chmod(0o644)  # safetensors makes files that only their owner can read


DRAFT, RETIRED = ".draft", ".old"  # suffixes of a folder that is being written, and of one that is being replaced


@contextmanager
def atomic_folder(target: PathLike, *, overwrite: bool = False, files: Collection[str] | None = None) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its name if the block succeeds, and is removed if it fails.

    At every moment `target` is the old folder or the new one, whole, even if the process is killed: Linux and macOS swap the
    two in one step. Where the system or the disk cannot, a process killed between two renames leaves neither, and the next
    call for this target puts the old one back. The next call also removes the drafts of killed processes (not on Windows,
    where folders cannot be locked, so that a draft may be in use).

    Args:
        target: the folder to write; the folders above it are made.
        overwrite: replace a folder that exists.
        files: names of the files that such a folder may hold; None allows any.

    Raises:
        FileExistsError: `target` exists and `overwrite` is off, or it holds other files than `files`, or is no folder.
        OSError: the disk refused; the message names `target`.
    """
    path = Path(target).resolve()
    _clean(path)
    _check_target(path, files, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, lock = _new_draft(path)
    try:
        yield draft
        _publish(draft, path, overwrite)
    except OSError as error:
        if str(draft) in str(error) or (error.filename is None and error.errno is not None):
            raise _of_target(error, draft, path) from error
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # after a swap, this is the old folder
        if lock is not None:
            os.close(lock)


def _check_target(target: Path, files: Collection[str] | None, overwrite: bool) -> None:
    """Raise FileExistsError if a folder must not be written to `target`."""
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{target} exists; remove it, choose another folder, or pass overwrite=True")
    if not target.is_dir():
        raise FileExistsError(f"{target} is a file, so it is not overwritten; choose another folder")
    others = [] if files is None else sorted({file.name for file in target.iterdir()} - set(files))
    if others:
        raise FileExistsError(
            f"{target} holds other files too ({', '.join(others[:3])}), so it is not overwritten; choose another folder"
        )


def _new_draft(target: Path) -> tuple[Path, int | None]:
    """Make a draft folder, locked while this process lives; returns it and its lock."""
    while True:
        draft = target.with_name(f".{_short(target.name)}.{secrets.token_hex(4)}{DRAFT}")
        try:
            draft.mkdir()
        except OSError as error:
            raise _of_target(error, draft, target) from error
        lock = _lock(draft)
        if draft.exists():  # else another process took it for abandoned before it was locked
            return draft, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, *, wait: bool = True) -> int | None:
    """Lock a folder until the returned descriptor is closed; None if another process holds it or it cannot be locked."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _clean(target: Path) -> None:
    """Put back a folder that a killed process had moved away, and remove its drafts."""
    beside = f".{glob.escape(_short(target.name))}.{'?' * 8}"
    for retired in target.parent.glob(beside + RETIRED):
        if target.exists():
            shutil.rmtree(retired, ignore_errors=True)
        else:
            retired.rename(target)
    for draft in target.parent.glob(beside + DRAFT):
        if (lock := _lock(draft, wait=False)) is not None:
            shutil.rmtree(draft, ignore_errors=True)
            os.close(lock)


def _publish(draft: Path, target: Path, overwrite: bool) -> None:
    """Give `draft` the name `target`; FileExistsError if that has appeared in the meantime and `overwrite` is off."""
    if overwrite and target.exists():
        if not _swap(draft, target):
            retired = draft.with_suffix(RETIRED)
            target.rename(retired)
            try:
                draft.rename(target)
            except BaseException:
                retired.rename(target)
                raise
            shutil.rmtree(retired, ignore_errors=True)
        return
    try:
        draft.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise FileExistsError(f"{target} was written by another process in the meantime") from error


def _swap(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False if the system or the disk cannot."""
    paths = os.fsencode(first), os.fsencode(second)
    if sys.platform == "linux":
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        rename = getattr(ctypes.CDLL(None), "renameat2", None)
        return rename is not None and rename(here, paths[0], here, paths[1], exchange) == 0
    if sys.platform == "darwin":
        swap = 2  # RENAME_SWAP
        return bool(ctypes.CDLL(None).renamex_np(*paths, swap) == 0)
    return False
