"""The fastest matrix products of this CPU, chosen without touching any global setting.

torch multiplies float32 matrices on the CPU through MKL, which on AVX-512 machines that are not Intel's reaches about
half of what oneDNN, the other library inside every torch build, reaches in the same arithmetic. `fast_linear` is a
thread-local context in which `torch.nn.functional.linear` takes the oneDNN route where that is the faster one.
`bfloat16_products` is one in which layers multiply bfloat16, which some CPUs do many times as fast.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@cache
def onednn_is_faster() -> bool:
    """Tell if float32 products should go through oneDNN: on an AVX-512 machine with oneDNN in its torch."""
    present = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return present and torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def bfloat16_is_faster() -> bool:
    """Tell if this CPU multiplies bfloat16 by instructions of its own: AVX-512 BF16 or AMX, as `torch.cpu` reports them.

    A torch without `torch.cpu.get_capabilities` cannot tell: False.
    """
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    able = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return able and torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def onednn_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `torch.nn.functional.linear` through oneDNN, for arguments that `onednn_takes`.

    Args:
        input: [..., K].
        weight: [N, K].
        bias: [N].

    Returns:
        [..., N].
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


def onednn_takes(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Tell if `onednn_linear` may compute this product.

    torch's operation checks nothing: it reads a bias as if its numbers were neighbours in memory and of the product's type. So
    these must be plain float32 tensors of the CPU, of matching shapes without a zero, and the bias contiguous.
    """
    given = (input, weight) if bias is None else (input, weight, bias)
    if not all(_is_plain(tensor) for tensor in given) or weight.ndim != 2 or not input.ndim:
        return False
    if input.shape[-1] != weight.shape[1] or not input.numel() or not weight.numel():
        return False
    return bias is None or (bias.shape == weight.shape[:1] and bias.is_contiguous())


def _is_plain(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and not tensor.is_neg() and type(tensor) in (Tensor, torch.nn.Parameter)
    return dense and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


class _OneDnnLinear(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        exact = func is F.linear and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        if exact and onednn_takes(*args, **kwargs):
            return onednn_linear(*args, **kwargs)
        return func(*args, **kwargs)


def fast_linear() -> AbstractContextManager[Any]:
    """Return a context in which float32 `F.linear` without gradients uses the fastest exact product of this CPU."""
    if onednn_is_faster() and not torch.compiler.is_compiling():
        return _OneDnnLinear()
    return nullcontext()


class _ExactConvolution(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.conv2d:
            with torch.autocast("cpu", enabled=False):
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def bfloat16_products() -> Iterator[None]:
    """Enter a context in which linear layers and attention on the CPU multiply bfloat16, with sums in float32.

    What is added up from layer to layer, and the norms, stay float32. So does the convolution that projects patches: it costs
    next to nothing, and pixels rounded to 8 bits would double the error of the features.
    """
    with torch.autocast("cpu", torch.bfloat16), _ExactConvolution():
        yield


def biased_product(left: Tensor, right: Tensor, bias: Tensor, *, out: Tensor) -> None:
    """Write left [M, K] @ right [N, K]^T + bias [M, N] into `out` [M, N], on the CPU, by the fastest exact product."""
    if onednn_is_faster() and onednn_takes(left, right):
        torch.add(onednn_linear(left, right), bias, out=out)
    else:
        torch.addmm(bias, left, right.T, out=out)
