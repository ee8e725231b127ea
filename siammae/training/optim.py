"""The optimizer (AdamW, or Muon for the matrices), the learning rate, and the average of the weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from siammae.training.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Build the optimizer: matrices decay; norms, biases and tokens do not.

    The loop sets every group's rate at every step: the run's rate times the group's `lr_scale`. With `config.kind` "muon"
    the matrices between the patch projection and the prediction step along orthogonal directions.
    """
    depth = 1 + max((_block(name) for name, _ in model.named_parameters()), default=-1)
    found: dict[tuple[float, str], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if not (name.endswith(".weight") and parameter.ndim >= 2):
            kind = "others"
        else:
            kind = "inner" if parameter.ndim == 2 and "decoder_pred" not in name else "outer"
        found.setdefault((rate_scale(name, depth, config), kind), []).append(parameter)
    groups: list[dict[str, Any]] = []
    for scale in sorted({scale for scale, _ in found}, reverse=True):
        for kind in ("inner", "outer", "others"):
            group: dict[str, Any] = {"params": found.get((scale, kind), []), "lr_scale": scale}
            group["weight_decay"] = 0.0 if kind == "others" else config.weight_decay
            group["orthogonal"] = kind == "inner" and config.kind == "muon"
            groups.append(group)
    optimizer = Muon if config.kind == "muon" else torch.optim.AdamW
    return optimizer(groups, lr=0.0, betas=config.betas, fused=next(model.parameters()).is_cuda)


def rate_scale(name: str, depth: int, config: OptimConfig) -> float:
    """Return a parameter's learning rate as a share of the run's.

    The encoder has `config.encoder_lr`, times `config.layer_decay` for every block (of `depth`) behind the parameter.
    """
    if not name.startswith("encoder."):
        return 1.0
    block = _block(name)
    if name.startswith("encoder.vit.norm."):
        block = depth - 1
    return config.encoder_lr * config.layer_decay ** (depth - 1 - block)


def _block(name: str) -> int:
    """Return the number of a parameter's block in the encoder; -1 before the blocks and outside the encoder."""
    prefix = "encoder.vit.blocks."
    return int(name.removeprefix(prefix).partition(".")[0]) if name.startswith(prefix) else -1


class Muon(torch.optim.AdamW):
    """AdamW with orthogonal steps for marked groups (Jordan et al. 2024, "Muon"; scaled as by Liu et al., arXiv 2502.16982).

    Matrices of groups marked `orthogonal` step along U V^T of the momentum U S V^T, by 0.2 sqrt(longer side) times the rate:
    entries are as large as AdamW's, so rate and decay mean the same for both. It computes in the parameters' own precision;
    torch.optim.Muon computes in bfloat16, which is slow on most CPUs.
    """

    MOMENTUM = 0.95

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"] if group.get("orthogonal") else ():
                if parameter.grad is not None:
                    self._orthogonal_step(parameter, group["lr"], group["weight_decay"])
                    parameter.grad = None  # so that AdamW skips it
        return super().step(closure)

    def _orthogonal_step(self, parameter: Tensor, rate: float, decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"], state["momentum"] = torch.tensor(0.0, dtype=torch.float32, device="cpu"), torch.zeros_like(parameter)
        state["step"] += 1
        momentum: Tensor = state["momentum"].lerp_(parameter.grad, 1 - self.MOMENTUM)
        direction = orthogonalize(parameter.grad.lerp(momentum, self.MOMENTUM))  # type: ignore[union-attr]
        parameter.mul_(1 - rate * decay).add_(direction, alpha=-0.2 * rate * max(parameter.shape) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Approximate U V^T of a matrix U S V^T [m, n]: five Newton-Schulz steps leave singular values of 0.7 to 1.2."""
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.T if tall else x


class WeightAverage(AveragedModel):
    """The exponential average of a model's weights: a copy of the model that follows by `update_parameters`.

    The average starts at the weights as they are; its decay rises as (1 + n) / (10 + n) to `decay`, so that a short run
    does not keep its beginning. Updates never wait for the device, as those of torch's own averages do.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.requires_grad_(False)
        self.decay = decay
        self.n_averaged += 1  # the copy itself

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the model's weights, and take its buffers."""
        count = int(self.n_averaged)  # on the CPU
        share = 1 - min(self.decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), share)
        for kept, current in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(current)
        self.n_averaged += 1


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Compute the rate: a linear rise from 0 over the first `warmup` of the run, then half a cosine down to 0.

    Args:
        progress: share of the run that is done, 0 to 1, in steps or in time.
        peak: highest rate.
        warmup: share of the run in which the rate rises.
    """
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def peak_rate(base_lr: float, batch_size: int) -> float:
    """Scale the base rate, which is meant for 256 pairs, linearly with the batch."""
    return base_lr * batch_size / 256
