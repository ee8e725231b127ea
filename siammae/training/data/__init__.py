"""From videos, folders and shards to batches of cropped frames.

`build_source` opens what a run's configuration names, and a `Source` gives its micro-batches. `clips` reads frames by time,
`crops`, `motion` and `samples` draw from them, and `files`, `shards` and `cache` are the sources.
"""

from siammae.training.data.batches import Batch, Source
from siammae.training.data.load import load
from siammae.training.data.source import build_source

__all__ = ["Batch", "Source", "build_source", "load"]
