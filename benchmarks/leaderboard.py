"""Fill the tables of docs/leaderboard.md from the scores of evaluations.

    python benchmarks/leaderboard.py RUNS [RUNS ...]

RUNS are folders that `siammae evaluate` wrote, or folders of such folders; NAME=RUNS shows a model under another name, such as
"untrained vitt8d6"=runs/untrained. Each table stands in the page between two comments with its name, and is replaced whole:
give all runs of its kind at once. A table for which no run is given stays as it is.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siammae.evaluation.bootstrap import bootstrap_mean
from siammae.files import atomic

PAGE = Path(__file__).parents[1] / "docs" / "leaderboard.md"
# the sequences on which settings and weights were chosen
DEVELOPMENT = {
    *("blackswan", "breakdance", "camel", "car-roundabout", "cows"),
    *("dog", "drift-straight", "horsejump-high", "parkour", "soapbox"),
}

Run = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUNS")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    runs = [run for argument in options.runs for run in read_runs(argument)]
    text = options.page.read_text(encoding="utf-8")
    for name, content in (("development", development(runs)), ("apart", apart(runs)), ("robustness", robustness(runs))):
        if content:
            text = replace(text, name, content)
    with atomic(options.page) as draft:
        draft.write_text(text, encoding="utf-8")


def read_runs(argument: str) -> Iterator[Run]:
    """Yield the facts and figures of each run in a folder, with `label`, the model's name in the tables."""
    name, separator, folder = argument.rpartition("=")
    files = sorted(path for kind in ("scores.json", "robustness.json") for path in Path(folder).rglob(kind))
    files = [path for path in files if path.name == "robustness.json" or not (path.parents[1] / "robustness.json").exists()]
    if not files:
        raise FileNotFoundError(f"{folder} holds no scores.json; expected folders that `siammae evaluate` wrote")
    for path in files:
        content = json.loads(path.read_text())
        yield content | {"label": name if separator else content["model"]}


def development(runs: Sequence[Run]) -> str:
    """Make the table of DAVIS on the development sequences, best first."""
    chosen = [run for run in runs if is_davis(run) and set(run["sequences"]) <= DEVELOPMENT]
    rows = [
        [
            run["label"],
            f"`{run['protocol']['name']}`",
            str(len(run["sequences"])),
            figure_with_interval(run),
            percent(run["J"]["mean"]),
            percent(run["F"]["mean"]),
            percent(run["J"]["decay"]),
            run["weights_sha256"][:8],
            run["date"],
        ]
        for run in sorted(chosen, key=lambda run: -run["headline"]["value"])
    ]
    return table(["model", "protocol", "sequences", "J&F", "J", "F", "decay of J", "weights", "date"], rows)


def apart(runs: Sequence[Run]) -> str:
    """Make the table of data that had no part in any choice: a row for each model and protocol."""
    columns = {
        "DAVIS, other sequences: J&F": lambda run: is_davis(run) and not set(run["sequences"]) & DEVELOPMENT,
        "BADJA: PCK@0.2": lambda run: run["dataset"] == "badja",
        "BADJA: less than 3 px": lambda run: run["dataset"] == "badja" and "delta 3 px" in run,
        "Chen: mIoU": lambda run: run["dataset"] == "chen",
    }
    keys = dict.fromkeys((run["label"], run["protocol"]["name"]) for run in runs for fits in columns.values() if fits(run))
    rows = []
    for label, protocol in keys:
        cells = []
        for name, fits in columns.items():
            own = [run for run in runs if (run["label"], run["protocol"]["name"]) == (label, protocol) and fits(run)]
            cells.append("-" if not own else percent(own[0]["delta 3 px"]) if "3 px" in name else figure_with_interval(own[0]))
        rows.append([label, f"`{protocol}`", *cells])
    return table(["model", "protocol", *columns], rows)


def robustness(runs: Sequence[Run]) -> str:
    """Make the table of robustness: J on distorted sequences and, in brackets, its difference to the clean ones."""
    chosen = [run for run in runs if "distortions" in run]
    names = list(dict.fromkeys(name for run in chosen for name in run["distortions"]))
    rows = []
    for run in chosen:
        pairs = [run["distortions"].get(name) for name in names]
        cells = ["-" if one is None else f"{percent(one['J'])} ({100 * (one['J'] - one['J clean']):+.1f})" for one in pairs]
        rows.append([run["label"], f"`{run['protocol']['name']}`", str(len(run["sequences"])), percent(run["clean"]), *cells])
    return table(["model", "protocol", "sequences", "clean", *names], rows)


def is_davis(run: Run) -> bool:
    return run["dataset"] == "davis" and "distortions" not in run


def figure_with_interval(run: Run) -> str:
    """Format the headline with the 95 % interval of its mean over sequences."""
    entries = [entry for entry in run["sequences"].values() if entry["score"] is not None]
    scores = np.array([entry["score"] for entry in entries], dtype=float)
    weights = np.array([entry.get("weight", 1) for entry in entries], dtype=float)
    interval = bootstrap_mean(scores, weights)
    return f"**{percent(run['headline']['value'])}** ({percent(interval.low)} to {percent(interval.high)})"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown; without rows it is empty."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) if rows else ""


def replace(text: str, name: str, content: str) -> str:
    """Replace what stands between the two comments with a table's name; ValueError if the page lacks them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        raise ValueError(f"the page lacks {begin} or {end}")
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{content}\n\n{end}", text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
