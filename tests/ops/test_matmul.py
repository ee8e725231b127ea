"""The products of the CPU are exact, and torch's private operation gets only what it can take."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from siammae.ops import matmul
from siammae.ops.matmul import _OneDnnLinear, bfloat16_is_faster, biased_product, onednn_linear, onednn_takes

needs_onednn = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no oneDNN")


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@needs_onednn
@torch.inference_mode()
def test_onednn_product_is_exact_and_leaves_other_calls_alone() -> None:
    x, w, b = torch.randn(5, 7, 33), torch.randn(11, 33), torch.randn(11)
    assert torch.allclose(onednn_linear(x, w, b), F.linear(x, w, b), atol=1e-5)
    with _OneDnnLinear():
        assert torch.allclose(F.linear(x, w), x @ w.T, atol=1e-5)
        assert F.linear(x.double(), w.double()).dtype == torch.float64


BIASES: dict[str, Callable[[], Tensor]] = {
    "expanded": lambda: draw(1).expand(24),
    "strided": lambda: draw(48)[::2],
    "for each row": lambda: draw(5, 24),
    "one number": lambda: draw(1),
    "negated view": lambda: torch._neg_view(draw(24)),
    "part of a longer one": lambda: draw(48)[24:],
    "plain": lambda: draw(24),
    "parameter": lambda: torch.nn.Parameter(draw(24)),
}


@needs_onednn
@pytest.mark.parametrize("bias", BIASES)
@torch.no_grad()
def test_every_bias_gives_torchs_own_sum(bias: str) -> None:
    x, w, b = draw(5, 33), draw(24, 33), BIASES[bias]()
    with _OneDnnLinear():
        found = F.linear(x, w, b)
    torch.testing.assert_close(found, x @ w.T + b, atol=1e-5, rtol=1e-5)


SHAPES: dict[str, tuple[Tensor, Tensor]] = {
    "vector": (draw(33), draw(24, 33)),
    "vector of weights": (draw(5, 33), draw(33)),
    "no rows": (draw(0, 33), draw(24, 33)),
    "no outputs": (draw(5, 33), draw(0, 33)),
    "no inputs": (draw(5, 0), draw(24, 0)),
    "transposed weights": (draw(5, 33), draw(33, 24).T),
    "strided weights": (draw(5, 33), draw(24, 66)[:, ::2]),
    "expanded weights": (draw(5, 33), draw(1, 33).expand(24, 33)),
    "transposed input": (draw(5, 33, 7).transpose(1, 2), draw(24, 33)),
    "expanded input": (draw(1, 33).expand(5, 33), draw(24, 33)),
    "negated input": (torch._neg_view(draw(5, 33)), draw(24, 33)),
    "bfloat16": (draw(5, 33).bfloat16(), draw(24, 33).bfloat16()),
}


@needs_onednn
@pytest.mark.parametrize("case", SHAPES)
@torch.no_grad()
def test_every_input_and_weight_gives_torchs_own_product(case: str) -> None:
    x, w = SHAPES[case]
    with _OneDnnLinear():
        found = F.linear(x, w)
    torch.testing.assert_close(found, F.linear(x, w), atol=1e-5, rtol=1e-5)


@needs_onednn
def test_a_wrong_call_keeps_torchs_own_error() -> None:
    with torch.no_grad(), _OneDnnLinear():
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            F.linear(draw(5, 32), draw(24, 33))
        with pytest.raises(RuntimeError, match="same dtype"):
            F.linear(draw(5, 33), draw(24, 33), draw(24).double())


def test_onednn_gets_only_plain_float32() -> None:
    x, w = draw(5, 33), draw(24, 33)
    assert onednn_takes(x, w)
    assert onednn_takes(x, w, draw(24))
    assert not onednn_takes(x, w, draw(24).double())
    assert not onednn_takes(x, w.double())
    assert not onednn_takes(x, w.to_sparse())
    assert not onednn_takes(x.to("meta"), w.to("meta"))


@needs_onednn
@pytest.mark.parametrize("through_onednn", [True, False])
def test_a_biased_product_is_written_in_place(through_onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "onednn_is_faster", lambda: through_onednn)
    left, right, bias, out = draw(5, 33), draw(24, 33), draw(5, 24), torch.full((5, 48), torch.nan)
    biased_product(left, right, bias, out=out[:, ::2])
    torch.testing.assert_close(out[:, ::2], left @ right.T + bias, atol=1e-5, rtol=1e-5)
    assert out[:, 1::2].isnan().all()


@pytest.mark.parametrize(
    ("capabilities", "level", "expected"),
    [
        ({"avx512_bf16": True}, "AVX512", True),
        ({"amx_bf16": True}, "AVX512", True),
        ({"avx512_f": True, "avx512_bf16": False}, "AVX512", False),
        ({"bf16": True}, "DEFAULT", False),
        ({"avx512_bf16": True}, "AVX2", False),
    ],
)
def test_bfloat16_needs_instructions_of_its_own(
    capabilities: dict[str, bool], level: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert bfloat16_is_faster.__wrapped__() is expected


def test_a_torch_that_cannot_tell_takes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert bfloat16_is_faster.__wrapped__() is False
