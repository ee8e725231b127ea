"""A page that shows evaluations to people: scores as bars, curves over time, the worst frames beside the truth."""

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from siammae.evaluation.bootstrap import Interval, bootstrap_mean
from siammae.evaluation.datasets import Dataset, read_dataset
from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, PointSequence, TrackSequence
from siammae.evaluation.datasets.tapvid import read_video
from siammae.evaluation.evaluation import SCORES_FILE
from siammae.evaluation.predict import PREDICTIONS
from siammae.files import atomic, check_output
from siammae.labels.keypoints import read_tracks
from siammae.labels.masks import as_mask
from siammae.visualize.masks import overlay
from siammae.visualize.points import draw_keypoints

TEMPLATE = Path(__file__).with_name("report.html")
COLORS = "#1f6f8b", "#d1495b", "#66a182", "#edae49", "#5b5f97", "#8d6a9f"
BINS = 20  # points of the mean curve
PICTURE_WIDTH = 345  # pixels

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class SavedEvaluation:
    """An evaluation read from its folder.

    Attributes:
        folder: the folder.
        content: its scores.json.
        dataset: its data set, with the sequences that were evaluated.
        color: color of its bars and curves.
    """

    folder: Path
    content: dict[str, Any]
    dataset: Dataset
    color: str

    @property
    def label(self) -> str:
        return f"{self.content['model']}, {self.content['protocol']['name']}"

    @property
    def sequences(self) -> dict[str, Any]:
        """Score, name of the curve and scores of frames by sequence."""
        sequences: dict[str, Any] = self.content["sequences"]
        return sequences

    @property
    def decay(self) -> float | None:
        """Decay of J over all objects; None for data sets that do not have it."""
        measure = self.content.get("J")
        return measure["decay"] if isinstance(measure, dict) else None

    def score(self, name: str) -> float:
        """Return the score of a sequence, NaN if nothing counts in it."""
        score = self.sequences[name]["score"]
        return math.nan if score is None else float(score)

    def mean_curve(self) -> list[tuple[float, float]]:
        """Average the curves of all sequences in parts of their length: time, 0 to 1, and mean score of each part."""
        parts: list[list[float]] = [[] for _ in range(BINS)]
        for name in self.sequences:
            own: list[list[float]] = [[] for _ in range(BINS)]
            for time, score in self.curve(name):
                own[min(BINS - 1, int(time * BINS))].append(score)
            for part, scores in zip(parts, own, strict=True):
                if scores:
                    part.append(float(np.mean(scores)))
        return [((index + 0.5) / BINS, float(np.mean(part))) for index, part in enumerate(parts) if part]

    def curve(self, name: str) -> Iterator[tuple[float, float]]:
        """Yield time, 0 to 1, and score of each frame of a sequence that has a score."""
        frames = self.sequences[name]["frames"]
        for index, score in enumerate(frames):
            if score is not None:
                yield index / max(1, len(frames) - 1), score


def write_report(folders: Sequence[PathLike], out: PathLike, *, worst: int = 6) -> Path:
    """Write one HTML page about evaluations of the same data set.

    Args:
        folders: folders that `evaluate` wrote.
        out: HTML file to write, complete in itself.
        worst: number of frames to show: the lowest ones of the sequences that the first evaluation handled worst.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: a folder without scores, or whose data set is gone.
        ValueError: no folder; evaluations of different data sets; scores that cannot be read.
    """
    check_output(out, (".html",))
    if not folders:
        raise ValueError("no evaluation to report; pass folders that `siammae evaluate` wrote")
    runs = [_read(Path(folder), _color(index)) for index, folder in enumerate(folders)]
    data = {(run.content["dataset"], run.content["data_sha256"]) for run in runs}
    if len(data) > 1:
        raise ValueError(f"the evaluations are of different data: {', '.join(sorted({name for name, _ in data}))}; choose one")
    first = runs[0]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        dataset=first.dataset.name,
        runs=runs,
        names=list(first.sequences),
        intervals=_intervals(runs),
        attributes=_attributes(runs),
        metric=first.content["headline"]["name"],
        curve=next(iter(first.sequences.values()))["curve"],
        worst_frames=_worst_frames(runs, worst),
        pairs=_pairs,
    )
    with atomic(out) as draft:
        draft.write_text(page + "\n", encoding="utf-8")
    return Path(out)


