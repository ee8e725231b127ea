"""The command `siammae sweep`: several training runs, and a table of their scores."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from siammae.cli.checks import Readable
from siammae.cli.options import Out, stop

TABLE, RESULTS, SCORES = "sweep.md", "sweep.json", "scores"


def sweep(
    config: Annotated[Positional[Path], arg(metavar="CONFIG"), Readable("file")],
    rows: Annotated[Positional[Path], arg(metavar="ROWS"), Readable("file")],
    out: Out,
    values: Annotated[Positional[tuple[str, ...]], arg(metavar="KEY=VALUE")] = (),
    davis: Annotated[Path | None, Readable("folder of a data set")] = None,
    sequences: tuple[str, ...] = (),
    protocol: str = "best",
    size: int | None = None,
    launch: str = "",
) -> None:
    """Train one configuration several times, each with the changes of a line, and print a table of their scores.

    The same command continues after an interruption. A run that fails is a row of the table, and the others go on.

    Example: siammae sweep examples/training/k400-vits16-400.yaml examples/training/sweeps/ablations.yaml -o runs/ablations
    data.path=/data/k400/train --davis DAVIS --launch "torchrun --nproc-per-node=8"

    Args:
        config: YAML file with the settings that all runs share.
        rows: YAML list of lines, each with the KEY=VALUE changes of one run.
        out: Folder for the runs, the scores and the table.
        values: Single values that replace the file's in all runs.
        davis: Folder in DAVIS's layout to score every run on: J and F; the table has the loss alone if not given.
        sequences: Sequences to score; the data set's own if not given.
        protocol: Settings to score with: best, dino, crw, cropmae or paper.
        size: Shorter side in pixels at which the encoder sees the frames, instead of the protocol's.
        launch: Command that starts a training in several processes, such as "torchrun --nproc-per-node=8".
    """
    from siammae.files import atomic
    from siammae.training.sweep import read_sweep

    found = read_sweep(config, rows, out, values)
    results: list[dict[str, Any]] = []
    for number, row in enumerate(found, start=1):
        print(f"run {number} of {len(found)}: {row.label}", flush=True)
        failure = _train(config, [*values, *shlex.split(row.overrides), f"output={out / row.folder}"], launch)
        result = {"overrides": row.overrides, "folder": row.folder, "failure": failure}
        results.append(result if failure else result | _result(out / row.folder, davis, sequences, protocol, size))
        with atomic(out / RESULTS) as draft:
            draft.write_text(json.dumps(results, indent=1))
        with atomic(out / TABLE) as draft:
            draft.write_text(table(results) + "\n")
    print(f"{table(results)}\ntable: {out / TABLE}")
    if failed := [result["folder"] for result in results if result["failure"]]:
        stop(f"{len(failed)} of {len(found)} runs failed: {', '.join(failed)}", 1)


def _train(config: Path, values: list[str], launch: str) -> str:
    """Run a training in processes of its own; returns an empty text, or its exit code in words."""
    command = [*(shlex.split(launch) or [sys.executable]), "-m", "siammae", "train", str(config), *values]
    code = subprocess.run(command, check=False).returncode
    if code in (130, -2):
        raise KeyboardInterrupt
    return f"exit code {code}" if code else ""


def _result(run: Path, davis: Path | None, sequences: tuple[str, ...], protocol: str, size: int | None) -> dict[str, Any]:
    """Score a finished run; returns its figures."""
    from siammae.training.folder import describe_run, load_run

    facts = describe_run(run)
    result = {name: facts[name] for name in ("progress", "past_frames", "minutes", "loss")}
    if davis is not None:
        from siammae.evaluation import Davis, evaluate

        dataset = Davis(davis, sequences)
        evaluation = evaluate(
            dataset, run / SCORES / str(facts["steps"]), load_run(run), protocol=protocol, size=size, resume=True
        )
        if evaluation is not None:
            figures = evaluation.scores.figures()
            result |= {"J": figures["J"]["mean"], "F": figures["F"]["mean"], "J&F": figures["J&F"]}
    return result


def table(results: list[dict[str, Any]]) -> str:
    """Format the results as a Markdown table, with the difference of J to the first run."""
    scored = any("J" in result for result in results)
    head = ["run", *(["J", "difference", "F"] if scored else []), "loss", "past frames", "minutes"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    first = results[0].get("J") if results else None
    for result in results:
        cells = [f"`{result['overrides']}`" if result["overrides"] else "(no change)"]
        if result["failure"]:
            lines.append(f"| {' | '.join([*cells, result['failure'], *[''] * (len(head) - 2)])} |")
            continue
        if scored:
            change = "" if first is None else f"{result['J'] - first:+.3f}"
            cells += [f"{result['J']:.3f}", change, f"{result['F']:.3f}"]
        minutes = "" if result["minutes"] is None else f"{result['minutes']:.1f}"
        loss = "" if result["loss"] is None else f"{result['loss']:.4f}"
        lines.append(f"| {' | '.join([*cells, loss, format(result['past_frames'], ','), minutes])} |")
    return "\n".join(lines)
