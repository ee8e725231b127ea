"""Write docs/cli.md, the page of the commands, from their own help.

python docs/make_cli.py
"""

import contextlib
import io
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from siammae.cli import main
from siammae.cli.options import ModelOptions, PropagationOptions

PAGE = Path(__file__).with_name("cli.md")
GROUPS = {  # the rest follows under "Other commands"
    "Label a video": ("app", "propagate", "keypoints", "export-masks", "cut-out", "demo"),
    "Frames, masks and pictures": ("frame", "mask", "attention", "correspondence", "pca", "reconstruct"),
    "Features, models and weights": ("features", "models", "info", "convert", "fit-projection", "card", "export", "push"),
    "Training": ("train", "sweep", "export-run", "shards"),
    "Evaluation": ("evaluate", "score"),
    "This machine": ("env", "bench", "completion"),
}
SHARED = {"Model options": ModelOptions, "Propagation options": PropagationOptions}


class Option(NamedTuple):
    """A row of a table: how an argument is written, its default, and its help."""

    name: str
    default: str
    text: str

    @property
    def row(self) -> str:
        return f"| {self.name} | {self.default} | {_cell(self.text)} |"


class Help(NamedTuple):
    """The help of a command, taken apart."""

    usage: str
    summary: str
    notes: list[str]
    examples: list[str]
    arguments: list[Option]
    options: list[Option]


def help_of(*command: str) -> str:
    """Return the help of a command with every sentence on one line, without rulers."""
    text = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "10000", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    lines = [re.sub(r"^ (?=\S)", "", line.rstrip()) for line in text.getvalue().splitlines()]
    return "\n".join(line for line in lines if not re.fullmatch("-+", line)).strip()


def parse(text: str) -> Help:
    """Take the help of a command apart."""
    head, _, options = text.partition("\noptions\n")
    head, _, arguments = head.partition("\npositional arguments\n")
    usage, summary, *rest = [" ".join(part.split()) for part in head.split("\n\n") if part.strip()]
    examples = [part.removeprefix("Example: ") for part in rest if part.startswith("Example: ")]
    notes = [part for part in rest if not part.startswith("Example: ")]
    usage = re.sub(
        r"\[[A-Z0-9 -]+ OPTIONS\]", "[OPTIONS]", usage.removeprefix("usage: ").replace("[-h] ", "").replace(" [-h]", "")
    )
    return Help(usage, summary, notes, examples, _options(arguments), _options(options))


def _options(block: str) -> list[Option]:
    """Read the rows of a block: two spaces, the name, and the help on the same line or further in on the next ones."""
    rows: list[list[str]] = []
    for line in block.splitlines():
        if line.startswith("  ") and not line.startswith("   "):
            name, _, text = line.strip().partition("  ")
            rows.append([name, text.strip()])
        elif line.strip():
            rows[-1][1] += f" {line.strip()}"
    return [_option(name, text.strip()) for name, text in rows if not name.startswith("-h,")]


def _option(name: str, text: str) -> Option:
    default = re.search(r"\s*\((required|repeatable|default: ?(.*))\)$", text)
    value = "" if default is None else default[2] if default[2] is not None else default[1]
    if name.startswith("-") and ", --no-" in name:
        name, value = name.partition(", ")[0], {"True": "on", "False": ""}[value]
    name = name.replace("{None}|", "").replace("{INT INT}", "INT INT")
    name = re.sub(r"^(-\w) \w+, (--[\w-]+)", r"\1, \2", name)  # -o PATH, --out PATH
    shown = "" if value in ("", "None") else value if value in ("required", "repeatable", "on") else f"`{_cell(value)}`"
    return Option(f"`{_cell(name)}`", shown, text[: default.start()] if default else text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def commands(*group: str) -> list[tuple[str, ...]]:
    """List all commands of a group and of the groups in it."""
    names: list[tuple[str, ...]] = []
    for name in re.findall(r"• ([\w-]+)", help_of(*group)):
        names += commands(*group, name) or [(*group, name)]
    return names


def _table(options: list[Option], first: str) -> str:
    return "\n".join([f"| {first} | default | meaning |", "|---|---|---|", *(option.row for option in options)])


def _shared(helps: list[Help]) -> dict[str, list[Option]]:
    """Find the rows of the options that several commands share, as they are written where they are used first."""
    found = {}
    for title, kind in SHARED.items():
        names = {f"--{field.name}" for field in fields(kind)}
        users = (help for help in helps if names <= {_flag(option) for option in help.options})
        found[title] = [option for option in next(users).options if _flag(option) in names]
    return found


def _flag(option: Option) -> str:
    return re.findall(r"--[\w-]+", option.name)[0]


def _section(command: str, help: Help, shared: dict[str, list[Option]]) -> str:
    own = [option for option in help.options if not any(option in options for options in shared.values())]
    titles = [title for title, options in shared.items() if any(option in help.options for option in options)]
    parts = [
        f"### siammae {command}",
        help.summary,
        *help.notes,
        "\n".join(["```text", f"usage: {help.usage}", *(f"example: {example}" for example in help.examples), "```"]),
    ]
    if help.arguments:
        parts.append(_table(help.arguments, "argument"))
    if own:
        parts.append(_table(own, "option"))
    if titles:
        links = " and the ".join(f"[{title.lower()}](#{title.lower().replace(' ', '-')})" for title in titles)
        parts.append(f"{'And the' if own else 'The'} {links}.")
    return "\n\n".join(parts)


def page() -> str:
    helps = {" ".join(command): parse(help_of(*command)) for command in commands()}
    shared = _shared(list(helps.values()))
    known = [name for names in GROUPS.values() for name in names]
    rest = tuple(dict.fromkeys(name for command in helps if (name := command.split()[0]) not in known))
    groups = GROUPS | ({"Other commands": rest} if rest else {})
    parts = [
        "# Commands",
        "`siammae COMMAND --help` shows the same in the shell. The exit code is 0 for success, 2 for bad usage or input, 1 for "
        "a failure, 130 after Ctrl-C.",
    ]
    members = {title: [c for name in names for c in helps if c.split()[0] == name] for title, names in groups.items()}
    for title, names in members.items():
        rows = [f"| [`{name}`](#siammae-{name.replace(' ', '-')}) | {_cell(helps[name].summary)} |" for name in names]
        parts += [f"**{title}**", "\n".join(["| command | what it does |", "|---|---|", *rows])]
    for title, names in members.items():
        parts += [f"## {title}", *(_section(name, helps[name], shared) for name in names)]
    parts.append("## Options of several commands")
    parts += [f"### {title}\n\n{_table(options, 'option')}" for title, options in shared.items()]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
