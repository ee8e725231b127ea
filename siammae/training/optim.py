"""AdamW with weight decay where it belongs, Muon for the matrices where asked for, and an average of the weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from siammae.training.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Matrices decay, norms, biases and tokens do not. The rate is set at every step: the run's times a group's `lr_scale`.

    With `config.kind` "muon" the matrices between the patch projection and the prediction step along orthogonal directions.
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
    """A parameter's learning rate as a share of the run's.

    The encoder has `config.encoder_lr`, times `config.layer_decay` for every block (of `depth`) behind the parameter.
    """
    if not name.startswith("encoder."):
        return 1.0
    block = _block(name)
    if name.startswith("encoder.vit.norm."):
        block = depth - 1
    return config.encoder_lr * config.layer_decay ** (depth - 1 - block)


def _block(name: str) -> int:
    """The encoder's block that a parameter belongs to; -1 where it comes before the blocks, or is not the encoder's."""
    prefix = "encoder.vit.blocks."
    return int(name.removeprefix(prefix).partition(".")[0]) if name.startswith(prefix) else -1


class Muon(torch.optim.AdamW):
    """AdamW, but for groups marked `orthogonal` (Jordan et al. 2024, "Muon"; scaled as by Liu et al., arXiv 2502.16982).

    Their matrices step along U V^T of the momentum U S V^T, by 0.2 sqrt(longer side) times the rate: entries of the size that
    AdamW's have, so rate and decay mean the same for both. Computed in the parameters' own precision: torch.optim.Muon
    computes in bfloat16, which is slow on most CPUs.
    """

    MOMENTUM = 0.95

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"] if group.get("orthogonal") else ():
                if parameter.grad is not None:
                    self._orthogonal_step(parameter, group["lr"], group["weight_decay"])
                    parameter.grad = None  # AdamW passes it over
        return super().step(closure)

    def _orthogonal_step(self, parameter: Tensor, rate: float, decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"], state["momentum"] = torch.tensor(0.0), torch.zeros_like(parameter)
        state["step"] += 1
        momentum: Tensor = state["momentum"].lerp_(parameter.grad, 1 - self.MOMENTUM)
        direction = orthogonalize(parameter.grad.lerp(momentum, self.MOMENTUM))  # type: ignore[union-attr]
        parameter.mul_(1 - rate * decay).add_(direction, alpha=-0.2 * rate * max(parameter.shape) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T [m, n]: five Newton-Schulz steps, which leave singular values of 0.7 to 1.2."""
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.T if tall else x


class WeightAverage:
    """Exponential average of a model's parameters, kept beside them on the same device.

    The average starts at the first weights; its decay rises as (1 + n) / (10 + n) to `decay`, so that a short run does
    not keep its beginning.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def share(self, prefix: str, module: nn.Module) -> None:
        """Give a module's parameters the averages of those under `prefix`, so that the module is the average from now on."""
        for name, parameter in module.named_parameters():
            parameter.data = self.weights[prefix + name]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter.detach(), 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        return {**self.weights, "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.updates = int(state["updates"])
        for name, weight in self.weights.items():
            weight.copy_(state[name])


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Linear rise from 0 over the first `warmup` of the run, then half a cosine down to 0.

    Args:
        progress: share of the run that is done, 0 to 1, in steps or in time.
        peak: highest rate.
        warmup: share of the run in which the rate rises.
    """
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def peak_rate(base_lr: float, batch_size: int) -> float:
    """The linear scaling rule: the base rate is meant for 256 pairs."""
    return base_lr * batch_size / 256
