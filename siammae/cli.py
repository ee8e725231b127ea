"""The `siammae` command: thin typed functions over the public ones, made into commands by tyro.

What a command needs is imported inside it, so that help is instant.
"""

import os
import sys
import warnings
from collections.abc import Callable

from tyro.extras import SubcommandApp

from siammae import cli_app, cli_machine, cli_masks, cli_models, cli_pictures, cli_video
from siammae.cli_options import stop
from siammae.evaluation.commands import evaluate_app, score_app


def main() -> None:
    """Run the command line; exit code 2 for bad usage or input, 1 for a failure, 130 after Ctrl-C."""
    warnings.showwarning = lambda message, *_: print(f"siammae: warning: {message}", file=sys.stderr)
    try:
        overview = sys.argv[1:2] in ([], ["-h"], ["--help"])
        build_app(overview).cli(prog="siammae", description="Carry labels through video with self-supervised features.")
    except KeyboardInterrupt:
        stop("interrupted; masks and keypoints that were finished are kept", 130)
    except (ValueError, FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        stop(str(error), 2)
    except BrokenPipeError:  # whoever read the output has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (OSError, ImportError) as error:
        from siammae.tensors import WeightsError

        stop(str(error), 2 if isinstance(error, WeightsError) else 1)


def build_app(overview: bool = False) -> SubcommandApp:
    """All commands; for an overview, each is described by the first line of its help alone."""
    app = SubcommandApp()
    for module in (cli_video, cli_app, cli_masks, cli_pictures, cli_models):
        for command in module.COMMANDS:
            app.command(name=command.__name__, help=_first_line(command) if overview else None)(command)
    app.command(evaluate_app, name="evaluate", help="Predict the labels of a whole data set and score them.")
    app.command(score_app, name="score", help="Score labels that anybody predicted for a data set.")
    for command in cli_machine.COMMANDS:
        app.command(name=command.__name__, help=_first_line(command) if overview else None)(command)
    return app


def _first_line(command: Callable[..., None]) -> str:
    return (command.__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    main()
