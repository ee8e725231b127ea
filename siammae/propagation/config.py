"""PropagationConfig: the options of label propagation, and published protocols as presets."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np

from siammae.encoder import Encoder
from siammae.features import Resize
from siammae.geometry import InputSize
from siammae.labels.grid import Reduction
from siammae.labels.masks import NearestPixel
from siammae.ops import LEAST_TEMPERATURE, Window

LARGEST = 10**12  # frames or matches


@dataclass(frozen=True)
class PropagationConfig:
    """Options of label propagation: the ones that people turn, and the ones that imitate published scripts.

    The defaults scored best with `vits8` and `vitt8d6` (docs/benchmarks.md) among settings that let objects leave the picture.

    Attributes: People turn these.
        context_frames: number of recent frames that a frame takes its labels from, besides the anchors (the frames whose labels
            a person gave).
        top_k: number of best matches that count, over all context frames together.
        radius: how far from its own place a cell looks for matches, in cells.
        window: "circle" (Euclidean distance) or "square" (the larger of row and column distance).
        temperature: temperature of the softmax over the similarities of the matches.
        restrict_anchors: apply `radius` to the anchors too; otherwise they are searched everywhere.
        anchor_factor: factor on the similarities of matches in the anchors; above 1 the anchors count for more than the recent
            frames. Those of keypoints stay as they are.
        label_power: power to which the soft labels of a cell are raised, and then scaled to their former sum, before the
            context keeps them; above 1 they blur less from frame to frame. Maps of keypoints stay as they are.
        layer: block whose features are compared (see `Encoder.forward`).
        edges: how soft labels are enlarged to the frame's size: "guided", along the edges of the picture (see
            `siammae.labels.EdgeFilter`), or "none", by bilinear interpolation. The labels of the context stay as they are.
        edge_power: power of soft labels while they are enlarged. Below 1, the picture decides more of where the edge is and the
            strength of the labels less.
        edge_color: deviation of lightness at which a cell counts for a pixel, from 0 to 1; that of hue is a third.
        edge_radius: half of the side of the windows in which edges are looked for, as a share of the picture's shorter side.
        edge_eps: variance of color within a window that counts as an edge; colors run from 0 to 1.
        projection: compare features after the model's projection (`siammae.models.projection`).
        lost_below: score below which an object is lost (see `siammae.propagation.Scores`).
        foreign_below: continuity with the last frame or the newest anchor, 0 to 1, below which a frame is foreign, such as a
            black one or another shot: all objects are lost in it (see `siammae.propagation.scenes`). At 0 no frame is foreign.
        keep_lost: leave lost objects their pixels, and look for them nowhere else. Otherwise a lost object has no pixels and is
            searched in the whole frame, and a frame in which all objects are lost is not kept in the context.

    Attributes: Scripts differ in these.
        strict: match where distance < radius instead of <= radius.
        keep_ties: also count matches as similar as the last of the top k, instead of exactly k.
        pad_with_anchor: fill the context with copies of the anchor until there are `context_frames` recent frames.
        first_labels: how a given mask becomes soft labels of the grid: "area", "bilinear" or "nearest" (see
            `siammae.labels.labels_to_grid`); "bilinear" starts from the mask at the input's size, as CRW does.
        decode_at: size at which the strongest label is chosen: that of the "frame", or that of the encoder's "input"; the mask
            is then resized to the frame by the nearest pixel.
        nearest_pixel: pixel taken when masks are resized between frame and input size: the one under the "center" (as PIL
            resizes) or under the "corner" (as OpenCV does).
        normalize_objects: stretch each label's map to 0..1 over the picture before the strongest is chosen. Objects are lost
            less easily; but an object that has left the picture stays as a ghost.
        resize: how frames become inputs of the encoder: "bicubic" with antialiasing, "bilinear" without, or "bilinear_uint8",
            rounded to whole levels as OpenCV's resized bytes are.
        point_maps: map that stands for a keypoint on the grid: a "gaussian" around its exact place, or "crw", the few cells
            that CRW's script draws (see `siammae.labels.points_to_crw_grid`).
        point_sigma: deviation of the Gaussian, in cells.
        point_top_k: number of cells whose weighted mean is the propagated keypoint, the strongest that count.
        point_radius: cells count for a keypoint if they are no farther than this from its strongest cell, in cells.
        point_redraw: share of the map that the context keeps of a keypoint that is drawn again around its propagated place;
            the rest is the propagated map, scaled to the same height. Without it maps spread out from frame to frame.
        point_lost_below: score below which a propagated keypoint is lost; 0 gives a place to every point, as the scripts do.
            With `vits8`, 0.1 drops half of the hidden joints of BADJA; of the visible ones that it drops, 9 in 100 were right.

    Raises:
        ValueError: a value of another type, or out of its range.
    """

    context_frames: int = 20
    top_k: int = 5
    radius: float = 8
    window: Window = "circle"
    temperature: float = 0.005
    restrict_anchors: bool = True
    anchor_factor: float = 1.0
    label_power: float = 1.05
    layer: int = -1
    edges: Literal["guided", "none"] = "guided"
    edge_power: float = 0.5
    edge_color: float = 0.2
    edge_radius: float = 0.017
    edge_eps: float = 3e-5
    projection: bool = False
    lost_below: float = 0.15
    foreign_below: float = 0.35
    keep_lost: bool = False

    strict: bool = False
    keep_ties: bool = False
    pad_with_anchor: bool = False
    first_labels: Reduction = "area"
    decode_at: Literal["frame", "input"] = "frame"
    nearest_pixel: NearestPixel = "center"
    normalize_objects: bool = False
    resize: Resize = "bicubic"
    point_maps: Literal["gaussian", "crw"] = "gaussian"
    point_sigma: float = 0.75
    point_top_k: int = 30
    point_radius: float = 3
    point_redraw: float = 0.5
    point_lost_below: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
        choices = {
            "window": ("circle", "square"),
            "first_labels": ("area", "bilinear", "nearest"),
            "edges": ("guided", "none"),
            "decode_at": ("frame", "input"),
            "nearest_pixel": ("center", "corner"),
            "point_maps": ("gaussian", "crw"),
            "resize": ("bicubic", "bilinear", "bilinear_uint8"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name, least in {"context_frames": 0, "top_k": 1, "point_top_k": 1}.items():
            if not _is(getattr(self, name), Integral) or not least <= getattr(self, name) <= LARGEST:
                limit = (
                    f" and at most {LARGEST}" if _is(getattr(self, name), Integral) and getattr(self, name) > LARGEST else ""
                )
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a whole number, {least} or more{limit}")
        if not _is(self.layer, Integral):
            raise ValueError(f"layer is {self.layer!r}; expected a whole number")
        limits = {
            "temperature": (LEAST_TEMPERATURE, 1e30),
            "anchor_factor": (0.01, 100),
            "label_power": (0.01, 100),
            "edge_power": (0.1, 10),
            "edge_color": (0.001, 1000),
            "edge_radius": (0.001, 1),
            "edge_eps": (1e-6, 1000),
            "point_sigma": (0.01, 1000),
            "point_redraw": (0, 1),
            "point_lost_below": (0, 1),
            "lost_below": (0, 1),
            "foreign_below": (0, 1),
        }
        for name, (low, high) in limits.items():
            if not _is(getattr(self, name), Real) or not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a positive number, from {low:g} to {high:g}")
        for name in (
            "strict",
            "keep_ties",
            "restrict_anchors",
            "pad_with_anchor",
            "normalize_objects",
            "projection",
            "keep_lost",
        ):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected True or False")
        if not _is(self.point_radius, Real) or not self.point_radius >= 0:
            raise ValueError(f"point_radius is {self.point_radius!r}; expected a number, 0 or more")
        if not _is(self.radius, Real) or not self.radius >= 0 or (self.strict and self.radius == 0):
            raise ValueError(f"radius is {self.radius!r}; expected a number, 0 or more, or above 0 where the window is strict")

    @classmethod
    def preset(cls, name: str, /, **changes: Any) -> "PropagationConfig":
        """Build the config of a published protocol, or of "default", with single values changed.

        "dino": eval_video_segmentation.py of DINO (Caron et al. 2021). "crw": test.py of the Contrastive Random Walk (Jabri et
        al. 2020) with its README's DAVIS values. "cropmae": the same code with the values at which CropMAE (Eymaël et al. 2024)
        evaluates SiamMAE on DAVIS. With the same features and frames, the presets give the masks of the scripts, and imitate
        behaviour that some may call bugs: DINO's ties, CRW's copies of the first frame and keypoints half a cell off. One is
        not imitated: DINO divides red by 0.228, not 0.229; here an encoder keeps its own statistics.
        """
        if name not in _PRESETS:
            raise ValueError(f"no preset is called {name!r}; there are {', '.join(_PRESETS)}")
        return cls.from_mapping({**_PRESETS[name], **changes})

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "PropagationConfig":
        """Build a config from names and values, such as a file's; "preset" may name the preset to start from."""
        if "preset" in values:
            return cls.preset(values["preset"], **{key: value for key, value in values.items() if key != "preset"})
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                name = str(name)
                close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
                hint = f"; did you mean {close[0]}?" if close else "."
                raise ValueError(f"a PropagationConfig has no field {name!r}{hint} Its fields: {', '.join(names)}")
        return cls(**values)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


