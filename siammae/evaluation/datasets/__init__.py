"""Data sets: each finds its sequences and scores predictions for them."""

from collections.abc import Mapping
from typing import Any

from siammae.evaluation.datasets.badja import Badja
from siammae.evaluation.datasets.chen import Chen
from siammae.evaluation.datasets.dataset import Dataset, Scores
from siammae.evaluation.datasets.davis import Davis
from siammae.evaluation.datasets.jhmdb import Jhmdb
from siammae.evaluation.datasets.tapvid import TapVid
from siammae.evaluation.datasets.videos import Lvos, Mose, YoutubeVos
from siammae.evaluation.datasets.vip import Vip

__all__ = [
    "Badja",
    "Chen",
    "Dataset",
    "Davis",
    "Jhmdb",
    "Lvos",
    "Mose",
    "Scores",
    "TapVid",
    "Vip",
    "YoutubeVos",
    "read_dataset",
]


def read_dataset(record: Mapping[str, Any]) -> Dataset:
    """Rebuild the data set of an evaluation from its record: `Dataset.record` and the sequences; KeyError if it is none."""
    classes: tuple[type[Dataset], ...] = (Davis, Vip, Jhmdb, Badja, YoutubeVos, Mose, Lvos, Chen, TapVid)
    kinds = {kind.name: kind for kind in classes}
    kind = kinds[record["dataset"]]
    options = {key: record[key] for key in kind.options if record.get(key)}
    return kind(record["root"], list(record["sequences"]), **options)
