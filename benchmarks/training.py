"""Speed of training: pairs per second, share of the machine's matmul peak (MFU), cost of the loop and of the loader.

    python benchmarks/training.py                                   # random frames: Ti/8 at 112 px, S/16 at 224 px
    python benchmarks/training.py --data FOLDER_OF_VIDEOS           # and the same steps on real videos
    python benchmarks/training.py --no-model --steps 200            # the loop's own time on the host

Every step is a forward pass, a backward pass and an AdamW update. Bare steps have their frames and masks ready; "the loop" is
`siammae train` on the same frames, so its rest is the cost of prefetching, exchanging and logging. With --no-model a single
parameter takes the model's place, so that a step is hardly more than the host's work. With --cpu-time steps are measured in
seconds of the process, which other programs change less than the wall clock. FLOPs are counted by torch over the matrix
products of one pair, forward and backward. The peak is that of a large square matrix product, measured here in the same
precision.
"""

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from siammae.training.config import DataConfig, OptimConfig, TrainConfig
from siammae.training.data import Batch, Source
from siammae.training.data.cache import CachedSource, build_cache
from siammae.training.data.files import FileSource, find_files
from siammae.training.initial import build_model
from siammae.training.loop import Run
from siammae.training.masking import Masks
from siammae.training.model import SiamMAE, masks_for
from siammae.training.model_config import ModelConfig, mask_drawer
from siammae.training.optim import build_optimizer

Clock = Callable[[], float]  # seconds

MODELS = {
    "Ti/8 at 112 px": ModelConfig(architecture="vit_tiny_patch16_224", patch_size=8, image_size=112),
    "S/16 at 224 px": ModelConfig(architecture="vit_small_patch16_224", patch_size=16, image_size=224),
}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_peak(device: torch.device, dtype: torch.dtype, clock: Clock) -> float:
    """Measure the FLOP/s of a large matrix product, the best of five."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        synchronize(device)
        start = clock()
        left @ right
        synchronize(device)
        best = min(best, clock() - start)
    return 2 * side**3 / best


def flops_of_a_pair(config: ModelConfig) -> int:
    """Count the FLOPs of the matrix products of one pair, forward and backward."""
    model = build_model(config)
    frames = torch.zeros(1, 2, 3, config.image_size, config.image_size, dtype=torch.uint8)
    masks = masks_for(model, 1, seed=0, micro_batch=0, device=torch.device("cpu"))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(frames, masks).backward()
    return counter.get_total_flops()


class Stepper:
    """Bare training steps on given frames, with masks that were drawn before."""

    def __init__(self, model: SiamMAE, device: torch.device, dtype: torch.dtype, batch: int) -> None:
        self.model, self.device, self.dtype = model.to(device), device, dtype
        self.optimizer = build_optimizer(model, OptimConfig())
        self.masks = masks_for(model, batch, seed=0, micro_batch=0, device=device)

    def __call__(self, frames: Tensor) -> None:
        context = torch.autocast(self.device.type, self.dtype) if self.dtype != torch.float32 else contextlib.nullcontext()
        with context:
            loss = self.model(frames.to(self.device, non_blocking=True), self.masks)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def seconds_per_step(step: Stepper, batches: Iterator[Tensor], steps: int, clock: Clock) -> float:
    """Measure the mean time of a step, its data included, after two steps that do not count."""
    for frames in itertools.islice(batches, 2):
        step(frames)
    synchronize(step.device)
    start = clock()
    for frames in itertools.islice(batches, steps):
        step(frames)
    synchronize(step.device)
    return (clock() - start) / steps


class ReadyFrames:
    """A source of the same random frames again and again, with masks, as loader workers give them."""

    num_files = None
    skipped = ()

    def __init__(self, config: ModelConfig, batch: int) -> None:
        frames = next(random_frames(config, batch, torch.device("cpu")))
        self.batch = Batch(frames, ["random"] * batch, [], mask_drawer(config, 0)(batch, 0))

    def micro_batches(self, first: int, stride: int) -> Iterator[Batch]:
        return itertools.repeat(self.batch)


class TimedRun(Run):
    """A run that notes when its updates were queued."""

    def __init__(self, config: TrainConfig, clock: Clock) -> None:
        super().__init__(config)
        self.times: list[float] = []
        self._clock = clock

    def _update(self) -> Tensor | None:
        norm = super()._update()
        self.times.append(self._clock())
        return norm

    def _draw(self, batch: Batch) -> None:
        """Draw nothing: a picture at the end is no part of a step."""


def loop_seconds(config: ModelConfig, options: argparse.Namespace, precision: str) -> float:
    """Measure the mean time of a step of `siammae train` on random frames, after two steps that do not count."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "none.mp4").touch()  # the run opens its data before they are replaced
        run = TimedRun(
            TrainConfig(
                output=f"{folder}/run", model=config, data=DataConfig(path=folder, workers=0), batch_size=options.batch,
                steps=2 + options.steps, precision=precision, compile=options.compile,
                device="cpu" if options.device == "cpu" else "auto",
            ),
            options.clock,
        )  # fmt: skip
        run.source = ReadyFrames(config, options.batch)
        run.run()
        return (run.times[-1] - run.times[1]) / options.steps


