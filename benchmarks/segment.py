"""Measure the masks that `siammae.segment` fits to boxes and clicks, on a DAVIS folder with one object in each sequence.

    python benchmarks/segment.py DAVIS --frames 0 20 40

Boxes are those of the true masks, with a margin. Each next click is the middle of the largest wrong part (Xu et al., Deep
Interactive Object Selection, 2016), plus where the object is missing. Prints the mean IoU of each sequence, and the seconds of
encoding, of a fit, and of one call that does both.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from siammae import Segmenter, load_model, segment
from siammae.evaluation.datasets import Davis
from siammae.labels import as_mask
from siammae.models.registry import DEFAULT_MODEL
from siammae.video import as_frame

Bool = NDArray[np.bool_]


def iou(one: Bool, other: Bool) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def box_around(mask: Bool, margin: float) -> tuple[float, float, float, float]:
    """The box of a mask [H, W], larger by a share of its sides on each side, within the frame."""
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    down, across = margin * (bottom - top + 1), margin * (right - left + 1)
    height, width = mask.shape
    return max(0, left - across), max(0, top - down), min(width - 1, right + across), min(height - 1, bottom + down)


def next_click(truth: Bool, found: Bool) -> tuple[list[float], int]:
    """The middle of the largest wrong part, (x, y), and its label."""
    missing, added = (distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1] for wrong in (truth & ~found, found & ~truth))
    depth = missing if missing.max() >= added.max() else added
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return [float(column), float(row)], int(depth is missing)


def fit(segmenter: Segmenter, truth: Bool, found: Bool, clicks: int, box: tuple[float, ...] | None) -> list[float]:
    """The IoU after each of so many clicks; a click that the segmenter refuses changes nothing."""
    points: list[list[float]] = []
    labels: list[int] = []
    scores = []
    for _ in range(clicks):
        point, label = next_click(truth, found)
        try:
            found = segmenter.segment(box=box, points=[*points, point], labels=[*labels, label]) > 0
            points, labels = [*points, point], [*labels, label]
        except ValueError:
            pass
        scores.append(iou(found, truth))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, nargs="+", default=[0], help="numbers of the frames of each sequence")
    parser.add_argument("--margin", type=float, default=0.05, help="margin of a box, as a share of its sides")
    parser.add_argument("--clicks", type=int, default=3)
    options = parser.parse_args()
    model, names, scores, seconds = load_model(options.model), [], [], []
    for sequence in Davis(options.davis).find():
        rows = []
        for number in options.frames:
            frame, truth = as_frame(sequence.frames[number]), as_mask(sequence.annotations[number]).values > 0
            box = box_around(truth, options.margin)
            started = time.perf_counter()
            segmenter = Segmenter(model, frame)
            encoded = time.perf_counter()
            found = segmenter.segment(box=box) > 0  # encodes a small box
            fitted = time.perf_counter()
            segmenter.segment(box=box)
            again = time.perf_counter()
            segment(frame, box=box, model=model)
            seconds.append([encoded - started, again - fitted, time.perf_counter() - again])
            drawn = np.zeros_like(truth)
            drawn[round(box[1]) : round(box[3]) + 1, round(box[0]) : round(box[2]) + 1] = True
            with_clicks = fit(segmenter, truth, found, options.clicks, box)
            alone = fit(segmenter, truth, np.zeros_like(truth), options.clicks, None)
            rows.append([iou(drawn, truth), iou(found, truth), *with_clicks, *alone])
        names.append(sequence.name)
        scores.append(np.mean(rows, axis=0))
        print(f"{sequence.name}: {scores[-1].round(3)}", flush=True)
    counts = range(1, options.clicks + 1)
    columns = ["the box", "mask", *(f"+{count}" for count in counts), *(f"{count} alone" for count in counts)]
    print(f"\n| sequence | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name, row in [*zip(names, scores, strict=True), ("mean", np.mean(scores, axis=0)), ("least", np.min(scores, axis=0))]:
        print(f"| {name} | {' | '.join(f'{score:.3f}' for score in row)} |")
    for what, values in zip(("encoding", "a fit", "one call"), np.transpose(seconds), strict=True):
        print(f"{what}: {np.median(values):.3f} s, at most {values.max():.3f}")


if __name__ == "__main__":
    main()
