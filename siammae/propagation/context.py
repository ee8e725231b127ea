"""Soft labels on the grid, frame by frame: the context (anchors and recent frames), and the step to the next frame.

Letters: N context frames, D channels, L labels, h x w cells.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from siammae import ops
from siammae.encoder import Encoder
from siammae.features import encode, project
from siammae.geometry import Geometry, frame_size
from siammae.propagation.config import PropagationConfig

# features and labels of a frame -> its labels, and those that the context keeps; None keeps the frame out
Revise: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class Context:
    """The frames whose labels are known, in one buffer that neither grows nor moves as frames come and go.

    First come the anchors (frames whose labels a person gave, newest first), which stay; then a ring of the recent frames.

    Attributes:
        features: [N, D, h, w] of unit length, channels last in memory.
        half: the same in float16, which the CUDA kernel reads; None on other devices.
        labels: [N, L, h, w], soft.
        num_anchors: number of anchors among the N.
        num_recent: number of recent frames stored since the last anchor; the ring holds the last `capacity` of them.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_anchors = self.num_recent = 0
        self._features, self._labels, self._half = (torch.empty(0, 0, 0, 0, device="cpu") for _ in range(3))

    @property
    def features(self) -> Tensor:
        return self._features[: len(self)].permute(0, 3, 1, 2)

    @property
    def half(self) -> Tensor | None:
        return self._half[: len(self)].permute(0, 3, 1, 2) if self._features.is_cuda else None

    @property
    def labels(self) -> Tensor:
        return self._labels[: len(self)]

    def __len__(self) -> int:
        return self.num_anchors + min(self.num_recent, self.capacity)

    def add_anchor(self, features: Tensor, labels: Tensor, older_labels: Tensor) -> None:
        """Put a frame [D, h, w] with its labels [L, h, w] before the other anchors, and forget the recent frames.

        The other anchors have the labels `older_labels` [num_anchors, L, h, w] from now on.
        """
        older_features = self._features[: self.num_anchors]
        self.num_anchors, self.num_recent = self.num_anchors + 1, 0
        num, cells = self.num_anchors + self.capacity, features.permute(1, 2, 0)  # [h, w, D]
        with torch.inference_mode(False):  # buffers that can be written to later in any mode
            self._features = torch.zeros(num, *cells.shape, dtype=torch.float32, device=features.device)
            self._labels = torch.zeros(num, *labels.shape, dtype=torch.float32, device=labels.device)
        self._features[0], self._labels[0] = cells, labels
        if self.num_anchors > 1:
            self._features[1 : self.num_anchors] = older_features
            self._labels[1 : self.num_anchors] = older_labels
        self._halve()

    def append(self, features: Tensor, labels: Tensor) -> None:
        """Store the newest of the recent frames, in place of the oldest if the ring is full."""
        if self.capacity:
            slot = self.num_anchors + self.num_recent % self.capacity
            self._features[slot], self._labels[slot] = features.permute(1, 2, 0), labels
            if self._features.is_cuda:
                self._half[slot] = self._features[slot]
            self.num_recent += 1

    def relabel(self, labels: Tensor) -> None:
        """Replace the labels [N, L, h, w] of all frames; the number of labels may differ from before."""
        with torch.inference_mode(False):
            self._labels = labels.new_zeros(len(self._labels), *labels.shape[1:])
        self._labels[: len(labels)] = labels

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that `load_state_dict` needs to restore this context."""
        counts = torch.tensor([self.num_anchors, self.num_recent], device="cpu")
        return {"features": self._features.clone(), "labels": self._labels.clone(), "counts": counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become the context whose `state_dict` this is."""
        device = self._features.device
        with torch.inference_mode(False):
            self._features, self._labels = state["features"].to(device).clone(), state["labels"].to(device).clone()
        self.num_anchors, self.num_recent = state["counts"].tolist()
        self._halve()

    def _halve(self) -> None:
        if self._features.is_cuda:
            with torch.inference_mode(False):
                self._half = self._features.half()


