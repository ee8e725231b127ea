"""Masks in the formats of other tools. `siammae.output` is this package."""

from siammae.labels.output.detections import to_detections
from siammae.labels.output.export import FORMATS, FPS, FormatName, export_masks, match_frames
from siammae.labels.output.masks import LabeledFrame, LabeledObject, Names, VideoMasks

__all__ = [
    "FORMATS",
    "FPS",
    "FormatName",
    "LabeledFrame",
    "LabeledObject",
    "Names",
    "VideoMasks",
    "export_masks",
    "match_frames",
    "to_detections",
]