def without_model(self: SiamMAE, frames: Tensor, masks: Masks, features: Tensor | None = None) -> Tensor:
    """Return a loss of one parameter, in the place of `SiamMAE.forward`."""
    return 1 + self.mask_token.square().mean()


def random_frames(config: ModelConfig, batch: int, device: torch.device) -> Iterator[Tensor]:
    side = config.image_size
    return itertools.repeat(torch.randint(0, 256, (batch, 2, 3, side, side), dtype=torch.uint8, device=device))


def real_frames(source: Source) -> Iterator[Tensor]:
    return (batch.frames for batch in source.micro_batches(0, 1))


def measure(name: str, config: ModelConfig, options: argparse.Namespace, device: torch.device) -> None:
    flops = 0 if options.no_model else flops_of_a_pair(config)
    print(f"\n{name}, batch {options.batch}, {'no model' if options.no_model else f'{flops / 1e9:.1f} GFLOP per pair'}")
    model = build_model(config)
    if options.compile:
        model.compile()
    opened = sources(config, options, device)
    for precision in options.precisions:
        dtype = getattr(torch, precision)
        peak = matmul_peak(device, dtype, options.clock)
        print(f"  {precision}  large matrix product {peak / 1e12:.2f} TFLOP/s")
        step = Stepper(model, device, dtype, options.batch)
        times: dict[str, list[float]] = {label: [] for label in ("bare steps", "the loop", *opened)}
        for _ in range(options.rounds):  # in turns, so that a busy machine slows them alike
            bare = random_frames(config, options.batch, device)
            times["bare steps"].append(seconds_per_step(step, bare, options.steps, options.clock))
            times["the loop"].append(loop_seconds(config, options, precision))
            for label, open_source in opened.items():
                times[label].append(seconds_per_step(step, real_frames(open_source()), options.steps, options.clock))
        for label, seconds in times.items():
            median = statistics.median(seconds)
            line = f"  {precision}  {label:<20}{1000 * median:9.2f} ms/step  {options.batch / median:8.1f} pairs/s"
            line += f"  MFU {options.batch / median * flops / peak:.0%}" if flops else ""
            pairs = list(zip(seconds, times["bare steps"], strict=True))
            more, share = (statistics.median(values) for values in zip(*((a - b, a / b - 1) for a, b in pairs), strict=True))
            print(line if label == "bare steps" else f"{line}  more than bare: {1000 * more:.2f} ms, {share:+.1%}")


def sources(config: ModelConfig, options: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], Source]]:
    """Return sources of real data by name: a cache on the device, and decoding workers."""
    if options.data is None:
        return {}
    data = DataConfig(path=options.data, workers=options.workers, scale=(0.5, 1.0))
    files = find_files(data)[: options.files]
    common = {"size": options.batch, "side": config.image_size, "futures": 1, "seed": 0}

    def cached() -> Source:
        cache = build_cache(files, Path(options.cache), short_side=max(128, config.image_size), fps=8)
        return CachedSource(cache.to(device) if device.type == "cuda" else cache, data, **common)

    return {
        "decoded-frame cache": cached,
        f"{options.workers} video workers": lambda: FileSource(files, data, pin=device.type == "cuda", **common),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of videos to measure the loader with")
    parser.add_argument("--files", type=int, default=64, help="number of its videos to use")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="steps of a measurement, after two that do not count")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each kind of frames")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-model", action="store_true", help="replace the model by one parameter, so that host time shows")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU seconds of this process; without a GPU and --data")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.cpu_time and (device.type != "cpu" or options.data):
        parser.error("--cpu-time measures this process alone: no GPU, and no loader workers (--data)")
    options.clock = time.process_time if options.cpu_time else time.perf_counter
    if options.no_model:
        SiamMAE.forward = without_model
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {device.type} ({name}), {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as options.cache:
        for model in options.models:
            measure(model, MODELS[model], options, device)


if __name__ == "__main__":
    main()
