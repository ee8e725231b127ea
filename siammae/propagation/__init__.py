"""Propagation of the labels of one frame to all frames: masks and keypoints, streamed, as a whole, or into a folder."""

from siammae.propagation.config import ConfigLike, PropagationConfig, as_config
from siammae.propagation.folder import propagate_to_folder, read_folder
from siammae.propagation.keypoints import KeypointPropagator, propagate_keypoints, propagate_keypoints_to_file
from siammae.propagation.masks import LabelPropagator, propagate_labels
from siammae.propagation.scores import Scores
from siammae.propagation.videos import iter_labels

__all__ = [
    "ConfigLike",
    "KeypointPropagator",
    "LabelPropagator",
    "PropagationConfig",
    "Scores",
    "as_config",
    "iter_labels",
    "propagate_keypoints",
    "propagate_keypoints_to_file",
    "propagate_labels",
    "propagate_to_folder",
    "read_folder",
]
