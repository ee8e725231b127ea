"""Checks of a command's words and files before torch is loaded, and the line between users' mistakes and faults of siammae."""

import difflib
import functools
import glob
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tyro.extras import SubcommandApp

from siammae.models.registry import check_name

Command = TypeVar("Command", bound=Callable[..., None])
MEMORY_WORDS = "out of memory", "can't allocate memory", "not enough memory", "storage size calculation overflowed"
MEMORY_REMEDY = "use a smaller --size, fewer context frames (--set context_frames=10), or a smaller video or model"


@dataclass(frozen=True)
class Readable:
    """A mark for an argument that names a file or folder to read.

    Attributes:
        kind: what it is, in messages.
    """

    kind: str

    def check(self, value: str | os.PathLike[str]) -> None:
        """Raise FileNotFoundError if there is nothing of that name."""
        if not os.path.exists(value):
            raise FileNotFoundError(f"no such {self.kind}: {os.fspath(value)}")


@dataclass(frozen=True)
class ReadableVideo(Readable):
    """A mark for an argument that names a video."""

    kind: str = "video file or folder of images"

    def check(self, value: str | os.PathLike[str]) -> None:
        """Raise FileNotFoundError if there is no such file or folder; globs and addresses are left to `read_frames`."""
        text = os.fspath(value)
        if "://" not in text and not glob.has_magic(text) and not os.path.exists(os.path.expanduser(text)):
            raise FileNotFoundError(f"no such {self.kind}: {text}")


@dataclass(frozen=True)
class ModelName(Readable):
    """A mark for an argument that names a model."""

    kind: str = "model"

    def check(self, value: str | os.PathLike[str]) -> None:
        """Raise what `load_model` would, as far as the name alone tells."""
        check_name(value)


class CheckedApp(SubcommandApp):
    """Commands that look at the files they are given before they load torch.

    Attributes:
        names: names of the commands.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def add(self, command: Callable[..., None] | SubcommandApp, name: str, help: str | None = None) -> None:
        """Register a command, or a group of commands."""
        self.names.append(name)
        if isinstance(command, SubcommandApp):
            self.command(command, name=name, help=help)
        else:
            self.command(name=name, help=help)(checked(command))

    def register(self, name: str) -> Callable[[Command], Command]:
        """Return the decorator that registers a command under a name."""

        def decorate(command: Command) -> Command:
            self.add(command, name)
            return command

        return decorate


def checked(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command check the arguments that bear marks, and those of its option classes, before it runs."""
    signature = inspect.signature(command)

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            _check(signature.parameters[name].annotation, value)
            for option, annotation in _annotations(type(value)).items():
                _check(annotation, getattr(value, option))
        command(*args, **kwargs)

    return run


def _annotations(kind: type) -> dict[str, Any]:
    return {name: each for base in kind.__mro__ for name, each in vars(base).get("__annotations__", {}).items()}


def _check(annotation: Any, value: Any) -> None:
    """Check a value, or each of several, against the marks of its annotation."""
    values = value if isinstance(value, tuple) else (value,)
    for mark in getattr(annotation, "__metadata__", ()):
        for each in values if isinstance(mark, Readable) else ():
            if isinstance(each, str | Path):
                mark.check(each)


def check_word(word: str, known: Iterable[str], before: str = "") -> None:
    """Raise ValueError, naming the closest, if a word is none of the known commands; words with a dash are options."""
    names = list(known)
    if word.startswith("-") or word in names:
        return
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {before}{close[0]}?" if close else f"there are {', '.join(names)}"
    raise ValueError(f"no command is called {before}{word}; {hint}")


def out_of_memory(error: BaseException) -> str | None:
    """Return one line, with the remedy, for an error that means that memory is used up, of host or GPU; None for others."""
    text = str(error)
    lacks = isinstance(error, MemoryError) or any(words in text.lower() for words in MEMORY_WORDS)
    if not lacks or not isinstance(error, MemoryError | RuntimeError):
        return None
    first = text.splitlines()[0].split("] ")[-1] if text else "no memory is left"
    return f"out of memory ({first[:200]}): {MEMORY_REMEDY}"
