"""Soft labels on the grid, frame by frame: the memory of frames whose labels are known, and the step to the next frame.

Letters: N frames known, D channels, L labels, h x w grid cells.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from siammae import ops
from siammae.encoder import Encoder
from siammae.features import encode
from siammae.geometry import Geometry, frame_size
from siammae.propagation.config import PropagationConfig


class Context:
    """The frames whose labels are known, in one buffer that neither grows nor moves as frames come and go.

    First the anchors (frames labelled by hand, newest first), which stay; then a ring of the recent frames.

    Attributes:
        features: [N, D, h, w] of unit length, channels last in memory.
        half: the same in float16, which the CUDA kernel reads; None elsewhere.
        labels: [N, L, h, w], soft.
        num_anchors: how many of the N are anchors.
        num_recent: recent frames stored since the last anchor; the ring holds the last `capacity` of them.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_anchors = self.num_recent = 0
        self._features, self._labels, self._half = (torch.empty(0, 0, 0, 0) for _ in range(3))

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

        `older_labels` [num_anchors, L, h, w] are those that the other anchors have from now on.
        """
        older_features = self._features[: self.num_anchors]
        self.num_anchors, self.num_recent = self.num_anchors + 1, 0
        num, cells = self.num_anchors + self.capacity, features.permute(1, 2, 0)  # [h, w, D]
        with torch.inference_mode(False):  # buffers that can be written to later, whoever makes them
            self._features = torch.zeros(num, *cells.shape, device=features.device)
            self._labels = torch.zeros(num, *labels.shape, device=labels.device)
        self._features[0], self._labels[0] = cells, labels
        if self.num_anchors > 1:
            self._features[1 : self.num_anchors] = older_features
            self._labels[1 : self.num_anchors] = older_labels
        self._halve()

    def append(self, features: Tensor, labels: Tensor) -> None:
        """Store the newest of the recent frames, in place of the oldest where the ring is full."""
        if self.capacity:
            slot = self.num_anchors + self.num_recent % self.capacity
            self._features[slot], self._labels[slot] = features.permute(1, 2, 0), labels
            if self._features.is_cuda:
                self._half[slot] = self._features[slot]
            self.num_recent += 1

    def state_dict(self) -> dict[str, Tensor]:
        """All that `load_state_dict` needs to restore this context."""
        counts = torch.tensor([self.num_anchors, self.num_recent])
        return {"features": self._features.clone(), "labels": self._labels.clone(), "counts": counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become the context that `state_dict` was called on."""
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
    """Soft labels on the grid, frame by frame: what carries masks and keypoints alike.

    Attributes:
        geometry: of the frames.
        context: the frames whose labels are known.
        num_frames: frames seen so far.
    """

    def __init__(self, encoder: Encoder, config: PropagationConfig, geometry: Geometry) -> None:
        self.encoder, self.config, self.geometry = encoder, config, geometry
        self.context = Context(config.context_frames)
        self.num_frames = 0

    def encode(self, frame: Tensor) -> Tensor:
        """Features [D, h, w] of unit length, float32, of a frame [3, H, W]."""
        if frame_size(frame) != self.geometry.frame:
            (height, width), (first_height, first_width) = frame_size(frame), self.geometry.frame
            raise ValueError(
                f"frame {self.num_frames} is {height} x {width} pixels; the frames before it are {first_height} x {first_width}"
            )
        features = encode(self.encoder, [frame], self.geometry, self.config.layer, self.config.resize)[0]
        return F.normalize(features.float(), dim=0)

    def anchor(self, features: Tensor, labels: Tensor) -> None:
        """Take a frame with labels [L, h, w] given by hand; what propagation made of the frames before it is forgotten.

        Where it brings more labels than the anchors had, these get theirs by propagation from the new frame.
        """
        labels = labels.to(features.device)
        self.context.add_anchor(features, labels, self._completed(features, labels))
        if self.config.pad_with_first_frame:
            for _ in range(self.config.context_frames):
                self.context.append(features, labels)
        self.num_frames += 1

    def _completed(self, features: Tensor, labels: Tensor) -> Tensor:
        """Labels [A, L, h, w] of the anchors so far, with what a new anchor's additional labels look like there."""
        context, num_anchors = self.context, self.context.num_anchors
        known = context.labels[:num_anchors]
        if not num_anchors or known.shape[1] == len(labels):
            return known
        new = labels[None, known.shape[1] :]
        radius = self.config.radius
        found = torch.stack([self._propagate(anchor, features[None], new, radius) for anchor in context.features[:num_anchors]])
        return torch.cat([known * (1 - found.sum(dim=1, keepdim=True)).clamp(min=0), found], dim=1)

    def advance(self, features: Tensor) -> Tensor:
        """Soft labels [L, h, w] of the next frame, which joins the context."""
        context = self.context
        anchor_radius = self.config.radius if self.config.restrict_first_frame else math.inf
        radius = [anchor_radius] * context.num_anchors + [self.config.radius] * (len(context) - context.num_anchors)
        labels = self._propagate(features, context.features, context.labels, radius, context.half)
        context.append(features, labels)
        self.num_frames += 1
        return labels

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
