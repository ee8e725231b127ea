"""Labels that people give (masks, keypoints, shapes), their files, and their soft maps on the grid."""

from siammae.labels import output
from siammae.labels.edges import EdgeFilter, flatten_labels, to_shares
from siammae.labels.grid import (
    Reduction,
    grid_to_points,
    labels_to_grid,
    points_to_crw_grid,
    points_to_grid,
    redraw_points,
    strongest_label,
    upsample,
)
from siammae.labels.keypoints import (
    NamedPoints,
    PointsLike,
    as_points,
    read_named_points,
    read_points,
    read_tracks,
    write_tracks,
)
from siammae.labels.masks import Mask, MaskLike, NearestPixel, as_mask, davis_palette, resize_nearest, to_image, write_mask
from siammae.labels.shapes import draw_shapes

__all__ = [
    "EdgeFilter",
    "Mask",
    "MaskLike",
    "NamedPoints",
    "NearestPixel",
    "PointsLike",
    "Reduction",
    "as_mask",
    "as_points",
    "davis_palette",
    "draw_shapes",
    "flatten_labels",
    "grid_to_points",
    "labels_to_grid",
    "output",
    "points_to_crw_grid",
    "points_to_grid",
    "read_named_points",
    "read_points",
    "read_tracks",
    "redraw_points",
    "resize_nearest",
    "strongest_label",
    "to_image",
    "to_shares",
    "upsample",
    "write_mask",
    "write_tracks",
]
