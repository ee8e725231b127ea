"""Feature targets: a teacher's features, standardized over the corpus, and the loss that compares with them.

Letters: D channels of the teacher, C of the target.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Standardizer(nn.Module):
    """Standardization of a teacher's features by their statistics over the corpus.

    The statistics are buffers that are saved with the model. Until `estimate` or `move` is called, they change nothing.

    Args:
        width: D.
        kind: "mean" subtracts the mean, "deviation" divides each channel by its deviation as well.
        channels: C, number of principal components to keep; None keeps the channels as they are.

    Raises:
        ValueError: more components are asked for than there are channels.
    """

    def __init__(self, width: int, kind: str, channels: int | None = None) -> None:
        super().__init__()
        if channels is not None and channels > width:
            raise ValueError(
                f"model.teacher_channels is {channels}; the teacher has {width} channels, so expected that or fewer"
            )
        self.kind = kind
        self.width = channels or width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.register_buffer("basis", None if channels is None else torch.eye(width)[:, :channels].contiguous())
        self.mean: Tensor
        self.deviation: Tensor
        self.basis: Tensor | None

    def forward(self, features: Tensor) -> Tensor:
        """Standardize features [..., D] -> [..., C], float32."""
        centered = features.float() - self.mean
        if self.kind == "deviation":
            centered = centered / self.deviation
        return centered if self.basis is None else centered @ self.basis

    @torch.no_grad()
    def estimate(self, features: Tensor) -> None:
        """Take mean, deviation and principal components from features [..., D]."""
        flat = features.flatten(0, -2).double()
        mean = flat.mean(dim=0)
        deviation = flat.std(dim=0).clamp(min=1e-6)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        if self.basis is not None:
            centered = (flat - mean) / (deviation if self.kind == "deviation" else 1)
            _, vectors = torch.linalg.eigh(centered.T @ centered)  # ascending
            self.basis.copy_(vectors.flip(1)[:, : self.width])

    @torch.no_grad()
    def move(self, mean: Tensor, square: Tensor, rate: float) -> None:
        """Move the statistics a share `rate` of the way to a batch's mean [D] and mean square [D]."""
        before = self.deviation.square() + self.mean.square()
        self.mean.lerp_(mean, rate)
        self.deviation.copy_((before.lerp(square, rate) - self.mean.square()).clamp(min=1e-12).sqrt())


def cosine_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Average 1 - cosine similarity of [..., C] and [..., C], in float32."""
    return (1 - F.cosine_similarity(predicted.float(), target.float(), dim=-1)).mean()
