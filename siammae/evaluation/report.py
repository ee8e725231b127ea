"""One page that shows evaluations to a person: scores as bars, curves over time, the worst frames beside the truth."""

import base64
import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, PointSequence
from siammae.evaluation.evaluation import DATASETS, SCORES_FILE
from siammae.evaluation.predict import PREDICTIONS
from siammae.files import atomic, check_output
from siammae.labels.keypoints import read_tracks
from siammae.labels.masks import as_mask
from siammae.video.pictures import as_frame
from siammae.visualize.masks import overlay
from siammae.visualize.points import draw_keypoints

COLOURS = "#1f6f8b", "#d1495b", "#66a182", "#edae49", "#5b5f97", "#8d6a9f"
PICTURE_WIDTH = 345  # pixels

Picture = NDArray[np.uint8]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
h1, h2 { font-weight: 600; } h2 { margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: 2px 12px 2px 0; text-align: left; vertical-align: top; }
td:first-child { white-space: nowrap; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
svg text { font: 12px system-ui, sans-serif; fill: #444; } .values { color: #666; font-size: 13px; }
figure { display: inline-block; margin: 0 12px 16px 0; } figure img { display: block; max-width: 100%; }
figcaption { font-size: 13px; color: #444; } .key { display: inline-block; width: 12px; height: 12px; margin-right: 6px; }
.curves { display: flex; flex-wrap: wrap; gap: 12px; }
"""


@dataclass(frozen=True)
class Run:
    """An evaluation as its folder has it."""

    folder: Path
    content: dict[str, Any]
    colour: str

    @property
    def label(self) -> str:
        return f"{self.content['model']}, {self.content['protocol']['name']}"

    @property
    def sequences(self) -> dict[str, Any]:
        found: dict[str, Any] = self.content["sequences"]
        return found


def write_report(folders: Sequence[PathLike], out: PathLike, *, worst: int = 6) -> Path:
    """Write one HTML page of evaluations of the same data set.

    Args:
        folders: that `evaluate` wrote.
        out: the page, complete in itself.
        worst: frames that are shown: the one with the lowest score of each of so many sequences, as the first run has them.

    Raises:
        FileNotFoundError: a folder without scores, or whose data set is gone.
        ValueError: no folder; evaluations of different data sets; scores that cannot be read.
    """
    check_output(out, (".html",))
    if not folders:
        raise ValueError("no evaluation to report; pass folders that `siammae evaluate` wrote")
    runs = [_read(Path(folder), COLOURS[index % len(COLOURS)]) for index, folder in enumerate(folders)]
    kinds = {(run.content["dataset"], run.content["data_sha256"]) for run in runs}
    if len(kinds) > 1:
        raise ValueError(f"the evaluations are of different data: {', '.join(sorted({kind for kind, _ in kinds}))}; choose one")
    name = runs[0].content["dataset"]
    parts = [
        f"<h1>{name}: {len(runs[0].sequences)} sequences</h1>",
        _summary(runs),
        f"<h2>Scores, {html.escape(runs[0].content['headline']['name'])}</h2>",
        _bars(runs),
        f"<h2>Over time, {html.escape(_curve_name(runs[0]))}</h2>",
        _curves(runs),
        "<h2>Worst frames</h2>",
        _worst_frames(runs, worst),
    ]
    page = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>siammae: {name}</title><style>{STYLE}</style>'
    with atomic(out) as draft:
        draft.write_text(f'<!doctype html>\n<html lang="en">{head}\n{page}\n</html>\n')
    return Path(out)


def _read(folder: Path, colour: str) -> Run:
    path = folder / SCORES_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {SCORES_FILE}; expected a folder that `siammae evaluate` finished")
    try:
        content = json.loads(path.read_text())
        run = Run(folder, content, colour)
        (run.label, run.sequences, content["root"], content["headline"]["value"], content["data_sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as the scores of an evaluation: {type(error).__name__} {error}") from error
    return run


def _summary(runs: Sequence[Run]) -> str:
    """A table of the runs: score, speed, and what decided them."""
    rows = []
    for run in runs:
        content, protocol = run.content, run.content["protocol"]
        values = ", ".join(f"{name} {value}" for name, value in content["config"].items())
        versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
        speed = content["speed"]
        shown = f"{speed['frames_per_second']:.2f} frames/s" if speed else "speed unknown"
        about = (
            f"weights sha256 {content['weights_sha256'][:16]}, {content['dtype']}; {content['device']}; {shown}; {versions}; "
            f"{content['date']}<br>{html.escape(protocol['source'])}; input {html.escape(str(protocol['input']))}; "
            f"{html.escape(values)}"
        )
        rows.append(
            f'<tr><td><span class="key" style="background:{run.colour}"></span>{html.escape(run.label)}</td>'
            f'<td class="number"><b>{100 * content["headline"]["value"]:.1f}</b></td><td class="values">{about}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def _bars(runs: Sequence[Run]) -> str:
    """A bar for each sequence and run."""
    bar, gap, left, width = 14, 10, 160, 760
    group = len(runs) * bar + gap
    names = list(runs[0].sequences)
    pieces = []
    for index, name in enumerate(names):
        top = index * group
        pieces.append(f'<text x="{left - 8}" y="{top + len(runs) * bar / 2 + 4}" text-anchor="end">{html.escape(name)}</text>')
        for row, run in enumerate(runs):
            score = run.sequences[name]["score"]
            y = top + row * bar
            pieces.append(f'<rect x="{left}" y="{y}" width="{width * score:.1f}" height="{bar - 2}" fill="{run.colour}"/>')
            pieces.append(f'<text x="{left + width * score + 6:.1f}" y="{y + bar - 4}">{100 * score:.1f}</text>')
    return f'<svg width="{left + width + 60}" height="{len(names) * group}">{"".join(pieces)}</svg>'


def _curves(runs: Sequence[Run]) -> str:
    """A small plot for each sequence, of its score in every frame that counts."""
    width, height, left, bottom = 320, 110, 30, 18
    plots = []
    for name in runs[0].sequences:
        pieces = [
            f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>'
            for value in (0, 0.5, 1)
            for y in [8 + height * (1 - value)]
        ]
        length = len(runs[0].sequences[name]["frames"])
        pieces.append(f'<text x="{left + width}" y="{height + bottom + 6}" text-anchor="end">frame {length}</text>')
        for run in runs:
            frames = run.sequences[name]["frames"]
            step = width / max(1, len(frames) - 1)
            known = [(left + i * step, 8 + height * (1 - value)) for i, value in enumerate(frames) if value is not None]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
            pieces.append(f'<polyline points="{points}" fill="none" stroke="{run.colour}" stroke-width="1.6"/>')
        svg = f'<svg width="{left + width + 10}" height="{height + bottom + 12}">{"".join(pieces)}</svg>'
        plots.append(f"<figure>{svg}<figcaption>{html.escape(name)}</figcaption></figure>")
    return f'<div class="curves">{"".join(plots)}</div>'


def _worst_frames(runs: Sequence[Run], num: int) -> str:
    """The frame with the lowest score of the worst sequences: the truth, then what each run made of it."""
    first = runs[0]
    content = first.content
    options = {"joints": content["joints"]} if content.get("joints") else {}
    found = DATASETS[content["dataset"]].find(content["root"], content["sequences"], None, **options)
    lowest = []
    for one in found:
        scores = first.sequences[one.name]["frames"]
        known = [(score, index) for index, score in enumerate(scores) if score is not None]
        if known:
            lowest.append((*min(known), one))
    rows = []
    for _, index, one in sorted(lowest, key=lambda entry: entry[:2])[:num]:
        number = index + _first_counted(content["dataset"])
        draw, frame = _artist(one, number)
        shown = [("truth", draw(None))]
        shown += [(f"{run.label}: {100 * run.sequences[one.name]['frames'][index]:.1f}", draw(run.folder)) for run in runs]
        figures = "".join(
            f'<figure><img src="{_data(picture)}" alt=""><figcaption>{html.escape(text)}</figcaption></figure>'
            for text, picture in shown
        )
        rows.append(f"<h3>{html.escape(one.name)}, {html.escape(frame.name)}</h3>{figures}")
    return "".join(rows)


def _first_counted(dataset: str) -> int:
    """Number of the annotation that the first score of a sequence is of: DAVIS leaves out the first."""
    return 1 if dataset == "davis" else 0


def _artist(one: MaskSequence | PointSequence, number: int) -> tuple[Callable[[Path | None], Picture], Path]:
    """What draws the labels of one frame, those of a run's folder or the true ones; and the frame's file."""
    if isinstance(one, MaskSequence):
        annotation = one.annotations[number]
        path = next(frame for frame in one.frames if frame.stem == annotation.stem)

        def draw_mask(folder: Path | None) -> Picture:
            file = annotation if folder is None else folder / PREDICTIONS / one.name / f"{annotation.stem}.png"
            ids = as_mask(file, empty=True).values
            return overlay(_pixels(path), np.where(ids == 255, 1, ids))

        return draw_mask, path

    def draw_points(folder: Path | None) -> Picture:
        points = one.points[number]
        if folder is not None:
            tracks = read_tracks(folder / PREDICTIONS / f"{one.name}.csv", *one.points.shape[:2])
            points = np.where(np.isnan(points), np.nan, tracks[number])
        return draw_keypoints(_pixels(one.frames[number]), points)

    return draw_points, one.frames[number]


def _curve_name(run: Run) -> str:
    return str(next(iter(run.sequences.values()))["curve"])


def _pixels(path: Path) -> Picture:
    return as_frame(path).permute(1, 2, 0).numpy()


def _data(picture: Picture) -> str:
    """A picture [H, W, 3] as the address of an image in the page."""
    image = Image.fromarray(picture)
    image = image.resize((PICTURE_WIDTH, max(1, round(image.height * PICTURE_WIDTH / image.width))))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
