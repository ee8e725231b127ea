"""DAVIS 2016 and 2017: J and F of predicted masks, as the official davis2017-evaluation computes them.

Every frame counts but the first, which is given, and the last. Objects are 1 to the largest id of the first annotation; 255 is
void there and counts as background. In an annotation of 0 and 255 alone, as DAVIS 2016 stores them, 255 is the one object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from siammae.evaluation.datasets.dataset import Dataset, Progress, Scores
from siammae.evaluation.datasets.sequences import (
    VOID,
    MaskSequence,
    PathLike,
    check_complete,
    check_predictions,
    digest,
    is_binary,
    pictures,
    read_names,
)
from siammae.evaluation.regions import RegionScores, Size, write_csvs
from siammae.evaluation.score_regions import ScoredSequence, score_regions
from siammae.labels.masks import as_mask

# DAVIS 2017, 2016, and the sets whose annotations are not public
SPLITS = "ImageSets/2017/val.txt", "ImageSets/480p/val.txt", "ImageSets/2017/test-dev.txt", "ImageSets/2017/test-challenge.txt"
ATTRIBUTES = "Annotations/db_info.yml"  # of DAVIS 2016


@dataclass(frozen=True)
class Davis(Dataset):
    """DAVIS 2016 or 2017.

    Attributes:
        root: folder with JPEGImages/480p and Annotations/480p, each with a folder for each sequence. To score predictions, a
            folder with a folder of PNG masks for each sequence is enough.
        split: without `sequences` and `split`, ImageSets/2017/val.txt, else ImageSets/480p/val.txt, else the test-dev or the
            challenge set of 2017, else all sequences.
        resized: (H, W) for a second set of scores, for which annotations and predictions are resized by the nearest pixel. It
            shows the effect of a habit: CatMAE, RSP and CropMAE report scores at (480, 880), where the outlines of most
            sequences may be 9 pixels apart, not 8.
        resolution: "480p" or "Full-Resolution", the folder of frames and annotations to use.
    """

    resized: Size | None = None
    resolution: Literal["480p", "Full-Resolution"] = "480p"

    name = "davis"
    rule = "first and last frame dropped, means over objects"
    first_scored = 1
    options = ("resolution",)

    def find(self) -> list[MaskSequence]:
        """Find the sequences; every frame must have an annotation, and there must be three or more."""
        self._check_layout()
        sequences, missing = [], []
        for name, paths in self.annotations().items():
            frames, stems = self._frames(name), {path.stem for path in paths}
            missing += [f"JPEGImages/{self.resolution}/{name}/{stem}.jpg" for stem in sorted(stems - set(frames))]
            missing += [f"Annotations/{self.resolution}/{name}/{stem}.png" for stem in sorted(set(frames) - stems)]
            sequences.append(MaskSequence(name, tuple(frames.values()), tuple(paths)))
        expected = "an annotation for every frame, and a frame for every annotation; a set without public annotations can be "
        check_complete(self.root, missing, f"{expected}predicted only")
        return sequences

    def inputs(self) -> list[MaskSequence]:
        """Find the sequences; the first frame of each must have an annotation, such as in the test-dev set."""
        self._check_layout()
        sequences, missing = [], []
        for name, paths in self._annotations().items():
            frames = self._frames(name)
            first = next(iter(frames), "00000")
            missing += [f"JPEGImages/{self.resolution}/{name}"] * (not frames)
            given = [path for path in paths if path.stem == first]
            missing += [f"Annotations/{self.resolution}/{name}/{first}.png"] * (not given)
            sequences.append(MaskSequence(name, tuple(frames.values()), tuple(given)))
        check_complete(self.root, missing, "the frames of every sequence, and an annotation of the first one")
        return sequences

    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> RegionScores:
        """Compute J and F of predicted masks, one frame of a sequence in memory at a time.

        `predictions` holds a folder for each sequence, with a mask of the same name and size for every annotation that counts.
        Masks of frames that have no annotation are a ValueError.

        Source: Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", section 4.
        """
        annotations, folder = self.annotations(), Path(predictions)
        wanted = {name: paths[1:-1] for name, paths in annotations.items()}
        expected = "SEQUENCE/FRAME.png for all annotations but the first and the last; name the sequences if you have only some"
        check_predictions(folder, wanted, annotations, expected)
        sequences = [_scored(name, paths) for name, paths in annotations.items()]
        attributes = self.attributes()
        return score_regions(
            sequences, folder, resized=self.resized, first=self.first_scored, attributes=attributes, progress=progress
        )

    def export(self, scores: Scores, folder: Path) -> list[Path]:
        """Write the official tool's tables, named after the split: global_results-val.csv and per-sequence_results-val.csv."""
        if not isinstance(scores, RegionScores):
            raise TypeError(f"the scores are {type(scores).__name__}; expected those of Davis.score")
        split = self.split or self._own_split()
        return write_csvs(scores, folder, "val" if split is None else Path(split).stem)

    def attributes(self) -> dict[str, list[str]]:
        """Read the attributes of DAVIS 2016, each with its sequences, from Annotations/db_info.yml; empty without that file."""
        path = Path(self.root) / ATTRIBUTES
        if not path.is_file():
            return {}
        import yaml

        attributes: dict[str, list[str]] = {}
        try:
            for sequence in yaml.safe_load(path.read_text())["sequences"]:
                for attribute in sequence["attributes"]:
                    attributes.setdefault(str(attribute), []).append(str(sequence["name"]))
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read as DAVIS's attributes: {type(error).__name__} {error}") from error
        return dict(sorted(attributes.items()))

    def annotations(self) -> dict[str, list[Path]]:
        """Find the annotations of each sequence, in order; errors as in `find`."""
        annotations = self._annotations()
        short = [name for name, paths in annotations.items() if len(paths) < 3]
        if short:
            raise ValueError(
                f"{', '.join(short)} of {self.root}: fewer than three annotations, and the first and the last do not count"
            )
        return annotations

    def digests(self, predictions: PathLike) -> tuple[str, str]:
        """Return the SHA-256 of the annotations and of the predictions that `score` reads: of names and bytes, in order."""
        annotations = self.annotations()
        truth = [path for paths in annotations.values() for path in paths[:-1]]
        scored = [Path(predictions) / name / path.name for name, paths in annotations.items() for path in paths[1:-1]]
        return digest(truth), digest(scored)

    def record(self) -> dict[str, Any]:
        return super().record() | {"resolution": self.resolution}

    def _annotations(self) -> dict[str, list[Path]]:
        base = Path(self.root)
        folder = base / "Annotations" / self.resolution if (base / "Annotations").is_dir() else base
        split = self._own_split()
        names = self.wanted() or (
            read_names(split) if split else sorted(path.name for path in folder.iterdir() if path.is_dir())
        )
        annotations = {name: sorted((folder / name).glob("*.png")) for name in names}
        empty = [name for name, paths in annotations.items() if not paths]
        if empty or not annotations:
            of = f" of {', '.join(empty)}" if empty else ""
            raise FileNotFoundError(
                f"{folder} holds no PNG masks{of}; expected SEQUENCE/FRAME.png, or a data set with "
                f"Annotations/{self.resolution}"
            )
        return annotations

    def _frames(self, name: str) -> dict[str, Path]:
        return pictures(Path(self.root) / "JPEGImages" / self.resolution / name)

    def _check_layout(self) -> None:
        layout = [f"{kind}/{self.resolution}" for kind in ("JPEGImages", "Annotations")]
        check_complete(self.root, [folder for folder in layout if not (Path(self.root) / folder).is_dir()], "DAVIS's layout")

    def _own_split(self) -> Path | None:
        """Return the first list of sequences in the data set."""
        base = Path(self.root)
        return next((base / name for name in SPLITS if (base / name).is_file()), None)


def _scored(name: str, annotations: Sequence[Path]) -> ScoredSequence:
    """Count objects 1 to the largest id of the first annotation in every annotation but the first and the last."""
    first = as_mask(annotations[0], empty=True).values
    binary = is_binary(first)
    num_objects = 1 if binary else int(first[first != VOID].max(initial=0))
    if not num_objects:
        raise ValueError(f"{annotations[0]} marks no object; expected the ids of all scored objects in the first annotation")
    numbers = tuple(range(1, len(annotations) - 1))
    return ScoredSequence(name, tuple(annotations), dict.fromkeys(range(1, num_objects + 1), numbers), binary)
