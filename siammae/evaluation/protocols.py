"""Protocols by data set and name: settings of propagation and input sizes of published scripts and papers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from siammae.propagation.config import PropagationConfig

Size = tuple[int, int]


@dataclass(frozen=True)
class Protocol:
    """Everything besides the model that decides the predictions.

    Attributes:
        name: name of the protocol.
        config: settings of the propagation; None for the model's own.
        input: size at which the encoder sees the frames, in words.
        size: function from a frame's (H, W) and the patch size, in pixels, to the input's (H, W), or None for the model's
            default.
        source: script or paper from which the values are taken.
        changes: single values that differ from the model's own settings, where `config` is None.
        first_from_grid: write the first mask as the grid keeps it, not as it was given; this matters where the first frame is
            scored, as in VIP.
    """

    name: str
    config: PropagationConfig | None
    input: str
    size: Callable[[Size, int], Size | None]
    source: str
    first_from_grid: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


def find_protocol(dataset: str, name: str) -> Protocol:
    """Return a protocol of a data set ("davis", "vip", "jhmdb" or "badja"); ValueError lists the available ones."""
    protocols = PROTOCOLS[dataset]
    if name not in protocols:
        raise ValueError(f"no protocol for {dataset} is called {name!r}; there are {', '.join(protocols)}")
    return protocols[name]


def _shorter_480(frame: Size, patch: int) -> Size:
    """Scale the shorter side to 480 and the longer by the aspect, rounded down to 64."""
    height, width = frame
    return (480, 480 * width // height // 64 * 64) if height <= width else (480 * height // width // 64 * 64, 480)


def _longer_880(frame: Size, patch: int) -> Size:
    """Scale the longer side to 880 and the shorter by the aspect, rounded down to 64."""
    height, width = frame
    return (880 * height // width // 64 * 64, 880) if height < width else (880, 880 * width // height // 64 * 64)


def _own(frame: Size, patch: int) -> Size:
    """Round the frame's own size to whole patches."""
    height, width = (max(1, round(side / patch)) * patch for side in frame)
    return height, width


def _fixed(height: int, width: int) -> Callable[[Size, int], Size]:
    return lambda frame, patch: (height, width)


_PAPER = "Gupta et al. 2023, table 4b; the rest, on which it is silent, as in CRW, whose evaluation it follows"
_CROPMAE = "CropMAE (Eymaël et al. 2024), downstreams/propagation"
_CRW = "Contrastive Random Walk (Jabri et al. 2020), code/test.py with its README's values"
_CRW_TOO = "Contrastive Random Walk (Jabri et al. 2020), code/test.py with the paper's values"

_preset = PropagationConfig.preset
_best = Protocol("best", None, "the model's default", lambda frame, patch: None, "docs/benchmarks.md")

_DAVIS = (
    _best,
    Protocol(
        "dino",
        _preset("dino"),
        "shorter side 480, longer side rounded down to 64",
        _shorter_480,
        "DINO (Caron et al. 2021), eval_video_segmentation.py",
    ),
    Protocol("crw", _preset("crw"), "the frames' own size in whole patches", _own, _CRW),
    Protocol("cropmae", _preset("cropmae"), "480 x 880", _fixed(480, 880), _CROPMAE),
    Protocol("paper", _preset("crw", top_k=7, radius=20), "the frames' own size in whole patches", _own, _PAPER),
)
_VIP = (
    _best,
    Protocol("crw", _preset("crw", context_frames=4), "560 x 560", _fixed(560, 560), _CRW_TOO, True),
    Protocol(
        "cropmae", _preset("cropmae", top_k=10), "longer side 880, shorter side rounded down to 64", _longer_880, _CROPMAE, True
    ),
    Protocol("paper", _preset("crw", radius=8), "560 x 560", _fixed(560, 560), _PAPER, True),
)
# scores ask for the place of every point, however uncertain; the scripts give one too
_best_points = replace(_best, changes={"point_lost_below": 0.0, "foreign_below": 0.0})
_JHMDB = (
    _best_points,
    Protocol("crw", _preset("crw", context_frames=7), "320 x 320", _fixed(320, 320), _CRW_TOO),
    Protocol("cropmae", _preset("cropmae"), "320 x 320", _fixed(320, 320), _CROPMAE),
    Protocol("paper", _preset("crw", top_k=7, radius=20), "320 x 320", _fixed(320, 320), _PAPER),
)
_BADJA = tuple(
    replace(protocol, source=f"{protocol.source} for DAVIS, since BADJA's frames are DAVIS's")
    for protocol in (_best_points, *_DAVIS[1:])
)
_OBJECTS = tuple(replace(protocol, source=f"{protocol.source} for DAVIS") for protocol in _DAVIS)

PROTOCOLS = {
    dataset: {protocol.name: protocol for protocol in protocols}
    for dataset, protocols in (
        ("davis", _DAVIS),
        ("vip", _VIP),
        ("jhmdb", _JHMDB),
        ("badja", _BADJA),
        ("youtube-vos", _OBJECTS),
        ("mose", _OBJECTS),
        ("lvos", _OBJECTS),
        ("chen", _OBJECTS),
        ("tapvid", (_best_points,)),
    )
}
