"""Foreign frames: how many are found, and how many real frames are taken for one, at several values of `foreign_below`.

    python benchmarks/foreign.py SOURCE [SOURCE ...] --model vits8

Each source is a video or a folder of frames. The last of its frames is then replaced by the last frame of every other source of
the same size, and by black, white and noise. `--every 8` skips frames, as a fast camera or a time lapse does.
"""

import argparse
from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor

from siammae import load_model, read_frames
from siammae.features import descriptors
from siammae.geometry import Geometry, frame_size
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.scenes import Scene

VALUES = 0.2, 0.35, 0.5, 0.65, 0.8


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=12, help="frames that are taken of each source")
    parser.add_argument("--every", type=int, default=1, help="take every so many frames")
    options = parser.parse_args()

    encoder = load_model(options.model)

    def grid(frame: Tensor) -> Tensor:
        return descriptors(encoder, [frame], Geometry.of(frame_size(frame), encoder, None), projected=False)[0]

    noise = torch.Generator().manual_seed(0)
    ends: list[tuple[Scene, Tensor]] = []
    real, flat = [], []
    for source in options.sources:
        scene = Scene()
        for number, frame in enumerate(islice(read_frames(source), 0, options.frames * options.every, options.every)):
            features = grid(frame)
            if number == 0:
                scene.anchor(features)
                continue
            real.append(scene.continuity(features))
            scene.keep(features)
        random = torch.randint(0, 256, frame.shape, generator=noise, dtype=torch.uint8)
        flat += [scene.continuity(grid(picture)) for picture in (torch.zeros_like(frame), torch.full_like(frame, 255), random)]
        ends.append((scene, features))
    foreign = [
        scene.continuity(features)
        for place, (scene, own) in enumerate(ends)
        for other, (_, features) in enumerate(ends)
        if other != place and features.shape == own.shape
    ]

    print(f"{options.model}: {len(real)} real frames, {len(foreign)} of other sources, {len(flat)} black, white and noise")
    print("| foreign_below | real frames called foreign | frames of other sources found | black, white, noise found |")
    print("|---|---|---|---|")
    for value in VALUES:
        print(f"| {value} | {' | '.join(share(scores, value) for scores in (real, foreign, flat))} |")


def share(scores: Iterable[float], value: float) -> str:
    """Say which share of the scores is below a value."""
    below = [score < value for score in scores]
    return f"{sum(below) / len(below):.1%}"


if __name__ == "__main__":
    main()
