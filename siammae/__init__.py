"""Siamese masked autoencoder features for video correspondence, and labels carried from one frame through a whole video."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siammae.config import PropagationConfig
    from siammae.decoding import VideoError
    from siammae.encoder import Encoder
    from siammae.features import Geometry, extract_features
    from siammae.folders import save_model
    from siammae.pretrained import load_model, push_to_hub
    from siammae.propagation import LabelPropagator, propagate_keypoints, propagate_labels
    from siammae.registry import ModelInfo, list_models, model_info
    from siammae.tensors import WeightsError
    from siammae.video import read_frames

__version__ = "0.1.0.dev0"

_HOMES = {
    "config": ("PropagationConfig",),
    "decoding": ("VideoError",),
    "encoder": ("Encoder",),
    "features": ("Geometry", "extract_features"),
    "folders": ("save_model",),
    "pretrained": ("load_model", "push_to_hub"),
    "propagation": ("LabelPropagator", "propagate_keypoints", "propagate_labels"),
    "registry": ("ModelInfo", "list_models", "model_info"),
    "tensors": ("WeightsError",),
    "video": ("read_frames",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Encoder",
    "Geometry",
    "LabelPropagator",
    "ModelInfo",
    "PropagationConfig",
    "VideoError",
    "WeightsError",
    "extract_features",
    "list_models",
    "load_model",
    "model_info",
    "propagate_keypoints",
    "propagate_labels",
    "push_to_hub",
    "read_frames",
    "save_model",
]


_MODULES = ("evaluation", "features", "labels", "ops", "output", "runs", "synthetic", "visualize")


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(f"siammae.{_HOME_OF[name]}"), name)
    if name in _MODULES:
        return import_module(f"siammae.{name}")
    raise AttributeError(f"module 'siammae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
