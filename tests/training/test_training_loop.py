"""The loop: exact resume, stopping and failing without losing anything, and the same result however it is spread."""

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from siammae.training.checkpoint import CheckpointError, checkpoints
from siammae.training.config import OptimConfig, TrainConfig, config_from_dict, config_to_dict, load_config
from siammae.training.folder import add_decoder, export, load_siammae
from siammae.training.initial import build_model
from siammae.training.log import read_log
from siammae.training.loop import Run, TrainingStopped, train
from siammae.training.model import SiamMAE
from siammae.training.optim import WeightAverage, build_optimizer, learning_rate, orthogonalize, peak_rate

pytestmark = pytest.mark.usefixtures("one_thread")

# accelerate offers FSDP2 on accelerators only; torch itself shards on CPUs too, so the script says that it runs on such
LAUNCH = """
import json, os, sys, torch
from accelerate import DistributedType
from accelerate.state import AcceleratorState, PartialState
from siammae.training.config import config_from_dict
from siammae.training.loop import train

begin = AcceleratorState.__init__

def sharding(self, *arguments, fsdp_plugin=None, **options):
    new = not self.initialized
    begin(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if new and fsdp_plugin is not None:
        PartialState().distributed_type = self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin

AcceleratorState.__init__ = sharding
torch.set_num_threads(1)
for port, values in json.load(open(sys.argv[1])):
    os.environ["MASTER_PORT"] = port
    train(config_from_dict(values))
"""


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six folders of twelve frames in which a texture moves."""
    root = tmp_path_factory.mktemp("frames")
    for number in range(6):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC))
        (root / f"clip{number}").mkdir()
        for k in range(12):
            Image.fromarray(np.roll(picture, 2 * k, axis=1)).save(root / f"clip{number}" / f"{k:02d}.png")
    return root


@pytest.fixture
def config(frames: Path, tmp_path: Path) -> TrainConfig:
    return config_from_dict(
        {
            "output": str(tmp_path / "run"),
            "model": {
                "architecture": "vit_tiny_patch16_224", "depth": 1, "patch_size": 8, "image_size": 32,
                "decoder_depth": 1, "decoder_width": 64, "decoder_heads": 2, "future_ratio": 0.75,
            },
            "data": {"path": str(frames), "kind": "frames", "fps": 10, "gap": [0.1, 0.5], "workers": 0},
            "optim": {"base_lr": 0.05},
            "batch_size": 8, "steps": 10, "precision": "float32", "device": "cpu", "log_every": 1, "checkpoint_every": 5,
        }
    )  # fmt: skip


def weights(checkpoint: Path) -> dict[str, Tensor]:
    return load_file(checkpoint / "model.safetensors")


def equal(left: Path, right: Path) -> bool:
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a)


def logged(path: str, *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(entry[field] for field in fields) for entry in read_log(Path(path))]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_ten_steps_equal_five_and_five(config: TrainConfig, tmp_path: Path, kind: Any) -> None:
    """Bit for bit: weights, averaged weights, losses and learning rates."""
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, kind=kind, ema=0.9, clip=1.0), snapshots=2)
    whole = train(config)
    assert whole.name == "checkpoint-0000010"
    halves = tmp_path / "halves"
    shutil.copytree(Path(config.output) / "checkpoint-0000005", halves / "checkpoint-0000005")
    resumed = train(dataclasses.replace(config, output=str(halves)))
    assert equal(whole, resumed)
    last = "snapshots/encoder-0000010.safetensors"
    averages = load_file(Path(config.output) / last), load_file(halves / last)
    assert all(averages[0][key].equal(averages[1][key]) for key in averages[0])
    assert logged(config.output, "step", "loss", "lr", "grad_norm")[5:] == logged(
        str(halves), "step", "loss", "lr", "grad_norm"
    )


def test_run_leaves_a_log_pictures_and_checkpoints(config: TrainConfig) -> None:
    output = Path(config.output)
    train(dataclasses.replace(config, picture_every=5, snapshots=2))
    log = read_log(output)
    assert [entry["step"] for entry in log] == list(range(1, 11))
    assert log[0]["loss"] == pytest.approx(1, abs=0.1)
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["progress"] == 1
    assert [path.name for path in checkpoints(output)] == ["checkpoint-0000005", "checkpoint-0000010"]
    with Image.open(output / "reconstruction-0000010.png") as picture:
        assert picture.size == (4 * 32, 6 * 32)
    with Image.open(output / "loss.png") as picture:
        assert picture.size == (640, 360)
    encoder = load_file(output / "snapshots" / "encoder-0000010.safetensors")
    assert encoder.keys() == build_model(config.model).encoder.vit.state_dict().keys()
    assert train(config).name == "checkpoint-0000010"  # nothing is left to do
    assert len(read_log(output)) == 10


def test_sigterm_saves_and_the_run_goes_on(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = train(dataclasses.replace(config, output=str(tmp_path / "whole")))
    log = Run._log

    def interrupt(self: Run, *arguments: Any) -> None:
        log(self, *arguments)
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "_log", interrupt)
        stopped = train(config)
    assert stopped.name == "checkpoint-0000004"  # the step it was in is finished
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert equal(train(config), whole)
    assert [entry["step"] for entry in read_log(Path(config.output))] == list(range(1, 11))


def test_time_budget_ends_at_rate_zero(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("siammae.training.loop.time", SimpleNamespace(monotonic=lambda: 6.0 * next(ticks)))
    path = train(dataclasses.replace(config, steps=None, max_minutes=1.0))
    log = read_log(Path(config.output))
    assert [entry["progress"] for entry in log] == pytest.approx([0.1 * step for step in range(1, 11)])
    peak = 0.05 * 8 / 256
    assert log[0]["lr"] == pytest.approx(peak)
    assert log[-1]["lr"] == 0
    assert path.name == "checkpoint-0000010"


def test_bfloat16_follows_float32(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, steps=4)
    train(config)
    train(dataclasses.replace(config, precision="bfloat16", output=str(tmp_path / "bfloat16")))
    losses = [[loss for (loss,) in logged(str(folder), "loss")] for folder in (config.output, tmp_path / "bfloat16")]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)


def test_epochs_count_files(config: TrainConfig) -> None:
    train(dataclasses.replace(config, steps=None, epochs=4.0))
    assert read_log(Path(config.output))[-1]["step"] == 3  # 4 epochs of 6 clips are 24 pairs, 3 batches of 8


def test_log_after_the_checkpoint_is_dropped_on_resume(config: TrainConfig) -> None:
    whole = train(config)
    before = logged(config.output, "step", "loss", "lr")
    copy = weights(whole)
    shutil.rmtree(whole)
    again = weights(train(config))
    assert all(copy[key].equal(again[key]) for key in copy)
    assert logged(config.output, "step", "loss", "lr") == before


def test_only_matrices_decay(config: TrainConfig) -> None:
    model = build_model(config.model)
    inner, outer, others = build_optimizer(model, OptimConfig()).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared = {names[id(parameter)] for parameter in others["params"]}
    assert (inner["weight_decay"], outer["weight_decay"], others["weight_decay"]) == (0.05, 0.05, 0)
    assert {"encoder.vit.cls_token", "mask_token", "encoder.vit.norm.weight", "decoder_pred.bias"} <= spared
    assert all(".norm" in name or "norm_" in name or name.endswith(("bias", "token", "_norm.weight")) for name in spared)
    decayed = {names[id(parameter)] for group in (inner, outer) for parameter in group["params"]}
    assert {"encoder.vit.patch_embed.proj.weight", "decoder_pred.weight", "encoder.vit.blocks.0.mlp.fc1.weight"} <= decayed
    assert "encoder.vit.pos_embed" not in spared | decayed


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (1, 7)])
def test_orthogonalized_matrices_keep_their_directions_alone(shape: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=random)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonalize(matrix) @ right.T
    assert float(found.diagonal().min()) > 0.5  # of singular values that differ a lot, the smallest lag behind
    assert float(found.diagonal().max()) < 1.25
    assert float((found - found.diagonal().diag()).abs().max()) < 1e-4


def test_muon_moves_inner_matrices_by_the_rate_and_leaves_the_rest_to_adamw(config: TrainConfig) -> None:
    steps = {}
    for kind in ("adamw", "muon"):
        model = build_model(config.model)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer = build_optimizer(model, OptimConfig(kind=kind, weight_decay=0))
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
        optimizer.step()
        steps[kind] = {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}
    for name in ("decoder_pred.weight", "mask_token", "encoder.vit.patch_embed.proj.weight", "encoder.vit.norm.bias"):
        assert torch.equal(steps["muon"][name], steps["adamw"][name])
    for name in ("encoder.vit.blocks.0.mlp.fc1.weight", "decoder.layers.0.cross.query.weight", "decoder_embed.weight"):
        size = float(steps["muon"][name].square().mean().sqrt())
        assert 0.1 * 0.01 < size < 0.3 * 0.01  # AdamW's are of 0.2 of its rate after a while
        assert not torch.equal(steps["muon"][name], steps["adamw"][name])


def test_average_starts_at_the_first_weights_and_does_not_keep_them(config: TrainConfig) -> None:
    model = build_model(config.model)
    first = model.mask_token.detach().clone()
    average = WeightAverage(model, decay=0.999)
    with torch.no_grad():
        model.mask_token.fill_(1)
    average.update_parameters(model)
    assert average.module.mask_token.equal(first.lerp(torch.ones_like(first), 1 - 2 / 11))


def test_average_of_weights_follows_slowly(config: TrainConfig) -> None:
    model = build_model(config.model)
    average = WeightAverage(model, decay=0.5)
    with torch.no_grad():
        model.mask_token.fill_(1)
        average.module.mask_token.zero_()
    for _ in range(30):
        average.update_parameters(model)
    assert average.module.mask_token.mean() == pytest.approx(1, abs=1e-3)
    copy = WeightAverage(model, decay=0.5)
    copy.load_state_dict(average.state_dict())
    assert copy.n_averaged == 31  # the first weights count
    assert copy.module.mask_token.equal(average.module.mask_token)


def test_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    assert peak_rate(1.5e-4, 2048) == pytest.approx(1.2e-3)
    rates = [learning_rate(progress, 1.0, 0.1) for progress in (0, 0.05, 0.1, 0.55, 1)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert learning_rate(0, 1.0, 0) == 1


# --- what goes wrong


def test_unusable_files_are_warned_of_and_counted(config: TrainConfig, frames: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(frames, mixed)
    (mixed / "torn").mkdir()
    for k in range(12):
        (mixed / "torn" / f"{k}.png").write_bytes(b"no picture")
    torn = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(mixed)))
    with pytest.warns(UserWarning, match=r"skipped .*torn.*not a readable image") as warned:
        train(torn)
    assert len(warned) == 1
    assert read_log(Path(config.output))[-1]["skipped"] == 1


def test_another_models_checkpoint_is_refused(config: TrainConfig) -> None:
    train(config)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, decoder="cross"))
    with pytest.raises(CheckpointError, match=r"model\.decoder is 'cross', the checkpoint's 'cross-self'"):
        train(other)
    with pytest.raises(ValueError, match="holds an earlier run's checkpoints"):
        train(dataclasses.replace(config, resume=False))


def test_full_disk_leaves_the_earlier_checkpoint(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Accelerator.save_state

    def full(self: Accelerator, folder: str, **options: Any) -> Any:
        if "0000010" not in folder:
            return save(self, folder, **options)
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Accelerator, "save_state", full)
    with pytest.raises(CheckpointError, match=r"No space left on device; the newest whole checkpoint is .*0000005"):
        train(config)
    monkeypatch.undo()
    assert sorted(path.name for path in Path(config.output).glob("checkpoint-*")) == ["checkpoint-0000005"]
    assert train(config).name == "checkpoint-0000010"


def test_nan_loss_stops_with_the_state_before_it(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = SiamMAE.forward, iter(range(100))

    def spoilt(self: SiamMAE, *arguments: Any) -> Tensor:
        loss: Tensor = forward(self, *arguments)
        return loss * float("nan") if next(calls) == 7 else loss

    monkeypatch.setattr(SiamMAE, "forward", spoilt)
    with pytest.raises(TrainingStopped, match=r"the loss is nan at step 7, on samples of .*clip\d") as error:
        train(config)
    saved = Path(config.output) / "stopped-0000007"
    assert str(saved) in str(error.value)
    state = json.loads((saved / "run.json").read_text())
    assert state["files"]
    assert all("clip" in name for name in state["files"])
    assert all(tensor.isfinite().all() for tensor in weights(saved).values())
    assert checkpoints(Path(config.output))[-1].name == "checkpoint-0000005"


def test_batch_must_divide_into_micro_batches(config: TrainConfig) -> None:
    with pytest.raises(ValueError, match="batch_size 8 is no multiple of 3"):
        train(dataclasses.replace(config, accumulation=3))


@pytest.mark.parametrize("package", ["accelerate", "yaml", "pydantic"])
def test_missing_package_is_named_with_its_remedy(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    attempts = {
        "accelerate": lambda: train(config),
        "yaml": lambda: load_config(None, ["steps=3"]),
        "pydantic": lambda: load_config(None),
    }
    with pytest.raises(ImportError, match=rf"{'pyyaml' if package == 'yaml' else package}; .*pip install \"siammae\[train\]\""):
        attempts[package]()


def test_missing_tracker_is_an_error(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"trackers nosuchtracker are not installed; accelerate knows .*tensorboard.*wandb"):
        train(dataclasses.replace(config, trackers=("nosuchtracker",)))
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(ValueError, match=r"trackers wandb are not installed; install with: pip install wandb$"):
        train(dataclasses.replace(config, trackers=("wandb",)))
    with pytest.raises(ValueError, match="project is empty"):
        dataclasses.replace(config, trackers=("wandb",), project="")


def test_a_tracker_gets_project_name_settings_and_losses(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker in memory in place of Weights & Biases; the resumed run has the identity of the first."""
    opened: list[tuple[str, dict[str, Any]]] = []
    stored: list[dict[str, Any]] = []
    logged: list[dict[str, Any]] = []

    class Memory:
        name = "wandb"
        requires_logging_directory = False
        main_process_only = True

        def __init__(self, project: str, **options: Any) -> None:
            opened.append((project, options))

        def start(self) -> None: ...
        def finish(self) -> None: ...

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            stored.append(values)

        def log(self, values: dict[str, Any], step: int) -> None:
            logged.append(values | {"step": step})

    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["wandb"])
    monkeypatch.setattr("accelerate.tracking.LOGGER_TYPE_TO_CLASS", {"wandb": Memory})
    monkeypatch.setattr("accelerate.accelerator.LOGGER_TYPE_TO_CLASS", {"wandb": Memory})
    monkeypatch.setattr("accelerate.accelerator.filter_trackers", lambda *_: ["wandb"])
    config = dataclasses.replace(config, trackers=("wandb",), project="videos", steps=3)
    train(config)
    train(dataclasses.replace(config, steps=4, name="second"))
    (project, first), (_, second) = opened
    assert (project, first["name"], second["name"]) == ("videos", "run", "second")
    assert (first["resume"], first["dir"]) == ("allow", config.output)
    assert stored[0]["model.depth"] == 1
    assert stored[0]["data.gap"] == "[0.1, 0.5]"
    assert "optim.clip" not in stored[0]
    assert [entry["step"] for entry in logged] == [1, 2, 3, 4]
    assert all({"loss", "lr", "pairs_per_second"} <= entry.keys() for entry in logged)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
