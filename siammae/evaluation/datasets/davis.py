"""DAVIS 2016 and 2017: masks of a folder scored against those of another, as the official davis2017-evaluation does.

Predictions are files that anybody may have written; nothing is known of how. What counts of a sequence is every frame but the
first, which was given, and the last. Objects are 1 to the largest id of the first annotation; 255 is void there and counts as
background. In an annotation of 0 and 255 alone, as DAVIS 2016 stores them, 255 is the one object.
"""

import os
import statistics as averages
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.datasets.sequences import (
    VOID,
    MaskSequence,
    PathLike,
    check_complete,
    digest,
    is_binary,
    pictures,
    wanted,
)
from siammae.evaluation.metrics import Statistics, boundary_accuracy, region_similarity, statistics
from siammae.labels.masks import Mask, as_mask

SPLITS = "ImageSets/2017/val.txt", "ImageSets/480p/val.txt"  # of DAVIS 2017 and 2016
Size = tuple[int, int]


@dataclass(frozen=True)
class ObjectScores:
    """J and F of one object in the frames that count."""

    sequence: str
    id: int
    j_frames: tuple[float, ...]
    f_frames: tuple[float, ...]

    @property
    def j(self) -> Statistics:
        return statistics(self.j_frames)

    @property
    def f(self) -> Statistics:
        return statistics(self.f_frames)


@dataclass(frozen=True)
class Scores:
    """Of a set of sequences.

    Attributes:
        objects: of all sequences. The figures of the set are means over them, not over sequences.
        unknown_ids: ids in the predictions of a sequence that its first annotation lacks; their pixels count as background.
        resized: what the scores would be at another size, (H, W), if that was asked for.
    """

    objects: tuple[ObjectScores, ...]
    unknown_ids: dict[str, tuple[int, ...]]
    resized: "tuple[Size, Scores] | None" = None

    @property
    def j(self) -> Statistics:
        return _mean([scores.j for scores in self.objects])

    @property
    def f(self) -> Statistics:
        return _mean([scores.f for scores in self.objects])

    @property
    def j_and_f(self) -> float:
        return (self.j.mean + self.f.mean) / 2

    @property
    def sequences(self) -> dict[str, "Scores"]:
        """The scores of each sequence alone."""
        names = dict.fromkeys(scores.sequence for scores in self.objects)
        return {
            name: Scores(
                tuple(scores for scores in self.objects if scores.sequence == name),
                {key: ids for key, ids in self.unknown_ids.items() if key == name},
            )
            for name in names
        }

    def table(self) -> str:
        """Percentages of the set, of every sequence and, where it has several, of every object: Markdown."""
        rows = [_row("all", self)]
        if self.resized:
            (height, width), scores = self.resized
            rows.append(_row(f"all, resized to {height} x {width}", scores))
        for name, scores in self.sequences.items():
            rows.append(_row(name, scores))
            if len(scores.objects) > 1:
                rows += [_row(f"{name} {one.id}", Scores((one,), {})) for one in scores.objects]
        head = "| | J&F | J mean | recall | decay | F mean | recall | decay |\n|---|---|---|---|---|---|---|---|\n"
        return head + "\n".join(rows)

    @property
    def headline(self) -> tuple[str, float]:
        return "J&F", self.j_and_f

    def figures(self) -> dict[str, Any]:
        """Everything, the scores of every frame included, in types that JSON has; `sequences` is what a report shows."""
        return {
            "J&F": self.j_and_f,
            "J": self.j._asdict(),
            "F": self.f._asdict(),
            "resized": self.resized and {"size": self.resized[0], **self.resized[1].figures()},
            "sequences": {name: _curve(scores) for name, scores in self.sequences.items()},
            "objects": [asdict(one) | {"J": one.j._asdict(), "F": one.f._asdict()} for one in self.objects],
            "unknown_ids": self.unknown_ids,
        }


