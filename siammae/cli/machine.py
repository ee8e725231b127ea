"""The commands about the machine: `env` lists what it can use, `bench` measures its speed."""

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from siammae.cli.options import Json, print_json


def env(as_json: Json = False) -> None:
    """List what this machine can use: versions, devices, how matrices are multiplied, which video formats are read.

    Example: siammae env --json
    """
    import platform

    import av
    import torch

    from siammae import __version__
    from siammae.models.load import default_device
    from siammae.ops.dispatch import IMPLEMENTATIONS, unavailable
    from siammae.ops.matmul import bfloat16_is_faster, onednn_is_faster

    packages = "torch", "torchvision", "timm", "huggingface_hub", "safetensors", "av", "numpy", "triton", "openvino"
    codecs = "h264", "hevc", "vp9", "av1", "gif", "prores"
    report = {
        "siammae": __version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
        "packages": {package: _version(package) for package in packages},
        "CUDA device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "MPS": torch.backends.mps.is_available(),
        "default device": str(default_device()),
        "CPU": {
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "float32 products": "oneDNN" if onednn_is_faster() else "torch's default",
            "bfloat16 products": bfloat16_is_faster(),
        },
        "video codecs": [name for name in codecs if name in av.codecs_available],
        "propagation": {name: unavailable(name, default_device()) or "yes" for name in IMPLEMENTATIONS},
    }
    if as_json:
        print_json(report)
        return
    for key, value in report.items():
        if isinstance(value, dict):
            for name, each in value.items():
                print(f"{name if key == 'packages' else f'{key}, {name}'}: {_plain(each)}")
        else:
            print(f"{key}: {_plain(value)}")


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _plain(value: Any) -> str:
    """Write a value for people: a list by its items, None and booleans as words."""
    if isinstance(value, list):
        return ", ".join(value)
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def bench(
    grids: tuple[str, ...] = ("30x53", "60x107"),
    frames: tuple[int, ...] = (8, 20),
    radii: tuple[int, ...] = (12, 20),
    models: tuple[str, ...] = ("vits16", "vits8"),
    device: str | None = None,
    threads: int | None = None,
    rounds: int = 5,
    seconds: float = 60,
    out: Annotated[Path | None, arg(aliases=["-o"])] = None,
) -> None:
    """Measure label propagation against the operations of DINO's and CRW's scripts, alone and as whole frames at 480p.

    Example: siammae bench --grids 30x53 --frames 8 --radii 12 --models vits16

    Args:
        grids: Grids to measure, rows x columns of cells.
        frames: Numbers of context frames to measure.
        radii: Radii of the windows to measure, in cells.
        models: Registered names to measure whole frames with, at their initial weights; none leaves whole frames out.
        device: Device to run on: cuda, mps or cpu; the fastest one available if not given.
        threads: CPU threads to use; torch's own choice if not given.
        rounds: Number of measurements of each contestant; the table shows their median.
        seconds: Time limit of a comparison; it ends then, with fewer rounds.
        out: JSON file for the figures.
    """
    import json

    import torch

    from siammae.bench.measure import run
    from siammae.files import atomic, check_output
    from siammae.models.load import default_device

    if out is not None:
        check_output(out, (".json",))
    if threads is not None:
        torch.set_num_threads(threads)
    figures = run(
        [_grid(grid) for grid in grids],
        frames,
        radii,
        models,
        torch.device(device) if device else default_device(),
        rounds=rounds,
        seconds=seconds,
        report=lambda line: print(line, flush=True),
    )
    if out is not None:
        with atomic(out) as draft:
            draft.write_text(json.dumps(figures, indent=2) + "\n")


def _grid(text: str) -> tuple[int, int]:
    """Read (h, w) from text such as 30x53."""
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise ValueError(f"--grids {text}: expected rows x columns, such as 30x53")
    return int(rows), int(columns)
