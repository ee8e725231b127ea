"""DAVIS 2016 and 2017: J and F of predicted masks, as the official davis2017-evaluation computes them.

Predictions may come from any program. Every frame counts but the first, which is given, and the last. Objects are 1 to the
largest id of the first annotation; 255 is void there and counts as background. In an annotation of 0 and 255 alone, as DAVIS
2016 stores them, 255 is the one object.
"""

import os
import statistics as averages
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.datasets.dataset import Dataset, Progress
from siammae.evaluation.datasets.sequences import (
    VOID,
    MaskSequence,
    PathLike,
    check_complete,
    digest,
    is_binary,
    pictures,
    read_names,
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
class DavisScores:
    """Scores of a set of sequences.

    Attributes:
        objects: scores of every object. The figures of the set are means over objects, not over sequences.
        unknown_ids: ids in a sequence's predictions that its first annotation lacks; their pixels count as background.
        resized: another size, (H, W), and the scores at that size, if `Davis.resized` asks for it.
    """

    objects: tuple[ObjectScores, ...]
    unknown_ids: dict[str, tuple[int, ...]]
    resized: "tuple[Size, DavisScores] | None" = None

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
    def sequences(self) -> dict[str, "DavisScores"]:
        """Scores of each sequence alone."""
        names = dict.fromkeys(scores.sequence for scores in self.objects)
        return {
            name: DavisScores(
                tuple(scores for scores in self.objects if scores.sequence == name),
                {key: ids for key, ids in self.unknown_ids.items() if key == name},
            )
            for name in names
        }

    def table(self) -> str:
        """Format percentages of the set, of every sequence and, if it has several, of every object; Markdown."""
        rows = [_row("all", self)]
        if self.resized:
            (height, width), scores = self.resized
            rows.append(_row(f"all, resized to {height} x {width}", scores))
        for name, scores in self.sequences.items():
            rows.append(_row(name, scores))
            if len(scores.objects) > 1:
                rows += [_row(f"{name} {item.id}", DavisScores((item,), {})) for item in scores.objects]
        head = "| | J&F | J mean | recall | decay | F mean | recall | decay |\n|---|---|---|---|---|---|---|---|\n"
        return head + "\n".join(rows)

    @property
    def headline(self) -> tuple[str, float]:
        return "J&F", self.j_and_f

    def figures(self) -> dict[str, Any]:
        """Return all figures, those of every frame included, as JSON's types; the report shows `sequences`."""
        return {
            "J&F": self.j_and_f,
            "J": self.j._asdict(),
            "F": self.f._asdict(),
            "resized": self.resized and {"size": self.resized[0], **self.resized[1].figures()},
            "sequences": {name: _curve(scores) for name, scores in self.sequences.items()},
            "objects": [asdict(item) | {"J": item.j._asdict(), "F": item.f._asdict()} for item in self.objects],
            "unknown_ids": self.unknown_ids,
        }


@dataclass(frozen=True)
class Davis(Dataset):
    """DAVIS 2016 or 2017.

    Attributes:
        root: folder with JPEGImages/480p and Annotations/480p, each with a folder for each sequence. To score predictions, a
            folder with a folder of PNG masks for each sequence is enough.
        split: without `sequences` and `split`, ImageSets/2017/val.txt, else ImageSets/480p/val.txt, else all sequences.
        resized: (H, W) for a second set of scores, for which annotations and predictions are resized by the nearest pixel. It
            shows the effect of a habit: CatMAE, RSP and CropMAE report scores at (480, 880), where the outlines of most
            sequences may be 9 pixels apart, not 8.
    """

    resized: Size | None = None

    name = "davis"
    rule = "first and last frame dropped, means over objects"
    first_scored = 1

    def find(self) -> list[MaskSequence]:
        """Find the sequences; every frame must have an annotation, and there must be three or more."""
        base = Path(self.root)
        images, masks = base / "JPEGImages" / "480p", base / "Annotations" / "480p"
        check_complete(base, [str(path.relative_to(base)) for path in (images, masks) if not path.is_dir()], "DAVIS's layout")
        sequences, missing = [], []
        for name, paths in self.annotations().items():
            frames = pictures(images / name)
            stems = {path.stem for path in paths}
            missing += [f"JPEGImages/480p/{name}/{stem}.jpg" for stem in sorted(stems - set(frames))]
            missing += [f"Annotations/480p/{name}/{stem}.png" for stem in sorted(set(frames) - stems)]
            sequences.append(MaskSequence(name, tuple(frames.values()), tuple(paths)))
        check_complete(base, missing, "an annotation for every frame, and a frame for every annotation")
        return sequences

    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> DavisScores:
        """Compute J and F of predicted masks, one frame of a sequence in memory at a time.

        `predictions` holds a folder for each sequence, with a mask of the same name and size for every annotation that counts.

        Source: Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", section 4.
        """
        annotations, folder = self.annotations(), Path(predictions)
        missing = [
            f"{name}/{path.name}"
            for name, paths in annotations.items()
            for path in paths[1:-1]
            if not (folder / name / path.name).is_file()
        ]
        expected = "SEQUENCE/FRAME.png for all annotations but the first and the last; name the sequences if you have only some"
        check_complete(folder, missing, expected)
        sizes = [None, self.resized] if self.resized else [None]
        objects: list[list[ObjectScores]] = [[] for _ in sizes]
        unknown: dict[str, tuple[int, ...]] = {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            folders = [folder / name for name in annotations]
            results = pool.map(partial(_score_sequence, sizes=sizes), annotations, annotations.values(), folders)
            for name, (scored, others) in zip(annotations, results, strict=True):
                for at_size, new in zip(objects, scored, strict=True):
                    at_size += new
                if others:
                    unknown[name] = others
                    warnings.warn(
                        f"{name}: ids {list(others)} are not in the first annotation; they are background", stacklevel=2
                    )
                progress(name)
        again = (self.resized, DavisScores(tuple(objects[1]), unknown)) if self.resized else None
        return DavisScores(tuple(objects[0]), unknown, again)

    def annotations(self) -> dict[str, list[Path]]:
        """Find the annotations of each sequence, in order; errors as in `find`."""
        base = Path(self.root)
        folder = base / "Annotations" / "480p" if (base / "Annotations").is_dir() else base
        split = next((base / name for name in SPLITS if (base / name).is_file()), None)
        names = self.wanted() or (
            read_names(split) if split else sorted(path.name for path in folder.iterdir() if path.is_dir())
        )
        annotations = {name: sorted((folder / name).glob("*.png")) for name in names}
        empty = [name for name, paths in annotations.items() if not paths]
        if empty or not annotations:
            of = f" of {', '.join(empty)}" if empty else ""
            raise FileNotFoundError(
                f"{folder} holds no PNG masks{of}; expected SEQUENCE/FRAME.png, or a data set with Annotations/480p"
            )
        short = [name for name, paths in annotations.items() if len(paths) < 3]
        if short:
            raise ValueError(
                f"{', '.join(short)} of {folder}: fewer than three annotations, and the first and the last do not count"
            )
        return annotations

    def digests(self, predictions: PathLike) -> tuple[str, str]:
        """Return the SHA-256 of the annotations and of the predictions that `score` reads: of names and bytes, in order."""
        annotations = self.annotations()
        truth = [path for paths in annotations.values() for path in paths[:-1]]
        scored = [Path(predictions) / name / path.name for name, paths in annotations.items() for path in paths[1:-1]]
        return digest(truth), digest(scored)


def _score_sequence(
    name: str, annotations: list[Path], pred: Path, *, sizes: Sequence[Size | None]
) -> tuple[list[list[ObjectScores]], tuple[int, ...]]:
    """Score the objects of one sequence at each of `sizes`; returns the ids in the predictions that no object has, too."""
    first = _ids(annotations[0])
    binary = is_binary(first)
    num_objects = 1 if binary else int(first[first != VOID].max(initial=0))
    if not num_objects:
        raise ValueError(f"{annotations[0]} marks no object; expected the ids of all scored objects in the first annotation")
    scores: list[list[tuple[list[float], list[float]]]] = [[([], []) for _ in range(num_objects)] for _ in sizes]
    unknown: set[int] = set()
    for path in annotations[1:-1]:
        truth, mask = _ids(path), _ids(pred / path.name)
        if truth.shape != mask.shape:
            raise ValueError(
                f"{pred / path.name} has {mask.shape[0]} x {mask.shape[1]} pixels; its annotation has {truth.shape[0]} x "
                f"{truth.shape[1]}. Resize the masks to the size of the annotations, by the nearest pixel"
            )
        if binary:
            truth, mask = (truth > 0).astype(np.uint8), (mask > 0).astype(np.uint8)
        if mask.max() > num_objects:
            unknown |= set(np.unique(mask[mask > num_objects]).tolist())
        for size, at_size in zip(sizes, scores, strict=True):
            pair = [Mask(ids, "numpy", ids.dtype).resized(size, "center").values if size else ids for ids in (truth, mask)]
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


def _mean(objects: Sequence[Statistics]) -> Statistics:
    return Statistics(*(averages.fmean(values) for values in zip(*objects, strict=True)))


def _curve(scores: DavisScores) -> dict[str, Any]:
    frames = np.mean([item.j_frames for item in scores.objects], axis=0)
    return {"score": scores.j_and_f, "curve": "J", "frames": frames.tolist()}


def _row(name: str, scores: DavisScores) -> str:
    figures = scores.j_and_f, *scores.j, *scores.f
    return f"| {name} | {' | '.join(f'{100 * figure:.1f}' for figure in figures)} |"
