"""Seconds a frame of video segmentation on the CPU: siammae in each number type and runtime, beside Cutie and SAM 2.1.

    python benchmarks/frames.py FRAMES MASK [--cutie CLONE] [--sam2] [--json OUT]

FRAMES is a folder of JPEGs, MASK the PNG of the first. Every contestant takes the same frames on the same cores, in turn, one
frame at a time, from its decoded pixels to the mask at the frame's size. The table has the median of `--rounds` frames after as
many that fill the context or memory. Cutie runs from a clone of github.com/hkchengrex/Cutie, SAM 2.1 from
`pip install sam2`; both have random weights, which take the same time as trained ones.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from siammae import LabelPropagator, load_model, read_frames
from siammae.labels import as_mask

Step = Callable[[Tensor], object]  # takes a frame [3, H, W], uint8


def ours(name: str, first: Tensor, mask: Path, **options: Any) -> Step:
    return LabelPropagator(first, as_mask(mask), load_model(name, device="cpu", **options)).step


def cutie(clone: Path, size: str, first: Tensor, mask: Path) -> Step:
    """Build Cutie as its `get_default_model` does, but on the CPU and without downloads."""
    sys.path.insert(0, str(clone))
    from cutie.inference.inference_core import InferenceCore
    from cutie.inference.utils.args_utils import get_dataset_cfg
    from cutie.model import big_modules
    from cutie.model.cutie import CUTIE
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import open_dict

    for network in ("resnet18", "resnet50"):
        build = getattr(big_modules.resnet, network)
        setattr(big_modules.resnet, network, lambda *_, build=build, **given: build(**{**given, "pretrained": False}))
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3.2", config_dir=str(clone / "cutie" / "config")):
        config = compose(config_name="eval_config", overrides=[f"model={size}"])
    with open_dict(config):
        get_dataset_cfg(config)
    model: nn.Module = CUTIE(config).eval()
    core = InferenceCore(model, cfg=config)
    ids = torch.from_numpy(as_mask(mask).values.astype(np.int64))
    core.step(first.float() / 255, ids, objects=[1])
    return lambda frame: core.step(frame.float() / 255).argmax(dim=0)


def sam2(config: str, frames: Path, mask: Path) -> Step:
    """Build SAM 2.1's predictor; its frames come from the folder, in order, and are loaded beforehand."""
    from sam2.build_sam import build_sam2_video_predictor

    predictor = build_sam2_video_predictor(f"configs/sam2.1/{config}.yaml", None, device="cpu")
    state = predictor.init_state(str(frames))
    predictor.add_new_mask(state, frame_idx=0, obj_id=1, mask=as_mask(mask).values > 0)
    results: Iterator[Any] = predictor.propagate_in_video(state)
    next(results)
    return lambda _: next(results)


def contestants(options: argparse.Namespace, first: Tensor) -> dict[str, Callable[[], Step]]:
    found: dict[str, Callable[[], Step]] = {}
    for name in options.models:
        kinds: dict[str, Mapping[str, Any]] = {"torch float32": {"dtype": torch.float32}}
        if load_model(name, device="cpu").multiplies == torch.bfloat16:
            kinds["torch bfloat16"] = {}
        if find_spec("openvino"):
            kinds["OpenVINO"] = {"runtime": "openvino"}
        for kind, given in kinds.items():
            found[f"siammae {name}, {kind}"] = lambda name=name, given=given: ours(name, first, options.mask, **given)
    if options.cutie:
        for size in ("small", "base"):
            found[f"Cutie {size}"] = lambda size=size: cutie(options.cutie.resolve(), size, first, options.mask)
    if options.sam2:
        for size, letter in (("tiny", "t"), ("small", "s")):
            found[f"SAM 2.1 {size}"] = lambda letter=letter: sam2(f"sam2.1_hiera_{letter}", options.frames, options.mask)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("--models", nargs="*", default=["vits8", "vitt8d6"])
    parser.add_argument("--cutie", type=Path, help="clone of Cutie")
    parser.add_argument("--sam2", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = read_frames(options.frames)
    frames = source.at(list(range(min(2 * options.rounds + 1, source.length or 1))))
    times: dict[str, list[float]] = {}
    with torch.inference_mode():
        steps = {name: build() for name, build in contestants(options, frames[0]).items()}
        for frame in frames[1:]:
            for name, step in steps.items():
                began = time.perf_counter()
                step(frame)
                times.setdefault(name, []).append(time.perf_counter() - began)
    measured = {name: each[-options.rounds :] for name, each in times.items()}
    machine = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": platform.processor() or platform.machine(),
        "threads": options.threads,
        "frame": list(frames[0].shape[1:]),
        "rounds": options.rounds,
        **{name: metadata.version(name) for name in ("torch", "openvino") if find_spec(name)},
    }
    print("| contestant | s a frame | least | most |\n|---|---|---|---|")
    for name, each in measured.items():
        print(f"| {name} | {statistics.median(each):.2f} | {min(each):.2f} | {max(each):.2f} |")
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "seconds": times}, indent=1) + "\n")


if __name__ == "__main__":
    main()
