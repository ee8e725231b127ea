"""The fastest exact float32 matrix product of this CPU, chosen without touching any global setting.

torch multiplies float32 matrices on the CPU through MKL, which on AVX-512 machines that are not Intel's reaches about
half of what oneDNN, the other library inside every torch build, reaches in the same arithmetic. `fast_linear` is a
thread-local context in which `torch.nn.functional.linear` takes the oneDNN route where that is the faster one.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@cache
def onednn_is_faster() -> bool:
    """Tell if float32 products should go through oneDNN: on an AVX-512 machine with oneDNN in its torch."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def onednn_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `torch.nn.functional.linear` of float32 CPU tensors through oneDNN: input [..., K], weight [N, K] -> [..., N]."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


class _OneDnnLinear(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and _is_plain(*args, **kwargs):
            return onednn_linear(*args, **kwargs)
        return func(*args, **kwargs)


def _is_plain(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    exact = input.dtype == weight.dtype == torch.float32 and input.device.type == weight.device.type == "cpu"
    return exact and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def fast_linear() -> AbstractContextManager[Any]:
    """Return a context in which float32 `F.linear` without gradients uses the fastest exact product of this CPU."""
    if onednn_is_faster() and not torch.compiler.is_compiling():
        return _OneDnnLinear()
    return nullcontext()


def biased_product(left: Tensor, right: Tensor, bias: Tensor, *, out: Tensor) -> None:
    """Write left [M, K] @ right [N, K]^T + bias [M, N] into `out` [M, N], on the CPU, by the fastest exact product."""
    if onednn_is_faster() and left.dtype == torch.float32:
        torch.add(onednn_linear(left, right), bias, out=out)
    else:
        torch.addmm(bias, left, right.T, out=out)
