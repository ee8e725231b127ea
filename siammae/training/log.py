"""The log of a run: log.jsonl, one line for every few steps, and the loss curve drawn from it."""

import json
from pathlib import Path
from typing import Any

from siammae.files import atomic
from siammae.training.pictures import draw_curve, save_png

LOG, CURVE = "log.jsonl", "loss.png"


def read_log(output: Path) -> list[dict[str, Any]]:
    """Read the entries of a run's log, in order; none if it has not begun.

    Each has step, progress (0 to 1), seconds, loss (mean since the entry before), lr, pairs_per_second, skipped (files so
    far), and grad_norm where gradients are clipped.
    """
    path = output / LOG
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_log(output: Path, entry: dict[str, Any]) -> None:
    """Add a line to the log."""
    with open(output / LOG, "a") as file:
        file.write(json.dumps(entry) + "\n")


def rewind_log(output: Path, step: int) -> None:
    """Drop the entries after `step`, from which the run goes on."""
    kept = [json.dumps(entry) + "\n" for entry in read_log(output) if entry["step"] <= step]
    with atomic(output / LOG) as draft:
        draft.write_text("".join(kept))


def draw_log(output: Path) -> None:
    """Draw the loss curve so far, if anything is logged."""
    points = [(entry["step"], entry["loss"]) for entry in read_log(output)]
    if points:
        save_png(draw_curve(points, title="loss on masked patches", x_label="steps"), output / CURVE)
