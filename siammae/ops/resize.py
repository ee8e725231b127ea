"""Antialiased resizing on every device, also on those for which some torch has no such kernel."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

NO_ANTIALIAS = ("mps",)  # torch 2.6 and 2.7 cannot resize there with antialiasing (pytorch#149378); the CPU does it


def antialiased(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize images [B, C, H, W] with antialiasing, "bicubic" or "bilinear": [B, C, *size] on their own device."""
    device = torch.device("cpu") if images.device.type in NO_ANTIALIAS else images.device
    resized = F.interpolate(images.to(device), size=size, mode=mode, antialias=True, align_corners=False)
    return resized.to(images.device)


class _OnCpu(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.interpolate and kwargs.get("antialias") and args and args[0].device.type in NO_ANTIALIAS:
            return func(args[0].cpu(), *args[1:], **kwargs).to(args[0].device)
        return func(*args, **kwargs)


def antialiasing_anywhere(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which other libraries' antialiased resizing works on `device`: timm's, of positions."""
    return _OnCpu() if device.type in NO_ANTIALIAS else nullcontext()