def find_davis(root: PathLike, sequences: Sequence[str] | None = None, split: PathLike | None = None) -> list[MaskSequence]:
    """The sequences of a DAVIS folder, 2016 or 2017, with all their frames and annotations.

    Args:
        root: has JPEGImages/480p and Annotations/480p, each with a folder for each sequence.
        sequences: those that are wanted.
        split: a text file that names them. If neither is given, ImageSets/2017/val.txt, else ImageSets/480p/val.txt, else all.

    Raises:
        FileNotFoundError: another layout; frames without annotation or the reverse, all of them named.
        ValueError: a sequence of fewer than three frames.
    """
    base = Path(root)
    images, masks = base / "JPEGImages" / "480p", base / "Annotations" / "480p"
    check_complete(base, [str(path.relative_to(base)) for path in (images, masks) if not path.is_dir()], "DAVIS's layout")
    annotations = find_annotations(base, sequences, split)
    found, missing = [], []
    for name, paths in annotations.items():
        frames = pictures(images / name)
        stems = {path.stem for path in paths}
        missing += [f"JPEGImages/480p/{name}/{stem}.jpg" for stem in sorted(stems - set(frames))]
        missing += [f"Annotations/480p/{name}/{stem}.png" for stem in sorted(set(frames) - stems)]
        found.append(MaskSequence(name, tuple(frames.values()), tuple(paths)))
    check_complete(base, missing, "an annotation for every frame, and a frame for every annotation")
    return found


