"""Sweep: several runs of one configuration, each with changes of its own, from a YAML list of overrides."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from siammae.training.config import TrainConfig, load_config, read_yaml


@dataclass(frozen=True)
class Row:
    """One run of a sweep.

    Attributes:
        overrides: the line of the list, such as "model.encoder=joint model.decoder=joint"; empty changes nothing.
        folder: name of the run's folder.
        config: the run's configuration.
    """

    overrides: str
    folder: str
    config: TrainConfig

    @property
    def label(self) -> str:
        """The line, or words for an empty one."""
        return self.overrides or "(no change)"


def read_sweep(config: Path, rows: Path, out: Path, common: tuple[str, ...] = ()) -> list[Row]:
    """Read a YAML list of override lines, and check the configuration of every run before any begins.

    Args:
        config: YAML file that all runs share.
        rows: YAML file: a list of lines, each with overrides separated by spaces; an empty line is the file as it is.
        out: folder of the sweep, with a folder for each run.
        common: overrides of all runs, before those of the line.

    Raises:
        ValueError: the file is no such list, two lines are equal, or a line cannot work; the message names it.
    """
    lines = read_yaml(rows.read_bytes(), str(rows))
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"{rows} holds no list of lines; expected items such as: - model.encoder=joint model.decoder=joint")
    found: dict[str, Row] = {}
    for line in (" ".join(line.split()) for line in lines):
        folder = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", line) or "default"
        if folder in found:
            raise ValueError(f"{rows}: the lines {found[folder].label!r} and {line!r} are the same run")
        try:
            changed = load_config(config, [*common, *shlex.split(line), f"output={out / folder}"])
        except ValueError as error:
            raise ValueError(f"{rows}, line {line!r}: {error}") from error
        found[folder] = Row(line, folder, changed)
    return list(found.values())
