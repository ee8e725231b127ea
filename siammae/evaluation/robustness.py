"""Robustness: the same sequences clean and distorted, and J of each beside the clean one."""

import json
import statistics as averages
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from siammae.encoder import Encoder
from siammae.evaluation.datasets.davis import Davis
from siammae.evaluation.datasets.sequences import PathLike
from siammae.evaluation.distortions import DISTORTIONS, Distortion, write_distorted
from siammae.evaluation.evaluation import Evaluation, Options, evaluate
from siammae.evaluation.predict import processes
from siammae.evaluation.regions import RegionScores
from siammae.files import atomic
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL

ROBUSTNESS_FILE = "robustness.json"


@dataclass(frozen=True)
class Comparison:
    """Mean J of distorted sequences, and of the clean ones in the same frames.

    Attributes:
        name, text: see `Distortion`.
        j: mean J of the distorted sequences, over objects.
        clean: mean J of the clean sequences, in the frames that the distorted ones have, each counted as often.
        sequences: both for each sequence.
    """

    name: str
    text: str
    j: float
    clean: float
    sequences: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Robustness:
    """The result of a robustness evaluation.

    Attributes:
        clean: mean J of the clean sequences.
        comparisons: one for each distortion.
        about: the facts of the clean evaluation; the distorted ones have the same settings.
    """

    clean: float
    comparisons: tuple[Comparison, ...]
    about: Mapping[str, Any]

    def table(self) -> str:
        """Format percentages of each distortion beside the clean frames, and of every sequence; Markdown."""
        head = "| | J | J clean, same frames | difference | |\n|---|---|---|---|---|\n"
        rows = [f"| clean | {100 * self.clean:.1f} | | | |"]
        for one in self.comparisons:
            difference = 100 * (one.j - one.clean)
            rows.append(f"| {one.name} | {100 * one.j:.1f} | {100 * one.clean:.1f} | {difference:+.1f} | {one.text} |")
        return head + "\n".join(rows)

    def figures(self) -> dict[str, Any]:
        """Return all figures as JSON's types."""
        return {
            "clean": self.clean,
            "distortions": {
                one.name: {
                    "text": one.text,
                    "J": one.j,
                    "J clean": one.clean,
                    "sequences": {name: {"J": j, "J clean": clean} for name, (j, clean) in one.sequences.items()},
                }
                for one in self.comparisons
            },
        }


def evaluate_robustness(
    dataset: Davis,
    out: PathLike,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    distortions: Sequence[str] = (),
    **options: Unpack[Options],
) -> Robustness | None:
    """Evaluate a model on DAVIS as it is, and on distorted copies of its sequences.

    `out` gets the folders `clean` and one for each distortion, which `siammae evaluate report` reads; `sets`, the distorted
    sequences in DAVIS's layout, for any program; and robustness.json.

    Args:
        dataset: the clean sequences.
        out: folder for everything, made if missing.
        model: an Encoder, or a name for `load_model`.
        distortions: names of the distortions; all if empty.
        options: see `Options`.

    Returns:
        J of each distortion beside the clean one; None in every process but the first.

    Raises:
        ValueError: a distortion that does not exist; sequences of fewer than six frames; and what `evaluate` raises.
        FileNotFoundError, FileExistsError: see `evaluate`.
    """
    known = {one.name: one for one in DISTORTIONS}
    if unknown := [name for name in distortions if name not in known]:
        raise ValueError(f"no distortion is called {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in distortions] or list(DISTORTIONS)
    sequences, target = dataset.find(), Path(out)
    if short := [sequence.name for sequence in sequences if len(sequence.frames) < 6]:
        raise ValueError(f"{', '.join(short)} of {dataset.root}: fewer than six frames, too few to leave some out")
    encoder = as_encoder(model)
    clean = evaluate(dataset, target / "clean", encoder, **options)
    comparisons = []
    for distortion in chosen:
        root = target / "sets" / distortion.name
        with processes() as (rank, _, wait):
            if rank == 0:
                write_distorted(sequences, distortion, root)
            wait()
        order = write_distorted(sequences, distortion, root)  # which is there now
        copy = Davis(root, [sequence.name for sequence in sequences])
        evaluation = evaluate(copy, target / distortion.name, encoder, **options)
        if clean is not None and evaluation is not None:
            comparisons.append(_compare(distortion, order, clean, evaluation))
    if clean is None:
        return None
    robustness = Robustness(_regions(clean).j.mean, tuple(comparisons), clean.about)
    with atomic(target / ROBUSTNESS_FILE) as draft:
        draft.write_text(json.dumps({**clean.about, **robustness.figures()}, indent=1) + "\n")
    return robustness


def _compare(
    distortion: Distortion, order: Mapping[str, Sequence[int]], clean: Evaluation, distorted: Evaluation
) -> Comparison:
    """Pair the J of each distorted frame with that of the clean frame that it shows, where both count."""
    before = {(item.sequence, item.id): dict(zip(item.frames, item.j_frames, strict=True)) for item in _regions(clean).objects}
    by_sequence: dict[str, list[tuple[float, float]]] = {}
    for item in _regions(distorted).objects:
        originals = before[item.sequence, item.id]
        numbers = [order[item.sequence][place] for place in item.frames]
        pairs = [(j, originals[number]) for number, j in zip(numbers, item.j_frames, strict=True) if number in originals]
        means = averages.fmean(j for j, _ in pairs), averages.fmean(j for _, j in pairs)
        by_sequence.setdefault(item.sequence, []).append(means)
    objects = [means for sequence in by_sequence.values() for means in sequence]
    j, j_clean = (averages.fmean(means[index] for means in objects) for index in (0, 1))
    sequences = {
        name: (averages.fmean(j for j, _ in means), averages.fmean(j for _, j in means)) for name, means in by_sequence.items()
    }
    return Comparison(distortion.name, distortion.text, j, j_clean, sequences)


def _regions(evaluation: Evaluation) -> RegionScores:
    if not isinstance(evaluation.scores, RegionScores):
        raise TypeError(f"the scores are {type(evaluation.scores).__name__}; expected J and F")
    return evaluation.scores
