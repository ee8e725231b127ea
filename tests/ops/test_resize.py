"""Where a device cannot resize with antialiasing, the CPU does it, with the same result."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from siammae.encoder import Encoder
from siammae.features import preprocess
from siammae.ops import resize


def test_antialiased_resizing_is_torchs() -> None:
    images = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    for mode in ("bicubic", "bilinear"):
        expected = F.interpolate(images, size=(8, 11), mode=mode, antialias=True, align_corners=False)
        assert torch.equal(resize.antialiased(images, (8, 11), mode), expected)


def test_every_antialiased_resizing_of_such_a_device_goes_to_the_cpu(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 50, 70), dtype=np.uint8))
    with torch.no_grad():
        expected = encoder(preprocess(frames, encoder, (48, 64)))
    moved: list[tuple[int, ...]] = []
    move: Callable[..., Any] = torch.Tensor.cpu

    def cpu(tensor: torch.Tensor) -> torch.Tensor:
        moved.append(tuple(tensor.shape))
        return move(tensor)

    monkeypatch.setattr(resize, "NO_ANTIALIAS", ("cpu",))  # the only device that every machine has
    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    with torch.no_grad():
        assert torch.equal(encoder(preprocess(frames, encoder, (48, 64))), expected)
        assert encoder.embed(torch.zeros(1, 3, 48, 64)).shape == (1, 13, 192)
    assert len(moved) >= 2
    assert set(moved) == {(1, 192, 14, 14)}  # timm's table of positions
