"""Context: the frames whose labels are known, as `siammae.ops.propagate` takes them.

Letters: N frames, D channels, L labels, h x w grid cells.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


class Context:
    """The frames whose labels are known, in one buffer that neither grows nor moves as frames come and go.

    First the anchors (frames labelled by hand, newest first), which stay; then a ring of the recent frames.

    Attributes:
        features: [N, D, h, w] of unit length, channels last in memory.
        labels: [N, L, h, w], soft.
        num_anchors: how many of the N are anchors.
        num_recent: recent frames stored since the last anchor; the ring holds the last `capacity` of them.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_anchors = self.num_recent = 0
        self._features, self._labels = torch.empty(0, 0, 0, 0), torch.empty(0, 0, 0, 0)

    @property
    def features(self) -> Tensor:
        return self._features[: len(self)].permute(0, 3, 1, 2)

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
        self._features = features.new_zeros(num, *cells.shape)
        self._labels = labels.new_zeros(num, *labels.shape)
        self._features[0], self._labels[0] = cells, labels
        if self.num_anchors > 1:
            self._features[1 : self.num_anchors] = older_features
            self._labels[1 : self.num_anchors] = older_labels

    def append(self, features: Tensor, labels: Tensor) -> None:
        """Store the newest of the recent frames, in place of the oldest where the ring is full."""
        if self.capacity:
            slot = self.num_anchors + self.num_recent % self.capacity
            self._features[slot], self._labels[slot] = features.permute(1, 2, 0), labels
            self.num_recent += 1

    def state_dict(self) -> dict[str, Tensor]:
        """All that `load_state_dict` needs to restore this context."""
        counts = torch.tensor([self.num_anchors, self.num_recent])
        return {"features": self._features.clone(), "labels": self._labels.clone(), "counts": counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become the context that `state_dict` was called on."""
        device = self._features.device
        self._features, self._labels = state["features"].to(device), state["labels"].to(device)
        self.num_anchors, self.num_recent = state["counts"].tolist()