def score_davis(
    gt: PathLike,
    pred: PathLike,
    *,
    sequences: Sequence[str] | None = None,
    split: PathLike | None = None,
    resized: Size | None = None,
    progress: Callable[[str], object] = lambda sequence: None,
) -> Scores:
    """J and F of the masks in `pred` against those in `gt`, one frame of a sequence in memory at a time.

    Args:
        gt: the data set, with Annotations/480p in it, or a folder of one folder of PNG masks for each sequence.
        pred: a folder of one folder for each sequence, with a mask of the same name for every annotation that counts.
        sequences, split: those that are scored; see `find_annotations`.
        resized: (H, W) of annotations and predictions for a second set of scores, for which both are resized by the nearest
            pixel. It shows the effect of a habit: CatMAE, RSP and CropMAE report scores at (480, 880), where the outlines of
            most sequences may be 9 pixels apart, not 8.
        progress: called with the name of each sequence when it is done.

    Raises:
        FileNotFoundError: folders or masks that are missing, all of them named, before anything is scored.
        ValueError: masks of another size than the annotation; sequences of fewer than three frames, or without an object.

    Source: Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", section 4.
    """
    annotations = find_annotations(gt, sequences, split)
    missing = [
        f"{name}/{path.name}"
        for name, paths in annotations.items()
        for path in paths[1:-1]
        if not (Path(pred) / name / path.name).is_file()
    ]
    expected = "SEQUENCE/FRAME.png for all annotations but the first and the last; name the sequences if you have only some"
    check_complete(pred, missing, expected)
    sizes = [None, resized] if resized else [None]
    objects: list[list[ObjectScores]] = [[] for _ in sizes]
    unknown: dict[str, tuple[int, ...]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        folders = [Path(pred) / name for name in annotations]
        results = pool.map(partial(_score_sequence, sizes=sizes), annotations, annotations.values(), folders)
        for name, (scored, others) in zip(annotations, results, strict=True):
            for known, new in zip(objects, scored, strict=True):
                known += new
            if others:
                unknown[name] = others
                warnings.warn(f"{name}: ids {list(others)} are not in the first annotation; they are background", stacklevel=2)
            progress(name)
    again = (resized, Scores(tuple(objects[1]), unknown)) if resized else None
    return Scores(tuple(objects[0]), unknown, again)


def find_annotations(
    gt: PathLike, sequences: Sequence[str] | None = None, split: PathLike | None = None
) -> dict[str, list[Path]]:
    """The annotations of each sequence, in order.

    Args:
        gt: the data set, with Annotations/480p in it, or a folder of one folder of PNG masks for each sequence.
        sequences: those that are wanted.
        split: a text file that names them. If neither is given, those of the data set's own validation split, or all.

    Raises:
        FileNotFoundError: no annotations, or none of a sequence.
        ValueError: a sequence of fewer than three frames.
    """
    folder = Path(gt) / "Annotations" / "480p" if (Path(gt) / "Annotations").is_dir() else Path(gt)
    splits = [Path(gt) / name for name in SPLITS if (Path(gt) / name).is_file()]
    names = wanted(sequences, split) or wanted(None, next(iter(splits), None))
    names = names or sorted(path.name for path in folder.iterdir() if path.is_dir())
    found = {name: sorted((folder / name).glob("*.png")) for name in names}
    without = [name for name, paths in found.items() if not paths]
    if without or not found:
        of = f" of {', '.join(without)}" if without else ""
        raise FileNotFoundError(
            f"{folder} holds no PNG masks{of}; expected SEQUENCE/FRAME.png, or a data set with Annotations/480p"
        )
    short = [name for name, paths in found.items() if len(paths) < 3]
    if short:
        raise ValueError(
            f"{', '.join(short)} of {folder}: fewer than three annotations, and the first and the last do not count"
        )
    return found


def digests(
    gt: PathLike, pred: PathLike, sequences: Sequence[str] | None = None, split: PathLike | None = None
) -> tuple[str, str]:
    """SHA-256 of the annotations that `score_davis` reads, and of the predictions: of their names and bytes, in order."""
    annotations = find_annotations(gt, sequences, split)
    read = [path for paths in annotations.values() for path in paths[:-1]]
    scored = [Path(pred) / name / path.name for name, paths in annotations.items() for path in paths[1:-1]]
    return digest(read), digest(scored)


def _score_sequence(
    name: str, annotations: list[Path], pred: Path, *, sizes: Sequence[Size | None]
) -> tuple[list[list[ObjectScores]], tuple[int, ...]]:
    """Scores of the objects of one sequence at each of `sizes`, and ids of the predictions that are none of theirs."""
    first = _ids(annotations[0])
    binary = is_binary(first)
    num_objects = 1 if binary else int(first[first != VOID].max(initial=0))
    if not num_objects:
        raise ValueError(f"{annotations[0]} marks no object; expected the ids of those that are scored in the first annotation")
    scores: list[list[tuple[list[float], list[float]]]] = [[([], []) for _ in range(num_objects)] for _ in sizes]
    unknown: set[int] = set()
    for path in annotations[1:-1]:
        truth, found = _ids(path), _ids(pred / path.name)
        if truth.shape != found.shape:
            raise ValueError(
                f"{pred / path.name} has {found.shape[0]} x {found.shape[1]} pixels; its annotation has {truth.shape[0]} x "
                f"{truth.shape[1]}. Resize the masks to the size of the annotations, by the nearest pixel"
            )
        if binary:
            truth, found = (truth > 0).astype(np.uint8), (found > 0).astype(np.uint8)
        if found.max() > num_objects:
            unknown |= set(np.unique(found[found > num_objects]).tolist())
        for size, at_size in zip(sizes, scores, strict=True):
            pair = [Mask(ids, "numpy", ids.dtype).resized(size, "center").values if size else ids for ids in (truth, found)]
            for index, (j_frames, f_frames) in enumerate(at_size, start=1):
                masks = pair[0] == index, pair[1] == index
                j_frames.append(region_similarity(*masks))
                f_frames.append(boundary_accuracy(*masks))
    objects = [
        [ObjectScores(name, index, tuple(j), tuple(f)) for index, (j, f) in enumerate(at_size, start=1)] for at_size in scores
    ]
    return objects, tuple(sorted(unknown))


def _ids(path: Path) -> NDArray[Any]:
    return as_mask(path, empty=True).values


def _mean(parts: Sequence[Statistics]) -> Statistics:
    return Statistics(*(averages.fmean(values) for values in zip(*parts, strict=True)))


def _curve(scores: Scores) -> dict[str, Any]:
    frames = np.mean([one.j_frames for one in scores.objects], axis=0)
    return {"score": scores.j_and_f, "curve": "J", "frames": frames.tolist()}


def _row(name: str, scores: Scores) -> str:
    figures = scores.j_and_f, *scores.j, *scores.f
    return f"| {name} | {' | '.join(f'{100 * figure:.1f}' for figure in figures)} |"
