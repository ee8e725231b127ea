"""Models and protocols compared on the sequences of a DAVIS folder and on BADJA's joints.

    python benchmarks/comparison.py DAVIS JOINTS OUT

Raw colours, the embedded model without training and the embedded model, each under the protocols asked for. A model with
patches of 8 pixels sees frames at half of a protocol's size, so that all have the grid that the protocol has with patches of
16. OUT gets the folder of each run, as `siammae evaluate` writes it; runs that are there already are scored as they are. Every
run is a process of its own, for the sake of the memory that it takes.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from siammae import load_model
from siammae.encoder import Encoder
from siammae.evaluation import Badja, Dataset, Davis, evaluate
from siammae.evaluation.protocols import PROTOCOLS, find_protocol

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from raw_colors import RawColors

MODELS = "raw colours", "untrained vitt8d6", "vitt8d6"
FRAME = 480, 854
PATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("joints", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS["davis"]), choices=list(PROTOCOLS["davis"]))
    options = parser.parse_args()
    print("| model | protocol | J&F | J | F | PCK@0.2 | frames/s | MB |\n|---|---|---|---|---|---|---|---|", flush=True)
    for model in options.models:
        for protocol in options.protocols:
            found = {}
            for data in (Davis(options.davis), Badja(options.davis, joints=options.joints)):
                out = options.out / f"{data.name}-{protocol}-{model.replace(' ', '-')}"
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    found[data.name] = pool.submit(run, data, out, model, protocol).result()
            davis, badja = found["davis"], found["badja"]
            scores = davis["J&F"], davis["J"]["mean"], davis["F"]["mean"], badja["PCK"]["0.2"]
            speed = davis["speed"]
            cells = [model, protocol, *(f"{100 * score:.1f}" for score in scores)]
            print(f"| {' | '.join(cells)} | {speed['frames_per_second']:.2f} | {speed['peak_memory_mb']} |", flush=True)


def run(data: Dataset, out: Path, model: str, protocol: str) -> dict[str, Any]:
    """Return the figures of one run, with its speed."""
    encoder = load(model)
    size = find_protocol(data.name, protocol).size(FRAME, PATCH)
    scaled = None if size is None else (size[0] * encoder.patch_size // PATCH, size[1] * encoder.patch_size // PATCH)
    evaluation = evaluate(data, out, encoder, protocol=protocol, size=scaled, resume=True)
    assert evaluation is not None  # this is the only process
    return {**evaluation.about, **evaluation.scores.figures()}


def load(model: str) -> Encoder:
    if model == "raw colours":
        return RawColors(PATCH).eval()
    return load_model("vitt8d6", pretrained=not model.startswith("untrained"))


if __name__ == "__main__":
    main()
