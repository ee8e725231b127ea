"""The training loop, on accelerate: the same code for one CPU core and for a cluster.

A step is `accumulation` backward passes in each process; every pass trains on one micro-batch
(`siammae.training.data.batches`). Loss, clock and requests to stop are exchanged once a step, so that all processes take
the same decisions.

The host runs ahead of a GPU: while the GPU computes, the host loads the next micro-batch (`prefetch`), and it waits only for
the loss of a forward pass whose backward pass is already queued (`exchange`). A step that would spoil the weights is not taken.
"""

import math
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from siammae.files import atomic, save_tensors
from siammae.training import checkpoint as ck
from siammae.training.config import TrainConfig, config_from_dict, config_to_dict
from siammae.training.data import Batch, build_finish, build_source, finished
from siammae.training.engine import build_accelerator
from siammae.training.exchange import Exchange
from siammae.training.initial import build_model, encoder_facts, initial_encoder, start_from
from siammae.training.log import append_log, draw_log, rewind_log
from siammae.training.model import SiamMAE, encoder_weights, masks_for
from siammae.training.optim import WeightAverage, build_optimizer, learning_rate, peak_rate
from siammae.training.pictures import draw_reconstructions, save_png
from siammae.training.prefetch import Prefetcher
from siammae.training.signals import stop_requests
from siammae.training.teacher import STATISTICS_FRAMES, Teacher, build_teacher, fit

if TYPE_CHECKING:
    Bar = tqdm[Any]


class TrainingStopped(RuntimeError):
    """A training whose loss is no number. The message names the step, the batch's files and where the state was saved."""


def train(config: TrainConfig) -> Path:
    """Run a training to its end, or to SIGTERM, and return its last checkpoint.

    Every process of a launch (`torchrun`, `accelerate launch`) calls it, or a single one. It goes on from the newest
    checkpoint in `config.output`, if there is one. Loader workers import the calling script again: guard its call with
    `if __name__ == "__main__":`.

    Raises:
        ValueError: the config or the data cannot work.
        siammae.training.checkpoint.CheckpointError: a checkpoint cannot be written, or belongs to another model.
        TrainingStopped: the loss became NaN or infinite.
    """
    return Run(config).run()


