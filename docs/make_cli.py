"""Write docs/cli.md, the page of the commands, from their own help.

python docs/make_cli.py
"""

import contextlib
import io
import os
import re
import textwrap
from pathlib import Path
from unittest import mock

from siammae.cli import main

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 80  # of the help, in characters


def help_of(*command: str) -> str:
    """Return the help of a command, without rulers."""
    text = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    lines = [re.sub(r"^ (?=\S)", "", line.rstrip()) for line in text.getvalue().splitlines()]
    return "\n".join(_wrapped(line) for line in lines if not re.fullmatch("-+", line)).strip()


def _wrapped(line: str) -> str:
    """Wrap a line of prose, which tyro does not; usage, examples and options stay as they are."""
    return line if line.startswith(("usage", "Example", " ")) else textwrap.fill(line, WIDTH)


def commands(*group: str) -> list[tuple[str, ...]]:
    """List all commands of a group and of the groups in it."""
    names: list[tuple[str, ...]] = []
    for name in re.findall(r"• ([\w-]+)", help_of(*group)):
        names += commands(*group, name) or [(*group, name)]
    return names


def page() -> str:
    helps = {" ".join(command): help_of(*command) for command in commands()}
    parts = [
        "# Commands\n",
        "The help of each command. The exit code is 0 for success, 2 for bad usage or input, 1 for a failure, 130 "
        "after Ctrl-C.\n",
        "| command | what it does |\n|---|---|",
    ]
    for command, text in helps.items():
        summary = " ".join(text.split("\n\n")[1].split())
        parts.append(f"| [{command}](#siammae-{command.replace(' ', '-')}) | {summary.replace('|', chr(92) + '|')} |")
    parts += [f"\n## siammae {command}\n\n```text\n{text}\n```" for command, text in helps.items()]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
