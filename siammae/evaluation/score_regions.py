"""Scoring of predicted masks by J and F, for DAVIS, YouTube-VOS, MOSE and LVOS.

Predictions may come from any program. A thread scores a sequence, and reads one frame at a time.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.metrics import boundary_accuracy, region_similarity
from siammae.evaluation.regions import ObjectScores, RegionScores, Size
from siammae.labels.masks import Mask, as_mask

SHOWN = 20  # wrong files that a message names


@dataclass(frozen=True)
class ScoredSequence:
    """The annotations of a sequence, and the objects that are scored in them.

    Attributes:
        name: name of the sequence, and of the folder of its predictions.
        annotations: masks, in order.
        objects: for each id the numbers of the annotations in which the object counts.
        binary: the annotations hold 0 and 255 alone, as in DAVIS 2016, and 255 is the one object.
        seen: for each id, True or False if its kind is in the data set's training set or not; empty if that is unknown.
    """

    name: str
    annotations: tuple[Path, ...]
    objects: Mapping[int, tuple[int, ...]]
    binary: bool = False
    seen: Mapping[int, bool] | None = None

    @property
    def numbers(self) -> list[int]:
        """Numbers of the annotations that count."""
        return sorted({number for numbers in self.objects.values() for number in numbers})


def score_regions(
    sequences: Sequence[ScoredSequence],
    predictions: Path,
    *,
    resized: Size | None = None,
    first: int = 0,
    attributes: Mapping[str, Sequence[str]] | None = None,
    progress: Callable[[str], object],
) -> RegionScores:
    """Compute J and F of predicted masks, one frame of a sequence in memory at a time.

    `predictions` holds a folder for each sequence, with a mask of the same name and size for every annotation that counts.

    Raises:
        ValueError: masks of another size than their annotation, all of them named before anything is scored.
    """
    _check_sizes(sequences, predictions)
    sizes = [None, resized] if resized else [None]
    objects: list[list[ObjectScores]] = [[] for _ in sizes]
    unknown: dict[str, tuple[int, ...]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(_score_sequence, predictions=predictions, sizes=sizes), sequences)
        for sequence, (scored, others) in zip(sequences, results, strict=True):
            for at_size, new in zip(objects, scored, strict=True):
                at_size += new
            if others:
                unknown[sequence.name] = others
            progress(sequence.name)
    if unknown:
        named = "; ".join(f"{name}: ids {list(ids)}" for name, ids in unknown.items())
        warnings.warn(f"{named} are not in the first annotation or the meta file; they are background", stacklevel=3)
    again = (resized, RegionScores(tuple(objects[1]), unknown, first=first)) if resized else None
    return RegionScores(tuple(objects[0]), unknown, again, first, attributes)


def _check_sizes(sequences: Sequence[ScoredSequence], predictions: Path) -> None:
    wrong = []
    for sequence in sequences:
        for number in sequence.numbers:
            annotation = sequence.annotations[number]
            truth, mask = png_size(annotation), png_size(predictions / sequence.name / annotation.name)
            if truth != mask:
                sizes = f"{mask[0]} x {mask[1]} pixels; its annotation has {truth[0]} x {truth[1]}"
                wrong.append(f"{sequence.name}/{annotation.name} has {sizes}")
    if wrong:
        shown = ", ".join(wrong[:SHOWN]) + (f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
        raise ValueError(
            f"{predictions}: {len(wrong)} masks of another size: {shown}. Resize the masks to the size of the annotations, by "
            "the nearest pixel"
        )


def png_size(path: Path) -> Size:
    """Read height and width of a PNG file from its header; ValueError if it is none."""
    with open(path, "rb") as file:
        head = file.read(24)
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise ValueError(f"{path} is no PNG file; masks are indexed or grey PNGs")
    return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")


def _score_sequence(
    sequence: ScoredSequence, *, predictions: Path, sizes: Sequence[Size | None]
) -> tuple[list[list[ObjectScores]], tuple[int, ...]]:
    """Score the objects of one sequence at each of `sizes`; returns the ids in the predictions that no object has, too."""
    scores: list[dict[int, list[tuple[float, float]]]] = [{label: [] for label in sequence.objects} for _ in sizes]
    unknown: set[int] = set()
    counted = {label: set(numbers) for label, numbers in sequence.objects.items()}
    known = [0, *sequence.objects]
    for number in sequence.numbers:
        annotation = sequence.annotations[number]
        truth, mask = _ids(annotation), _ids(predictions / sequence.name / annotation.name)
        if sequence.binary:
            truth, mask = (truth > 0).astype(np.uint8), (mask > 0).astype(np.uint8)
        if mask.max() > max(known) or len(known) <= max(known):
            unknown |= set(np.unique(mask).tolist()) - set(known)
        for size, at_size in zip(sizes, scores, strict=True):
            pair = [Mask(ids, "numpy", ids.dtype).resized(size, "center").values if size else ids for ids in (truth, mask)]
            for label, values in at_size.items():
                if number in counted[label]:
                    masks = pair[0] == label, pair[1] == label
                    values.append((region_similarity(*masks), boundary_accuracy(*masks)))
    objects = [[_object(sequence, label, values) for label, values in at_size.items()] for at_size in scores]
    return objects, tuple(sorted(unknown))


def _object(sequence: ScoredSequence, label: int, values: Sequence[tuple[float, float]]) -> ObjectScores:
    j_frames, f_frames = zip(*values, strict=True)
    seen = (sequence.seen or {}).get(label)
    return ObjectScores(sequence.name, label, j_frames, f_frames, sequence.objects[label], seen)


def _ids(path: Path) -> NDArray[Any]:
    return as_mask(path, empty=True).values
