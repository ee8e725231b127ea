"""Labels of one frame, carried to all frames: masks and keypoints, streamed or as a whole, into memory or into files."""

from siammae.propagation.config import ConfigLike, PropagationConfig, as_config
from siammae.propagation.folder import propagate_to_folder, read_run
from siammae.propagation.keypoints import propagate_keypoints, track_keypoints
from siammae.propagation.masks import LabelPropagator, propagate_labels

__all__ = [
    "ConfigLike",
    "LabelPropagator",
    "PropagationConfig",
    "as_config",
    "propagate_keypoints",
    "propagate_labels",
    "propagate_to_folder",
    "read_run",
    "track_keypoints",
]
