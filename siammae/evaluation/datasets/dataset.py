"""Dataset, the interface of all data sets, and Scores, that of their results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, PointSequence, TrackSequence, read_names

Sequences = Sequence[MaskSequence] | Sequence[PointSequence] | Sequence[TrackSequence]
Progress = Callable[[str], object]  # takes the name of a sequence that is done


class Scores(Protocol):
    """Scores of a data set's predictions."""

    @property
    def headline(self) -> tuple[str, float]:
        """Name and value, 0 to 1, of the figure that papers report."""

    def table(self) -> str:
        """Format percentages as a Markdown table."""

    def figures(self) -> dict[str, Any]:
        """Return all figures as JSON's types; `sequences` holds `score`, `curve` (a name) and `frames` for the report."""


@dataclass(frozen=True)
class Dataset(ABC):
    """A data set in a folder.

    Attributes:
        root: its folder; `find` says in which layout.
        sequences: names of the sequences to use.
        split: text file that names them, one in each line. If neither is given, the data set's own validation or test set.
        name: name of the data set in protocols and records.
        rule: how predictions are scored, in a few words.
        first_scored: number of the annotation, counted from 0, to which the first score of a sequence belongs.
        options: fields of the data set that decide which files are its sequences; `record` has them.
        submission_folder: folder in which the server expects the sequences inside a submission, "" for none.
    """

    root: PathLike
    sequences: Sequence[str] | None = None
    split: PathLike | None = None

    name: ClassVar[str]
    rule: ClassVar[str]
    first_scored: ClassVar[int] = 0
    options: ClassVar[tuple[str, ...]] = ()
    submission_folder: ClassVar[str] = ""

    @abstractmethod
    def find(self) -> Sequences:
        """Find the sequences with their frames and annotations.

        Raises:
            FileNotFoundError: another layout, or files that are missing, all of them named.
            ValueError: annotations that cannot be read or used.
        """

    def inputs(self) -> Sequences:
        """Find the sequences with what prediction alone reads, where scores need more; errors as in `find`."""
        return self.find()

    @abstractmethod
    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> Scores:
        """Score the predictions in a folder.

        Args:
            predictions: one folder of PNG masks, or one CSV file of keypoints, for each sequence.
            progress: called with the name of each sequence when it is done.

        Raises:
            FileNotFoundError: predictions that are missing, all of them named, before anything is scored.
            ValueError: predictions that cannot be read or do not fit the annotations.
        """

    def export(self, scores: Scores, folder: Path) -> list[Path]:
        """Write scores as the files of the data set's official tool, if it has any, and return their paths."""
        return []

    def record(self) -> dict[str, Any]:
        """Return everything but the sequences' names that decides the predictions; `read_dataset` reads it."""
        return {"dataset": self.name, "root": str(Path(self.root).resolve())}

    def wanted(self) -> list[str]:
        """Return the names in `sequences` and `split`; empty if neither is given."""
        if isinstance(self.sequences, str):
            raise ValueError(f"sequences is {self.sequences!r}; expected a list of names, such as [{self.sequences!r}]")
        return [*(self.sequences or ()), *(read_names(self.split) if self.split is not None else ())]