class Run:
    """A training run: model, optimizer, data, clock and log."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.output = Path(config.output)
        self.accelerator = build_accelerator(config)
        self.device = self.accelerator.device
        self.processes, self.process = self.accelerator.num_processes, self.accelerator.process_index
        self.main = self.accelerator.is_main_process
        self.micro_batches = self.processes * config.accumulation  # in one step
        if config.batch_size % self.micro_batches:
            raise ValueError(
                f"batch_size {config.batch_size} is no multiple of {self.micro_batches} "
                f"({self.processes} processes x accumulation {config.accumulation})"
            )
        if not config.resume and ck.checkpoints(self.output):
            raise ValueError(f"{self.output} holds an earlier run's checkpoints; choose another output, or set resume=true")
        self.output.mkdir(parents=True, exist_ok=True)
        encoder = start_from(config.model, config.init) if config.init else initial_encoder(config.model)
        encoder.to(self.device)
        dtype = getattr(torch, config.precision)
        self.teacher = build_teacher(config.model, encoder, dtype)
        width = self.teacher.encoder.embed_dim if self.teacher else None
        self.raw_model = build_model(config.model, config.seed, encoder=encoder, teacher_width=width)
        if config.freeze_encoder:
            self.raw_model.encoder.requires_grad_(False)
        self.raw_model.to(self.device)
        self.average = WeightAverage(self.raw_model, config.optim.ema) if config.optim.ema else None
        if self.average and self.teacher and config.model.target == "ema":
            assert isinstance(self.average.module, SiamMAE)
            self.teacher.encoder = self.average.module.encoder.eval()
        if config.compile:
            self.raw_model.compile()
        optimizer = build_optimizer(self.raw_model, config.optim)
        self.model, self.optimizer = self.accelerator.prepare(self.raw_model, optimizer)
        if self.average:
            self.accelerator.register_for_checkpointing(self.average)
        side = max(config.model.image_size, self.teacher.size if self.teacher else 0)
        self.source = build_source(config, config.batch_size // self.micro_batches, self.accelerator, side=side)
        self.finish = build_finish(config)
        self.exchange = Exchange(self.accelerator)
        self.total = self._total_steps()
        self.step = 0
        self.seconds = 0.0  # trained so far, over all resumes
        self.began = 0.0  # time at which the run would have begun without interruptions
        self.snapshots = 0
        self.skipped: dict[str, str] = {}
        for name, reason in self.source.skipped:
            self._skip(name, reason)
        self.resumed = self._resume() if config.resume else None
        if self.teacher and not self.resumed:
            self._estimate_statistics(self.teacher)

    @property
    def progress(self) -> float:
        """Return the finished share of the run, 0 to 1: of its minutes if it has a time budget, else of its steps."""
        if self.total is None:
            return min(1.0, self.seconds / (60 * (self.config.max_minutes or math.inf)))
        return min(1.0, self.step / self.total)

    def run(self) -> Path:
        """Train to the end of the schedule, or to a request to stop."""
        if self.resumed and self.progress >= 1:
            return self.resumed
        config = self.config
        first = self.step * self.micro_batches + self.process
        micro_batches = Prefetcher(finished(self.source, self.finish, first, self.processes), self.device)
        self.began = time.monotonic() - self.seconds
        saved, losses, window_start = self.seconds, list[float](), self.seconds
        path = self.output
        self.model.train()
        bar = tqdm(total=self.total, initial=self.step, unit="step", disable=not self.main, dynamic_ncols=True)
        with stop_requests() as requests, bar:
            while self.progress < 1:
                batches = self._backward(micro_batches, requests)
                mean, self.seconds, stop = self.exchange.finish()
                if not math.isfinite(mean):
                    self._stop_at_bad_loss(mean, batches)
                norm = self._update()
                losses.append(mean)
                bar.update()
                last = stop or self.progress >= 1
                if self.step % config.log_every == 0 or last:
                    rate = len(losses) * config.batch_size / max(1e-9, self.seconds - window_start)
                    self._log(sum(losses) / len(losses), rate, norm, bar)
                    losses, window_start = [], self.seconds
                if self.step % config.picture_every == 0 or last:
                    self._draw(batches[0])
                while self.snapshots < int(self.progress * config.snapshots):
                    self.snapshots += 1
                    self._snapshot()
                overdue = self.seconds - saved > config.checkpoint_minutes * 60
                if self.step % config.checkpoint_every == 0 or overdue or last:
                    saved, path = self.seconds, self._checkpoint()
                if stop:
                    break
        self.accelerator.end_training()
        return path

    def _total_steps(self) -> int | None:
        """Return the steps of the run; None if a time budget decides."""
        if self.config.epochs is None:
            return self.config.steps
        if self.source.num_files is None:
            raise ValueError("the number of clips in shards is not known: set steps (clips x epochs / batch_size), not epochs")
        return max(1, math.ceil(self.config.epochs * self.source.num_files / self.config.batch_size))

    def _backward(self, micro_batches: Prefetcher, requests: list[str]) -> list[Batch]:
        """Run this process's backward passes of one step, and begin to exchange their mean loss; returns its batches."""
        batches: list[Batch] = []
        losses: list[Tensor] = []
        for left in reversed(range(self.config.accumulation)):
            batch, frames, masks = micro_batches.take()
            features = self._features(self.teacher, frames, moving=True) if self.teacher else None
            with self.accelerator.accumulate(self.model):
                loss = self.model(fit(frames, self.config.model.image_size), masks, features)
                losses.append(loss.detach())
                if not left:
                    self.exchange.start(torch.stack(losses).mean(), time.monotonic() - self.began, bool(requests))
                self.accelerator.backward(loss)
            if left or self.total is None or self.step + 1 < self.total:
                micro_batches.fetch()
            for name, reason in batch.skipped:
                self._skip(name, reason)
            batches.append(batch)
        return batches

    def _features(self, teacher: Teacher, frames: Tensor, *, moving: bool) -> Tensor:
        """Compute the teacher's features of crops [B, 1 + T, 3, S, S]: [B, 1 + T, N, D].

        With `moving` the statistics of a teacher that changes follow its features.
        """
        with self.accelerator.autocast():
            features = teacher(frames)
        if moving and self.config.model.target == "ema" and self.raw_model.standardizer:
            flat = features.flatten(0, -2)
            moments = self.accelerator.reduce(torch.stack([flat.mean(dim=0), flat.square().mean(dim=0)]), "mean")
            self.raw_model.standardizer.move(moments[0], moments[1], rate=0.01)
        return features

    def _estimate_statistics(self, teacher: Teacher) -> None:
        """Estimate mean and deviation of the teacher's features on the run's first crops, the same in every process."""
        assert self.raw_model.standardizer is not None
        features: list[Tensor] = []
        for batch in finished(self.source, self.finish, 0, 1):
            features.append(self._features(teacher, batch.frames.to(self.device), moving=False).cpu())
            if sum(crops.shape[0] * crops.shape[1] for crops in features) >= STATISTICS_FRAMES:
                break
        self.raw_model.standardizer.estimate(torch.cat(features).to(self.device))

    def _update(self) -> Tensor | None:
        """Take the optimizer's step at the current rate; returns the gradient's norm where it is clipped."""
        optim, norm = self.config.optim, None
        if optim.clip is not None:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), optim.clip)
        self.rate = learning_rate(self.progress, peak_rate(optim.base_lr, self.config.batch_size), optim.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["lr_scale"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.average:
            self.average.update_parameters(self.raw_model)
        return norm

    def _skip(self, name: str, reason: str) -> None:
        """Count an unusable file and warn of it, once."""
        if name not in self.skipped:
            self.skipped[name] = reason
            warnings.warn(f"skipped {reason}", stacklevel=2)

    def _log(self, loss: float, pairs: float, norm: Tensor | None, bar: "Bar") -> None:
        entry = {
            "step": self.step, "progress": round(self.progress, 6), "seconds": round(self.seconds, 2),
            "loss": round(loss, 6), "lr": self.rate, "pairs_per_second": round(pairs, 2), "skipped": len(self.skipped),
        }  # fmt: skip
        if norm is not None:
            entry["grad_norm"] = round(float(norm), 4)
        entry |= {f"loss_{name}": round(float(term), 6) for name, term in self.raw_model.terms.items()}  # the last pass's
        self.accelerator.log({key: entry[key] for key in ("loss", "lr", "pairs_per_second")}, step=self.step)
        if self.main:
            left = self.seconds / self.progress - self.seconds
            bar.set_postfix_str(f"loss {loss:.3f}, {pairs:.0f} pairs/s, {left / 60:.0f} min left")
            append_log(self.output, entry)

    def _draw(self, batch: Batch) -> None:
        """Draw the loss curve so far, and reconstructions of a few samples (not where FSDP shards the weights)."""
        if not self.main:
            return
        draw_log(self.output)
        if not self.config.fsdp and not self.teacher:
            few = batch.frames[:6].to(self.device)
            masks = masks_for(self.raw_model, len(few), seed=self.config.seed, micro_batch=self.step, device=self.device)
            with self.accelerator.autocast():
                reconstruction = self.raw_model.reconstruct(few, masks)
            save_png(draw_reconstructions(few, reconstruction), self.output / f"reconstruction-{self.step:07d}.png")

    def _snapshot(self) -> None:
        """Write the encoder as it is now (or its average), by timm's keys."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)  # gathers what FSDP shards
        weights: dict[str, Any] = dict(get_model_state_dict(self.model, options=whole))
        if self.main:
            weights |= self.average.module.state_dict() if self.average else {}
            folder = self.output / "snapshots"
            folder.mkdir(exist_ok=True)
            encoder = {key: value.cpu() for key, value in encoder_weights(weights).items()}
            with atomic(folder / f"encoder-{self.step:07d}.safetensors") as draft:
                save_tensors(draft, encoder)

    def _checkpoint(self, name: str | None = None, **more: Any) -> Path:
        state = {
            "step": self.step, "seconds": self.seconds, "snapshots": self.snapshots, "skipped": self.skipped,
            "config": config_to_dict(self.config), "encoder": encoder_facts(self.raw_model.encoder), **more,
        }  # fmt: skip
        path = self.output / (name or f"checkpoint-{self.step:07d}")
        ck.write_checkpoint(path, state, self.accelerator)
        if self.main:
            ck.remove_old(self.output, self.config.keep)
        return path

    def _resume(self) -> Path | None:
        """Go on from the newest checkpoint, if there is one."""
        found = ck.checkpoints(self.output)
        if not found:
            return None
        state = ck.read_state(found[-1])
        stored = config_to_dict(config_from_dict(state["config"]))[
            "model"
        ]  # fields that the config got since have their defaults
        ck.check_same_model(found[-1], stored, config_to_dict(self.config)["model"])
        self.accelerator.load_state(str(found[-1]))
        self.step, self.seconds, self.snapshots = state["step"], state["seconds"], state["snapshots"]
        self.skipped |= state["skipped"]
        if self.main:
            rewind_log(self.output, self.step)
        return found[-1]

    def _stop_at_bad_loss(self, loss: float, batches: list[Batch]) -> None:
        from accelerate.utils import gather_object

        files = sorted(set(gather_object([name for batch in batches for name in batch.names])))
        path = self._checkpoint(f"stopped-{self.step:07d}", loss=str(loss), files=files)
        shown = ", ".join(files[:4]) + (f" and {len(files) - 4} more" if len(files) > 4 else "")
        raise TrainingStopped(
            f"the loss is {loss} at step {self.step}, on samples of {shown}. The state before this step and the list of "
            f"files are in {path}; a lower optim.base_lr or optim.clip=1.0 usually helps"
        )
