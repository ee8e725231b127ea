"""From videos, folders and shards to batches of cropped frames.

`build_source` opens what a run's configuration names, and a `Source` gives its micro-batches. `clips` reads frames by time,
`crops`, `motion` and `samples` draw from them, and `files`, `shards` and `cache` are the sources. `finish` adds masks, and
changes of color and blur (`appearance`).
"""

from siammae.training.data.batches import Batch, Source, load
from siammae.training.data.finish import Finish, build_finish, finished
from siammae.training.data.source import build_source

__all__ = ["Batch", "Finish", "Source", "build_finish", "build_source", "finished", "load"]