_CRW = {
    "context_frames": 20,
    "top_k": 10,
    "radius": 12,
    "window": "circle",
    "strict": True,
    "temperature": 0.05,
    "restrict_anchors": False,
    "label_power": 1.0,
    "edges": "none",
    "keep_lost": True,
    "pad_with_anchor": True,
    "first_labels": "bilinear",
    "decode_at": "input",
    "nearest_pixel": "corner",
    "resize": "bilinear",
    "point_maps": "crw",
    "point_sigma": 0.5,
    "point_top_k": 3,
    "point_radius": math.inf,
    "point_redraw": 0.0,
    "point_lost_below": 0.0,
}

_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "dino": {
        "context_frames": 7,
        "top_k": 5,
        "radius": 12,
        "window": "square",
        "temperature": 0.1,
        "label_power": 1.0,
        "edges": "none",
        "keep_lost": True,
        "keep_ties": True,
        "first_labels": "nearest",
        "decode_at": "input",
        "normalize_objects": True,
        "resize": "bilinear_uint8",
        "point_sigma": 0.5,
        "point_top_k": 5,
        "point_radius": math.inf,
        "point_redraw": 0.0,
        "point_lost_below": 0.0,
    },
    "crw": _CRW,
    "cropmae": {**_CRW, "top_k": 7, "radius": 20, "temperature": 0.7, "point_top_k": 5},
}

