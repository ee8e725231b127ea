"""Scores of regions, J and F of the objects of a set of sequences: those of DAVIS, YouTube-VOS, MOSE and LVOS."""

import math
import statistics as averages
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siammae.evaluation.metrics import Statistics, statistics
from siammae.files import atomic

Size = tuple[int, int]


@dataclass(frozen=True)
class ObjectScores:
    """J and F of one object in the annotations that count, whose numbers are `frames`."""

    sequence: str
    id: int
    j_frames: tuple[float, ...]
    f_frames: tuple[float, ...]
    frames: tuple[int, ...]
    seen: bool | None = None

    @property
    def j(self) -> Statistics:
        return statistics(self.j_frames)

    @property
    def f(self) -> Statistics:
        return statistics(self.f_frames)

    @property
    def v(self) -> float:
        """V of LVOS: the standard deviation of (J + F) / 2 over the frames, whose square is rounded to 4 digits."""
        values = (np.asarray(self.j_frames) + np.asarray(self.f_frames)) / 2
        return math.sqrt(round(float(np.mean((values - values.mean()) ** 2)), 4))


@dataclass(frozen=True)
class RegionScores:
    """Scores of a set of sequences.

    Attributes:
        objects: scores of every object. The figures of the set are means over objects, not over sequences.
        unknown_ids: ids in a sequence's predictions that are no object's; their pixels count as background.
        resized: another size, (H, W), and the scores at that size, if `Davis.resized` asks for it.
        first: number of the first annotation that counts, where the curves of the sequences begin.
        attributes: for each attribute the sequences that have it, if the data set names attributes.
    """

    objects: tuple[ObjectScores, ...]
    unknown_ids: dict[str, tuple[int, ...]]
    resized: "tuple[Size, RegionScores] | None" = None
    first: int = 0
    attributes: Mapping[str, Sequence[str]] | None = None

    @property
    def j(self) -> Statistics:
        return _mean([scores.j for scores in self.objects])

    @property
    def f(self) -> Statistics:
        return _mean([scores.f for scores in self.objects])

    @property
    def j_and_f(self) -> float:
        return (self.j.mean + self.f.mean) / 2

    @property
    def groups(self) -> dict[str, float]:
        """J and F of objects of seen and of unseen kinds, by name; empty unless there are both."""
        kinds = ("seen", True), ("unseen", False)
        groups = {name: [scores for scores in self.objects if scores.seen is seen] for name, seen in kinds}
        if not all(groups.values()):
            return {}
        return {
            f"{measure} {name}": averages.fmean(getattr(scores, measure.lower()).mean for scores in objects)
            for measure in ("J", "F")
            for name, objects in groups.items()
        }

    @property
    def sequences(self) -> dict[str, "RegionScores"]:
        """Scores of each sequence alone."""
        by_name: dict[str, list[ObjectScores]] = {}
        for scores in self.objects:
            by_name.setdefault(scores.sequence, []).append(scores)
        return {
            name: RegionScores(
                tuple(objects), {key: ids for key, ids in self.unknown_ids.items() if key == name}, first=self.first
            )
            for name, objects in by_name.items()
        }

    @property
    def headline(self) -> tuple[str, float]:
        """J&F; where kinds are seen and unseen, the mean of the four groups, as YouTube-VOS and LVOS define it."""
        groups = self.groups
        return ("G", averages.fmean(groups.values())) if groups else ("J&F", self.j_and_f)

    def table(self) -> str:
        """Format percentages of the set, of every attribute, every sequence and, if it has several, every object; Markdown."""
        rows = [_row("all", self)]
        if self.resized:
            (height, width), scores = self.resized
            rows.append(_row(f"all, resized to {height} x {width}", scores))
        rows += [_row(f"attribute {name}", self._of(names)) for name, names in self._attributes().items()]
        for name, scores in self.sequences.items():
            rows.append(_row(name, scores))
            if len(scores.objects) > 1:
                rows += [_row(f"{name} {item.id}", RegionScores((item,), {})) for item in scores.objects]
        head = "| | J&F | J mean | recall | decay | F mean | recall | decay |\n|---|---|---|---|---|---|---|---|\n"
        notes = [f"{name} {100 * value:.1f}" for name, value in self.groups.items()]
        if notes:
            notes.insert(0, f"{self.headline[0]} {100 * self.headline[1]:.1f}")
        return head + "\n".join(rows) + ("\n\n" + ", ".join(notes) if notes else "")

    def figures(self) -> dict[str, Any]:
        """Return all figures, those of every frame included, as JSON's types; the report shows `sequences`."""
        return {
            "J&F": self.j_and_f,
            "J": self.j._asdict(),
            "F": self.f._asdict(),
            **self.groups,
            "V": averages.fmean(item.v for item in self.objects),
            "resized": self.resized and {"size": self.resized[0], **self.resized[1].figures()},
            "attributes": {name: self._of(names)._summary() for name, names in self._attributes().items()},
            "sequences": {name: scores._curve() for name, scores in self.sequences.items()},
            "objects": [asdict(item) | {"J": item.j._asdict(), "F": item.f._asdict()} for item in self.objects],
            "unknown_ids": self.unknown_ids,
        }

    def _attributes(self) -> dict[str, list[str]]:
        """Return the sequences of each attribute that has any here."""
        names = set(self.sequences)
        found = {name: [one for one in owners if one in names] for name, owners in (self.attributes or {}).items()}
        return {name: owners for name, owners in found.items() if owners}

    def _of(self, names: Sequence[str]) -> "RegionScores":
        return RegionScores(tuple(item for item in self.objects if item.sequence in names), {})

    def _summary(self) -> dict[str, Any]:
        return {"J&F": self.j_and_f, "J": self.j._asdict(), "F": self.f._asdict(), "sequences": sorted(self.sequences)}

    def _curve(self) -> dict[str, Any]:
        """Return the scores of this one sequence for the report, with the mean J over the objects of each annotation."""
        values: list[list[float]] = [[] for _ in range(self.first, 1 + max(item.frames[-1] for item in self.objects))]
        for item in self.objects:
            for number, j in zip(item.frames, item.j_frames, strict=True):
                values[number - self.first].append(j)
        return {
            "score": self.j_and_f,
            "curve": "J",
            "frames": [averages.fmean(js) if js else None for js in values],
            "decay": self.j.decay,
            "weight": len(self.objects),
        }


def write_csvs(scores: RegionScores, folder: Path, split: str) -> list[Path]:
    """Write the tables of the official davis2017-evaluation: global_results-SPLIT.csv and per-sequence_results-SPLIT.csv."""
    figures = [scores.j_and_f, *scores.j, *scores.f]
    overall = ["J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay", ",".join(f"{figure:.3f}" for figure in figures)]
    rows = [f"{item.sequence}_{item.id},{item.j.mean:.3f},{item.f.mean:.3f}" for item in scores.objects]
    tables = {f"global_results-{split}.csv": overall, f"per-sequence_results-{split}.csv": ["Sequence,J-Mean,F-Mean", *rows]}
    for name, lines in tables.items():
        with atomic(folder / name) as draft:
            draft.write_text("\n".join(lines) + "\n")
    return [folder / name for name in tables]


def _mean(objects: Sequence[Statistics]) -> Statistics:
    return Statistics(*(averages.fmean(values) for values in zip(*objects, strict=True)))


def _row(name: str, scores: RegionScores) -> str:
    figures = scores.j_and_f, *scores.j, *scores.f
    return f"| {name} | {' | '.join(f'{100 * figure:.1f}' for figure in figures)} |"
