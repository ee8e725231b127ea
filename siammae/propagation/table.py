"""The table of scores beside the masks of a folder: written line by line, resumable, sorted by frames at the end."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from siammae.files import atomic
from siammae.propagation.scores import Scores

SCORES_FILE = "scores.csv"
DRAFT_FILE = ".siammae-scores.csv"
COLUMNS = ("frame", "object", "score", "lost", "area", "box")


class ScoreTable:
    """The table of a propagation into a folder.

    Args:
        folder: folder of the masks.
        positions: number of frames visited before, whose rows are kept; rows of later ones are dropped.
    """

    def __init__(self, folder: Path, positions: int) -> None:
        self._folder, self._draft = folder, folder / DRAFT_FILE
        lines = self._draft.read_text().splitlines(keepends=True) if self._draft.exists() and positions else []
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",", 1)[0]) < positions]
        with atomic(self._draft) as draft:
            draft.write_text("".join(kept))

    def write(self, position: int, frame: int, scores: Scores) -> None:
        """Append the rows of a frame, the `position`-th that was visited."""
        rows = [
            [position, frame, label, f"{score:.4f}", int(lost), area, " ".join(map(str, box))]
            for label, score, lost, area, box in zip(
                scores.ids, scores.score, scores.lost, scores.area, scores.box.tolist(), strict=True
            )
        ]
        with self._draft.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    def finish(self) -> None:
        """Write `scores.csv`, sorted by frames, and remove the draft."""
        with self._draft.open(newline="") as file:
            rows = {(int(row[1]), number): row[1:] for number, row in enumerate(csv.reader(file))}
        with atomic(self._folder / SCORES_FILE) as draft, draft.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows[key] for key in sorted(rows))
        self._draft.unlink()


def has_rows(folder: Path, frames: Iterable[int]) -> bool:
    """Check whether the draft of a folder holds rows of these frames; without objects there are no rows at all."""
    draft = folder / DRAFT_FILE
    wanted = {str(frame) for frame in frames}
    if not draft.exists():
        return not wanted
    scored = {line.split(",", 2)[1] for line in draft.read_text().splitlines() if line.count(",") > 1}
    return not scored or wanted <= scored


def read_lost(folder: Path) -> dict[int, set[int]]:
    """Read from the table of a folder which objects are lost, by the numbers of frames; nothing if there is no table."""
    lost: dict[int, set[int]] = {}
    for name in (SCORES_FILE, DRAFT_FILE):
        if (folder / name).exists():
            with (folder / name).open(newline="") as file:
                rows = [row[1:] for row in csv.reader(file)] if name == DRAFT_FILE else list(csv.reader(file))[1:]
            for row in rows:
                if row[3] == "1":
                    lost.setdefault(int(row[0]), set()).add(int(row[1]))
            break
    return lost


def describe_lost(lost: Mapping[int, Iterable[int]]) -> list[str]:
    """Say which objects are lost in which frames: "object 2 is lost in frames 31 to 60"."""
    sentences = []
    for label in sorted({label for labels in lost.values() for label in labels}):
        frames = sorted(frame for frame, labels in lost.items() if label in labels)
        runs: list[list[int]] = []
        for frame in frames:
            if runs and frame == runs[-1][1] + 1:
                runs[-1][1] = frame
            else:
                runs.append([frame, frame])
        texts = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
        more = f" and {len(texts) - 6} more ranges" if len(texts) > 6 else ""
        sentences.append(f"object {label} is lost in frame{'s' * (len(frames) > 1)} {', '.join(texts[:6])}{more}")
    return sentences