def test_tensorboard_shows_every_logged_step(config: TrainConfig) -> None:
    """The run and its resumption write events that TensorBoard reads: the figures of the run's own log, and its settings."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError)
    config = dataclasses.replace(config, trackers=("tensorboard",), project="videos", steps=3)
    train(config)
    train(dataclasses.replace(config, steps=5))
    folder = Path(config.output) / "videos"
    events = accumulator.EventAccumulator(str(folder)).Reload()
    log = read_log(Path(config.output))
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5]
    for name in ("loss", "lr", "pairs_per_second"):
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        assert shown == [(entry["step"], pytest.approx(entry[name], rel=1e-5)) for entry in log]
    settings = yaml.safe_load((next(folder.glob("*/hparams.yml"))).read_text())
    assert (settings["model.depth"], settings["data.gap"]) == (1, "[0.1, 0.5]")


# --- spread over processes


def launch(configs: list[TrainConfig], processes: int, folder: Path) -> None:
    """Run trainings one after another in several processes, with the environment that torchrun gives them."""
    program, settings = folder / "launch.py", folder / "configs.json"
    program.write_text(LAUNCH)
    with contextlib.ExitStack() as stack:  # a port for each training: the store of the one before may still listen
        sockets = [stack.enter_context(socket.socket()) for _ in configs]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        ports = [str(free.getsockname()[1]) for free in sockets]
    settings.write_text(json.dumps([[port, config_to_dict(config)] for port, config in zip(ports, configs, strict=True)]))
    root = str(Path(__file__).parents[2])
    common = {
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, str(program), str(settings)],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(text[-3000:] for text in outputs)


def test_two_processes_equal_one_with_accumulation(config: TrainConfig, tmp_path: Path) -> None:
    """Copied weights (DDP) and sharded ones (FSDP2, put together by the export) against one process."""
    config = dataclasses.replace(config, steps=4)
    copied, sharded = tmp_path / "copied", tmp_path / "sharded"
    alone = train(dataclasses.replace(config, accumulation=2))
    launch(
        [dataclasses.replace(config, output=str(copied)), dataclasses.replace(config, output=str(sharded), fsdp=True)],
        2,
        tmp_path,
    )
    ours, theirs = weights(alone), weights(copied / "checkpoint-0000004")
    for key in ours:
        torch.testing.assert_close(theirs[key], ours[key], atol=1e-5, rtol=0)
    for folder in (copied, sharded):
        losses = [[loss for (loss,) in logged(str(run), "loss")] for run in (alone.parent, folder)]
        np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)
    assert not (sharded / "checkpoint-0000004" / "model.safetensors").exists()
    whole = load_file(export(sharded, tmp_path / "model", precision="float32") / "model.safetensors")
    for key, value in whole.items():
        torch.testing.assert_close(value, ours[f"encoder.vit.{key}"], atol=1e-5, rtol=0)


def test_fsdp_is_refused_where_it_cannot_run(config: TrainConfig) -> None:
    with pytest.raises(ValueError, match="fsdp=true shards over several GPUs; this launch is NO with 1 process"):
        train(dataclasses.replace(config, fsdp=True))


def test_a_frozen_encoder_is_what_it_started_from(config: TrainConfig, tmp_path: Path) -> None:
    start = export(train(config), tmp_path / "start", precision="float32")
    changes = {"init": str(start), "freeze_encoder": True, "output": str(tmp_path / "frozen")}
    checkpoint = train(dataclasses.replace(config, **changes))
    before, after = load_file(start / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    for key, value in before.items():
        torch.testing.assert_close(after[f"encoder.vit.{key}"], value, atol=0, rtol=0)
    add_decoder(checkpoint, start)
    model = load_siammae(start)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, after[key], atol=1e-3, rtol=1e-3)
    assert "The decoder in `decoder.safetensors` was trained afterwards" in (start / "README.md").read_text()
    assert load_file(start / "model.safetensors").keys() == before.keys()


def test_a_run_goes_on_from_a_pretrained_encoder(config: TrainConfig, tmp_path: Path) -> None:
    start = export(train(config), tmp_path / "start", precision="float32")
    run = Run(dataclasses.replace(config, init=str(start), output=str(tmp_path / "more")))
    for key, value in load_file(start / "model.safetensors").items():
        torch.testing.assert_close(run.raw_model.encoder.vit.state_dict()[key], value, atol=0, rtol=0)
    further = train(dataclasses.replace(config, init=str(start), output=str(tmp_path / "further")))
    with pytest.raises(CheckpointError, match="is not that of"):
        add_decoder(further, start)
    assert not (start / "decoder.safetensors").exists()


def test_another_architecture_is_no_start(config: TrainConfig) -> None:
    with pytest.raises(ValueError, match=r"init vitt8d6 .* does not fit the run's model"):
        Run(dataclasses.replace(config, init="vitt8d6"))
