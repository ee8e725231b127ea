"""AdamW with weight decay where it belongs, and an average of the weights."""

import torch
from torch import Tensor, nn

from siammae.training.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms, biases and tokens do not. The rate is set at every step."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decays = [parameter for name, parameter in trained if name.endswith(".weight") and parameter.ndim >= 2]
    others = [parameter for name, parameter in trained if not (name.endswith(".weight") and parameter.ndim >= 2)]
    groups = [{"params": decays, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    fused = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, fused=fused)


class WeightAverage:
    """Exponential average of a model's parameters, kept beside them on the same device.

    The average starts at the first weights; its decay rises as (1 + n) / (10 + n) to `decay`, so that a short run does
    not keep its beginning.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

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
