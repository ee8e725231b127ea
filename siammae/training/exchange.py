"""Exchange: loss, clock and requests to stop, shared by the processes while the device runs the backward pass."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


class Exchange:
    """The numbers on which all processes decide alike, once a step.

    They are gathered between the forward and the backward pass. The host reads them when it has queued the backward pass, so it
    waits for the forward pass only, and the device always has work left. On a GPU a second stream gathers.

    Args:
        accelerator: the run's processes.
    """

    def __init__(self, accelerator: "Accelerator") -> None:
        self._accelerator, self._device = accelerator, accelerator.device
        self._gpu = self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if self._gpu else None
        self._numbers = torch.empty(accelerator.num_processes, 3, dtype=torch.float32, device="cpu", pin_memory=self._gpu)

    def start(self, loss: Tensor, seconds: float, stop: bool) -> None:
        """Begin to gather this process's loss, its clock, and whether it was asked to stop."""
        if self._stream is None:
            self._numbers.copy_(self._gather(loss, seconds, stop))
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            loss.record_stream(self._stream)
            self._numbers.copy_(self._gather(loss, seconds, stop), non_blocking=True)

    def finish(self) -> tuple[float, float, bool]:
        """Return the mean loss, the first process's clock and True if any was asked to stop, the same in every process."""
        if self._stream is not None:
            self._stream.synchronize()
        return float(self._numbers[:, 0].mean()), float(self._numbers[0, 1]), bool(self._numbers[:, 2].any())

    def _gather(self, loss: Tensor, seconds: float, stop: bool) -> Tensor:
        """Gather the numbers of all processes, [processes, 3]."""
        rest = torch.tensor([seconds, float(stop)], dtype=torch.float32, device="cpu", pin_memory=self._gpu)
        mine = torch.cat([loss.float().view(1), rest.to(self._device, non_blocking=True)])
        everyone: Tensor = self._accelerator.gather(mine[None])
        return everyone