ConfigLike: TypeAlias = PropagationConfig | str | Mapping[str, Any] | None


class Options(TypedDict, total=False):
    """Keyword arguments that all propagation shares."""

    size: InputSize
    config: ConfigLike


class VideoOptions(Options, total=False):
    """Keyword arguments of propagation through a whole video."""

    start: int
    progress: bool | None


class MaskOptions(Options, total=False):
    """Keyword arguments of mask propagation."""

    void_id: int | None


class MaskVideoOptions(MaskOptions, VideoOptions, total=False):
    """Keyword arguments of mask propagation through a whole video."""


def as_config(config: ConfigLike, encoder: Encoder | None = None) -> PropagationConfig:
    """Return the settings that a caller means.

    Args:
        config: settings, returned as they are; the name of a preset; a mapping of single values, which change the preset that
            its "preset" names or else the model's own settings; None for the model's own settings.
        encoder: model whose own settings count, those in `encoder.metadata["propagation"]`. Without a model, or for one that
            has none, they are the defaults of PropagationConfig.

    Raises:
        ValueError: a preset or value that does not exist.
    """
    if isinstance(config, PropagationConfig):
        return config
    if isinstance(config, str):
        return PropagationConfig.preset(config)
    if not isinstance(config, Mapping | None):
        raise ValueError(
            f"config is {config!r}; expected a PropagationConfig, the name of a preset, or names and values of fields"
        )
    values = dict(config or {})
    own = {} if encoder is None or "preset" in values else encoder.metadata.get("propagation") or {}
    return PropagationConfig.from_mapping({**own, **values})
