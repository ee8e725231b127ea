"""Label propagation: the labels of one frame, carried through a whole video by the similarity of features.

Each new frame takes its labels from the most similar cells of a few frames before it and of the frames labelled by hand.
Letters: T frames, L labels, K points, H x W pixels, h x w grid cells.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siammae.encoder import Encoder
from siammae.geometry import Geometry, frame_size
from siammae.labels.grid import labels_to_grid, strongest_label, upsample
from siammae.labels.masks import Mask, as_mask, resize_nearest
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import ConfigLike, as_config
from siammae.propagation.context import SoftPropagator
from siammae.propagation.walk import walk
from siammae.video.frames import FrameSource, read_frames
from siammae.video.pictures import as_frame


class LabelPropagator:
    """Carries a mask from frame to frame, one `step` at a time: for cameras, corrections and videos of any length.

    Args:
        frame0: the labelled frame: an array [H, W, 3], a tensor [3, H, W], a PIL image or a path.
        mask0: its labels: ids [H, W] (integers or bool; array, tensor, PIL image or path to a PNG), or soft labels [L, H, W].
        model: an Encoder, or a name for `load_model`.
        size: shorter side in pixels, or (H, W), at which the encoder sees the frames; None is the model's default.
        config: a PropagationConfig, the name of a preset, a mapping of its fields, or None for the default.
        void_id: an id that stands for "unknown" in given masks (255 in DAVIS): its pixels teach nothing, and no pixel gets it.

    Attributes:
        ids: the ids that are propagated, in the order of the soft labels.
        labels: soft labels [L, h, w] of the last frame on the grid.
    """

    def __init__(
        self,
        frame0: Any,
        mask0: Any,
        model: str | Encoder = DEFAULT_MODEL,
        *,
        size: int | tuple[int, int] | None = None,
        config: ConfigLike = None,
        void_id: int | None = None,
    ) -> None:
        self.encoder, self.size, self.config, self.void_id = as_encoder(model), size, as_config(config), void_id
        self.reset(frame0, mask0)

    @torch.no_grad()
    def reset(self, frame0: Any, mask0: Any) -> None:
        """Forget everything and start from this frame, of any size, and its mask."""
        frame, mask = as_frame(frame0), as_mask(mask0)
        geometry = Geometry.of(frame_size(frame), self.encoder, self.size)
        _check_size(mask, geometry)
        if mask.soft and self.void_id is not None:
            raise ValueError(f"void_id is {self.void_id}, but soft labels have no ids; leave it out")
        ids = mask.ids(self.void_id)
        if not ids:
            raise ValueError(f"the mask holds nothing but the void id {self.void_id}")
        propagator = SoftPropagator(self.encoder, self.config, geometry)
        features = propagator.encode(frame)
        self._form, self._propagator = mask, propagator
        self._anchor(features, mask, ids)

    @torch.no_grad()
    def step(self, frame: Any) -> Any:
        """The mask of the next frame, in the form of `mask0`."""
        propagator = self._propagator
        self.labels = propagator.advance(propagator.encode(as_frame(frame)))
        return self.decode()

    def decode(self) -> Any:
        """The mask that `labels` stand for, in the form of `mask0`: what `step` returned, or after `reset` and `add` what the
        grid has left of the given mask."""
        return self._form.like(self._decode())

    @torch.no_grad()
    def add(self, frame: Any, mask: Any) -> None:
        """Labels given by hand for a frame: a correction of the last `step`, a new object, or one more reference.

        The mask labels the whole frame: where it says background (0), no object is. From here on labels come from all frames
        that were labelled by hand and from what follows; what propagation made of earlier frames is forgotten. An id seen for
        the first time is looked up in the earlier hand-labelled frames too, where it was not marked.
        """
        frame, mask = as_frame(frame), as_mask(mask, empty=True)
        _check_size(mask, self._propagator.geometry)
        if mask.soft != self._form.soft:
            raise ValueError(f"the mask holds {_kind(mask)}; this propagator was started with {_kind(self._form)}")
        known = set(self.ids)
        ids = self.ids + [label for label in mask.ids(self.void_id) if label not in known]
        if mask.soft and len(mask.values) < len(known):
            raise ValueError(f"the mask holds {len(mask.values)} soft labels; expected at least the {len(known)} known so far")
        self._form.check_ids(ids)
        self._anchor(self._propagator.encode(frame), mask, ids)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the propagation stands; `load_state_dict` of a propagator with the same arguments goes on from there."""
        return {**self._propagator.context.state_dict(), "ids": torch.tensor(self.ids)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where the propagator stood that `state_dict` was called on."""
        self._propagator.context.load_state_dict(state)
        self.ids = state["ids"].tolist()

    def _anchor(self, features: Tensor, mask: Mask, ids: list[int]) -> None:
        config, geometry = self.config, self._propagator.geometry
        sampled = mask.resized(geometry.input, config.nearest_pixel) if config.first_labels == "bilinear" else mask
        self.ids = ids
        self.labels = labels_to_grid(sampled, ids, geometry.grid, config.first_labels).to(features.device)
        self._propagator.anchor(features, self.labels)
        if not mask.soft:
            lost = set(mask.ids(self.void_id)) - set(np.unique(self._decode()).tolist()) - {0}
            if lost:
                warnings.warn(
                    f"ids {sorted(lost)} are too small for a grid of {geometry.grid[0]} x {geometry.grid[1]} cells and will be "
                    "lost; encode the frames at a larger size",
                    stacklevel=3,
                )

    def _decode(self) -> np.ndarray[Any, Any]:
        geometry = self._propagator.geometry
        if self._form.soft:
            return upsample(self.labels, geometry.frame, self.config.interpolation).cpu().numpy()
        config = self.config
        size = geometry.frame if config.decode_at == "frame" else geometry.input
        winner = strongest_label(self.labels, size, interpolation=config.interpolation, normalize=config.normalize_objects)
        winner = resize_nearest(winner, geometry.frame, config.nearest_pixel)
        masks: np.ndarray[Any, Any] = np.asarray(self.ids)[winner.cpu().numpy()]
        return masks


def propagate_labels(
    frames: FrameSource,
    mask0: Any,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: int | tuple[int, int] | None = None,
    config: ConfigLike = None,
    start: int = 0,
    void_id: int | None = None,
    progress: bool | None = None,
) -> Any:
    """The masks of all frames of a video, from the mask of one.

    Args:
        frames: anything that `siammae.read_frames` takes.
        mask0: labels of frame `start`: ids [H, W] (integers or bool; array, tensor, PIL image or path to a PNG), or soft labels
            [L, H, W] in [0, 1].
        model, size, config, void_id: see `LabelPropagator`.
        start: the frame that `mask0` belongs to; labels run forwards to the end and backwards to frame 0.
        progress: a progress bar; None shows one when standard error is a terminal.

    Returns:
        Masks in the form of `mask0`: an array or tensor [T, H, W] of the same type (soft labels: [T, L, H, W]), or a list of
        PIL images with the same palette; a path gives an array. The mask of frame `start` is `mask0` itself. This is all that
        grows with the video: for one of any length write files (`siammae propagate`) or step through a LabelPropagator.
    """
    mask, source, encoder = as_mask(mask0), read_frames(frames), as_encoder(model)
    masks: dict[int, Any] = {start: mask.like(mask.values)}
    propagator = None
    for index, frame in walk(source, start, progress):
        if propagator is None or index == start:
            propagator = LabelPropagator(frame, mask, encoder, size=size, config=config, void_id=void_id)
        else:
            masks[index] = propagator.step(frame)
    ordered = [masks.pop(index) for index in range(len(masks))]
    if mask.form == "pil":
        return ordered
    return torch.stack(ordered) if mask.form == "torch" else np.stack(ordered)


def _check_size(mask: Mask, geometry: Geometry) -> None:
    if mask.size != geometry.frame:
        raise ValueError(f"the mask is {_times(mask.size)} pixels but its frame is {_times(geometry.frame)} (height x width)")


def _kind(mask: Mask) -> str:
    return "soft labels" if mask.soft else "ids"


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
