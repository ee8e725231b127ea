"""Data sets: each finds its sequences and scores predictions for them."""

from collections.abc import Mapping
from typing import Any

from siammae.evaluation.datasets.badja import Badja
from siammae.evaluation.datasets.dataset import Dataset, Scores
from siammae.evaluation.datasets.davis import Davis
from siammae.evaluation.datasets.jhmdb import Jhmdb
from siammae.evaluation.datasets.vip import Vip

__all__ = ["Badja", "Dataset", "Davis", "Jhmdb", "Scores", "Vip", "read_dataset"]


def read_dataset(record: Mapping[str, Any]) -> Dataset:
    """Rebuild the data set of an evaluation from its record: `Dataset.record` and the sequences; KeyError if it is none."""
    kinds: dict[str, type[Dataset]] = {kind.name: kind for kind in (Davis, Vip, Jhmdb, Badja)}
    options = {key: record[key] for key in ("joints",) if record.get(key)}
    return kinds[record["dataset"]](record["root"], list(record["sequences"]), **options)