def _read(folder: Path, color: str) -> SavedEvaluation:
    path = folder / SCORES_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {SCORES_FILE}; expected a folder that `siammae evaluate` finished")
    try:
        content = json.loads(path.read_text())
        run = SavedEvaluation(folder, content, read_dataset(content), color)
        (run.label, run.sequences, content["headline"]["value"], content["data_sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as the scores of an evaluation: {type(error).__name__} {error}") from error
    return run


def _color(index: int) -> str:
    """Return the color of an evaluation; any number of them differ."""
    return COLORS[index] if index < len(COLORS) else f"hsl({137.5 * index % 360:.0f}, 55%, 45%)"


def _intervals(runs: Sequence[SavedEvaluation]) -> list[dict[str, Interval | None]]:
    """Compute the mean of each evaluation over the sequences that count in all, and its difference to the first one's."""
    first = runs[0]
    names = [name for name in first.sequences if all(math.isfinite(run.score(name)) for run in runs)]
    if not names:
        return []
    weights = np.array([first.sequences[name].get("weight", 1) for name in names], dtype=float)
    scores = [np.array([run.score(name) for name in names]) for run in runs]
    intervals: list[dict[str, Interval | None]] = [
        {"mean": bootstrap_mean(own, weights), "difference": bootstrap_mean(own - scores[0], weights)} for own in scores
    ]
    return [{**intervals[0], "difference": None}, *intervals[1:]]


def _attributes(runs: Sequence[SavedEvaluation]) -> list[dict[str, Any]]:
    """List the attributes of the data set, if it has any, with the mean of each evaluation over the sequences that have it."""
    attributes: Mapping[str, Any] = runs[0].content.get("attributes") or {}
    return [
        {
            "name": name,
            "sequences": len(entry["sequences"]),
            "values": [run.content["attributes"][name][run.content["headline"]["name"]] for run in runs],
        }
        for name, entry in attributes.items()
    ]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _worst_frames(runs: Sequence[SavedEvaluation], num: int) -> Iterator[dict[str, Any]]:
    """Yield title and pictures of the lowest frame of each of the worst sequences: the truth, then every evaluation's."""
    first = runs[0]
    lowest = []
    for sequence in first.dataset.find():
        scores = [(score, index) for index, score in enumerate(first.sequences[sequence.name]["frames"]) if score is not None]
        if scores:
            lowest.append((*min(scores), sequence))
    for _, index, sequence in sorted(lowest, key=lambda entry: entry[:2])[:num]:
        number = index + first.dataset.first_scored
        pictures = [("truth", _draw(sequence, number, None))]
        for run in runs:
            score = run.sequences[sequence.name]["frames"][index]
            value = "no score" if score is None else f"{100 * score:.1f}"
            pictures.append((f"{run.label}: {value}", _draw(sequence, number, run.folder / PREDICTIONS)))
        yield {"title": f"{sequence.name}, {_frame(sequence, number)[0]}", "pictures": pictures}


def _frame(sequence: MaskSequence | PointSequence | TrackSequence, number: int) -> tuple[str, Any]:
    """Return the name of an annotation's frame, and the frame."""
    if isinstance(sequence, TrackSequence):
        return f"frame {number}", read_video(sequence)[number]
    if isinstance(sequence, PointSequence):
        path = sequence.frames[number]
    else:
        path = next(frame for frame in sequence.frames if frame.stem == sequence.annotations[number].stem)
    return path.name, path


def _draw(sequence: MaskSequence | PointSequence | TrackSequence, number: int, predictions: Path | None) -> str:
    """Draw the labels of an annotated frame, the true ones or those of a folder, as the address of an image."""
    _, frame = _frame(sequence, number)
    if isinstance(sequence, MaskSequence):
        annotation = sequence.annotations[number]
        path = annotation if predictions is None else predictions / sequence.name / f"{annotation.stem}.png"
        ids = as_mask(path, empty=True).values
        return _data(overlay(frame, np.where(ids == 255, 1, ids)))
    points = sequence.points[number]
    if predictions is not None:
        tracks = read_tracks(predictions / f"{sequence.name}.csv", *sequence.points.shape[:2])
        points = np.where(np.isnan(points), np.nan, tracks[number])
    return _data(draw_keypoints(frame, points))


def _data(picture: Picture) -> str:
    """Encode a picture [H, W, 3] as the address of an image."""
    image = Image.fromarray(picture)
    image = image.resize((PICTURE_WIDTH, max(1, round(image.height * PICTURE_WIDTH / image.width))))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