class SoftPropagator:
    """Propagation of soft labels on the grid, frame by frame, for masks and keypoints.

    Args:
        encoder: the model.
        config: options.
        geometry: sizes of the frames, the input and the grid.
        exclusive: True if labels share each cell, as the ids of a mask do; the maps of keypoints may overlap.

    Attributes:
        context: the frames whose labels are known.
        labels: soft labels [L, h, w] of the last frame.
        plain: features [D, h, w] of the last encoded frame, of unit length and without the projection.
        num_frames: number of frames seen so far.
    """

    labels: Tensor
    plain: Tensor

    def __init__(self, encoder: Encoder, config: PropagationConfig, geometry: Geometry, *, exclusive: bool = True) -> None:
        self.encoder, self.config, self.geometry, self.exclusive = encoder, config, geometry, exclusive
        self.context = Context(config.context_frames)
        self.num_frames = 0

    def encode(self, frame: Tensor) -> Tensor:
        """Compute features [D, h, w] of unit length, float32, of a frame [3, H, W]; ValueError if its size is another."""
        if frame_size(frame) != self.geometry.frame:
            (height, width), (first_height, first_width) = frame_size(frame), self.geometry.frame
            raise ValueError(
                f"frame {self.num_frames} is {height} x {width} pixels; the frames before it are {first_height} x {first_width}"
            )
        config = self.config
        features = encode(self.encoder, [frame], self.geometry, config.layer, config.resize).float()
        self.plain = F.normalize(features, dim=1)[0]
        return F.normalize(project(self.encoder, features, config.layer), dim=1)[0] if config.projection else self.plain

    def anchor(self, features: Tensor, labels: Tensor) -> None:
        """Add an anchor with labels [L, h, w], and forget the recent frames.

        Labels beyond those that the earlier anchors have are propagated from the new anchor back into them.
        """
        self.labels = labels.to(features.device)
        self.context.add_anchor(features * self._anchor_factor, self.labels, self._completed(features, self.labels))
        if self.config.pad_with_anchor:
            for _ in range(self.config.context_frames):
                self.context.append(features, self.labels)
        self.num_frames += 1

    def _completed(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the labels [A, L, h, w] of the earlier anchors, with the new anchor's additional labels propagated to them."""
        context, num_anchors = self.context, self.context.num_anchors
        old = context.labels[:num_anchors]
        if not num_anchors or old.shape[1] == len(labels):
            return old
        new = labels[None, old.shape[1] :]
        radius, anchors = self.config.radius, context.features[:num_anchors] / self._anchor_factor
        found = torch.stack([self._propagate(anchor, features[None], new, radius) for anchor in anchors])
        if self.exclusive:
            old = old * (1 - found.sum(dim=1, keepdim=True)).clamp(min=0)
        return torch.cat([old, found], dim=1)

    def advance(self, features: Tensor, revise: Revise | None = None) -> Tensor:
        """Propagate to the next frame and add it to the context; returns its soft labels [L, h, w].

        `revise` may change the labels, let the context keep others, and keep the frame out of the context.
        """
        context = self.context
        anchor_radius = self.config.radius if self.config.restrict_anchors else math.inf
        radius = [anchor_radius] * context.num_anchors + [self.config.radius] * (len(context) - context.num_anchors)
        self.labels = self._propagate(features, context.features, context.labels, radius, context.half)
        kept: Tensor | None = self.labels
        if revise is not None:
            self.labels, kept = revise(features, self.labels)
        if kept is not None:
            sharpen = self.exclusive and self.config.label_power != 1
            context.append(features, sharpened(kept, self.config.label_power) if sharpen else kept)
        self.num_frames += 1
        return self.labels

    @property
    def _anchor_factor(self) -> float:
        return self.config.anchor_factor if self.exclusive else 1.0

    def relabel(self, change: Callable[[Tensor], Tensor]) -> None:
        """Change the soft labels [..., L, h, w] of the last frame and of the whole context."""
        self.labels = change(self.labels)
        self.context.relabel(change(self.context.labels))

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that `load_state_dict` needs to go on from here."""
        where = {"last_labels": self.labels.clone(), "num_frames": torch.tensor(self.num_frames, device="cpu")}
        return {**self.context.state_dict(), **where, "settings": self._settings.clone()}

    def check_state(self, state: Mapping[str, Tensor], more: Sequence[str] = ()) -> None:
        """Raise ValueError if a state lacks something, or belongs to another model, config or size; `more` names more keys."""
        if not isinstance(state, Mapping):
            raise ValueError(f"the state is a {type(state).__name__}; expected what `state_dict` returned")
        missing = {"features", "labels", "counts", "last_labels", "num_frames", "settings", *more} - state.keys()
        if missing:
            raise ValueError(f"the state lacks {', '.join(sorted(missing))}; expected what `state_dict` returned")
        theirs, ours = (json.loads(bytes(text.tolist())) for text in (state["settings"], self._settings))
        changed = [f"{key} was {theirs.get(key)}, now {value}" for key, value in ours.items() if theirs.get(key) != value]
        if changed:
            raise ValueError(f"the state is of a propagator made with other arguments: {'; '.join(changed)}")

    @cached_property
    def _settings(self) -> Tensor:
        """Return what a state must agree in, as the bytes of a JSON text."""
        sizes = {"size of the frames": self.geometry.frame, "size of the input": self.geometry.input}
        settings = {"model": self.encoder.name, **sizes, **asdict(self.config), "weights": self.encoder.digest()}
        return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8, device="cpu")

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where the propagator stood whose `state_dict` this is; ValueError as in `check_state`."""
        self.check_state(state)
        self.context.load_state_dict(state)
        self.labels = state["last_labels"].to(self.context.features.device).clone()
        self.num_frames = int(state["num_frames"])

    def _propagate(
        self, query: Tensor, context: Tensor, labels: Tensor, radius: float | Sequence[float], half: Tensor | None = None
    ) -> Tensor:
        return ops.propagate(
            query,
            context,
            labels,
            radius=radius,
            top_k=self.config.top_k,
            temperature=self.config.temperature,
            window=self.config.window,
            strict=self.config.strict,
            keep_ties=self.config.keep_ties,
            context_half=half,
        )


def sharpened(labels: Tensor, power: float) -> Tensor:
    """Raise soft labels [L, h, w] to a power, with the same sum over the labels in each cell as before."""
    raised = labels.clamp(min=0) ** power
    return raised * (labels.sum(dim=0) / raised.sum(dim=0).clamp(min=torch.finfo(raised.dtype).tiny))
