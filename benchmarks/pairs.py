"""How many pairs of training frames move: by the way that clips are drawn.

    python benchmarks/pairs.py VIDEOS CACHE [--pairs 2000]

VIDEOS is a folder or a .txt file with one path a line; CACHE is a folder for the decoded frames. Pairs are drawn with the gaps
and crops of examples/training/vits8-features.yaml: clips by their length, by the square root of their length, and the same with
`data.motion`. A cell of 8 x 8 pixels under the crop changes if its mean color does.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from siammae.training.config import DataConfig, load_config
from siammae.training.data.cache import CachedSource, FrameCache, build_cache
from siammae.training.data.files import find_files
from siammae.training.data.motion import cell_means, changed_share

RECIPE = Path(__file__).parents[1] / "examples/training/vits8-features.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos")
    parser.add_argument("cache", type=Path)
    parser.add_argument("--pairs", type=int, default=2000)
    options = parser.parse_args()

    config = load_config(RECIPE, [f"data.path={options.videos}"]).data
    videos = list(dict.fromkeys(find_files(config)))
    cache = build_cache(videos, options.cache, short_side=config.cache.short_side, fps=config.cache.fps)
    cells = {clip.name: cell_means(cache.frames(clip)) for clip in cache.clips}
    still, by_length = replace(config, motion=0.0), {clip.name: clip.frames**0.5 for clip in cache.clips}
    print(f"{options.pairs} pairs of {len(cache.clips)} clips, gaps {config.gap} s, crops {config.scale} of the area")
    print("| draw | less than 2 % of the cells change | less than 10 % | pairs from the ten clips drawn most |")
    print("|---|---|---|---|")
    for label, data, weights in (
        ("by the length", still, by_length),
        ("by the square root of the length", still, {}),
        (f"and `motion: {config.motion:g}`", config, {}),
    ):
        shares, names = draw(cache, data, weights, cells, options.pairs)
        most = sum(count for _, count in names.most_common(10)) / options.pairs
        print(f"| {label} | {np.mean(shares < 0.02):.1%} | {np.mean(shares < 0.1):.1%} | {most:.0%} |", flush=True)


def draw(
    cache: FrameCache, config: DataConfig, weights: Mapping[str, float], cells: Mapping[str, Tensor], pairs: int
) -> tuple[np.ndarray, Counter[str]]:
    """Draw pairs; returns the share of changed cells of each, and how often each clip came."""
    source = CachedSource(cache, config, size=1, side=16, futures=1, seed=0, weights=weights)
    rng, shares, names = np.random.default_rng(0), [], Counter[str]()
    for _ in range(pairs):
        clip, frames, box = source.place(rng)
        shares.append(changed_share(cells[clip.name], frames, box))
        names[clip.name] += 1
    return np.array(shares), names


if __name__ == "__main__":
    main()
