"""The `siammae` command: thin typed functions over the public ones, made into commands by tyro.

A command imports inside its function what it needs, so that help is instant.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

from tyro.conf import Positional

from siammae.cli import app, export, machine, mask, models, pictures, propagate, shards, sweep, train, video
from siammae.cli.checks import CheckedApp, check_word, out_of_memory
from siammae.cli.evaluate import evaluate_app
from siammae.cli.options import stop
from siammae.cli.score import score_app


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with code 2 for bad usage or input, 1 for a failure, 130 after Ctrl-C.

    What a user can mend is one line: the library raises ValueError or OSError for it, and memory that runs out is told by its
    words. Any other exception is a fault of siammae: its traceback is shown, and a last line asks to report it.

    Args:
        args: words after `siammae`; those of the process if not given.
    """
    words = sys.argv[1:] if args is None else list(args)
    warnings.showwarning = lambda message, *_: print(f"siammae: warning: {message}", file=sys.stderr)
    try:
        _check_words(words)
        commands = build_app(overview=words[:1] in ([], ["-h"], ["--help"]))
        commands.cli(prog="siammae", description="Propagate labels through video with self-supervised features.", args=words)
    except KeyboardInterrupt:
        stop("interrupted; masks and keypoints that were finished are kept", 130)
    except (ValueError, FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        stop(str(error), 2)
    except BrokenPipeError:  # the reader, such as head, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (OSError, ImportError) as error:
        from siammae.errors import WeightsError

        stop(str(error), 2 if isinstance(error, WeightsError) else 1)
    except Exception as error:
        if (line := out_of_memory(error)) is None:
            traceback.print_exc()
            line = f"{type(error).__name__}: {error}. This is a fault of siammae: please report it with the lines above"
        stop(line, 1)


def _check_words(words: Sequence[str]) -> None:
    """Raise ValueError, naming the closest, for a command that does not exist."""
    groups = {"evaluate": evaluate_app.names, "score": score_app.names}
    alone = [_name(command) for command in (*COMMANDS, *MORE_COMMANDS)]
    if words:
        check_word(words[0], [*alone, *groups])
    if len(words) > 1 and words[0] in groups:
        check_word(words[1], groups[words[0]], f"{words[0]} ")


def _name(command: Callable[..., None]) -> str:
    return command.__name__.replace("_", "-")


def build_app(overview: bool = False) -> CheckedApp:
    """Register all commands; an overview describes each by the first line of its help."""
    commands = CheckedApp()
    for command in COMMANDS:
        commands.add(command, _name(command), _first_line(command) if overview else None)
    commands.add(evaluate_app, "evaluate", "Predict the labels of a whole data set and score them.")
    commands.add(score_app, "score", "Score predicted labels of a data set.")
    for command in MORE_COMMANDS:
        commands.add(command, _name(command), _first_line(command) if overview else None)
    return commands


def _first_line(command: Callable[..., None]) -> str:
    return (command.__doc__ or "").partition("\n")[0]


def completion(shell: Positional[Literal["bash", "zsh", "tcsh"]]) -> None:
    """Print the script that makes a shell complete siammae's commands and options.

    Example: siammae completion bash > ~/.local/share/bash-completion/completions/siammae

    Example: siammae completion zsh > ~/.zfunc/_siammae

    Args:
        shell: Shell to write the script for.
    """
    build_app().cli(prog="siammae", args=["--tyro-write-completion", shell, "-"])


COMMANDS: tuple[Callable[..., None], ...] = (
    video.demo,
    propagate.propagate,
    video.keypoints,
    video.features,
    app.app,
    mask.frame,
    mask.mask,
    export.export_masks,
    export.cut_out,
    pictures.attention,
    pictures.correspondence,
    pictures.pca,
    pictures.reconstruct,
    models.models,
    models.info,
    train.train,
    shards.shards,
    train.export_run,
    sweep.sweep,
    models.convert,
    models.card,
    models.fit_projection,
    models.export,
    models.push,
)
MORE_COMMANDS: tuple[Callable[..., None], ...] = (machine.env, machine.bench, completion)  # after evaluate and score
