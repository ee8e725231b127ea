"""Labels as people mark them (masks, keypoints, shapes), their files, and their soft maps on the grid."""

from siammae.labels.grid import (
    Interpolation,
    Reduction,
    grid_to_points,
    labels_to_grid,
    points_to_crw_grid,
    points_to_grid,
    strongest_label,
    upsample,
)
from siammae.labels.keypoints import read_keypoints, read_tracks, write_keypoints
from siammae.labels.masks import Mask, NearestPixel, as_mask, davis_palette, resize_nearest, to_image, write_mask
from siammae.labels.shapes import draw_shapes

__all__ = [
    "Interpolation",
    "Mask",
    "NearestPixel",
    "Reduction",
    "as_mask",
    "davis_palette",
    "draw_shapes",
    "grid_to_points",
    "labels_to_grid",
    "points_to_crw_grid",
    "points_to_grid",
    "read_keypoints",
    "read_tracks",
    "resize_nearest",
    "strongest_label",
    "to_image",
    "upsample",
    "write_keypoints",
    "write_mask",
]
