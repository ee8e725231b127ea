"""Pictures for people: masks, keypoints, attention, correspondence and features over frames.

Every function takes any frame that `siammae.video.as_frame` takes, and returns pictures as arrays [H, W, 3], uint8.
"""

from siammae.visualize.colors import FeatureColors
from siammae.visualize.cutouts import cut_out, write_cut_outs
from siammae.visualize.maps import attention_maps, correspondence, draw_heat
from siammae.visualize.masks import overlay
from siammae.visualize.points import draw_keypoints, draw_trails
from siammae.visualize.sheets import before_after, contact_sheet

__all__ = [
    "FeatureColors",
    "attention_maps",
    "before_after",
    "contact_sheet",
    "correspondence",
    "cut_out",
    "draw_heat",
    "draw_keypoints",
    "draw_trails",
    "overlay",
    "write_cut_outs",
]
