"""Propagate raw colours, the floor that learned features must beat: the feature of a patch is its 4 x 4 mean pixels.

python examples/raw_colors.py VIDEO MASK OUT
"""

import sys

import torch
from torch import Tensor
from torch.nn import functional as F

from siammae import Encoder
from siammae.models.build import build_encoder
from siammae.propagation import propagate_to_folder


class RawColors(Encoder):
    """An Encoder whose feature of a patch is its normalised pixels, averaged down to 4 x 4."""

    def __init__(self, patch_size: int = 16) -> None:
        unused = build_encoder("vit_tiny_patch16_224", {"depth": 1, "patch_size": patch_size})
        super().__init__(unused.vit, architecture="raw_colors", model_args={}, name="raw colours")

    def forward(self, images: Tensor, *, layer: int = -1) -> Tensor:
        """Turn images [B, 3, H, W] into features [B, 48, h, w]."""
        return F.pixel_unshuffle(F.avg_pool2d(images, self.patch_size // 4), 4)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    video, mask, out = sys.argv[1:]
    print(propagate_to_folder(video, mask, out, RawColors(), config="dino"))
