"""The results of a session as files to download."""

import csv
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from siammae.app.labels import MAX_OBJECTS
from siammae.app.palette import COLORS
from siammae.app.session import Session
from siammae.files import atomic
from siammae.labels.keypoints import write_tracks
from siammae.labels.masks import as_mask
from siammae.labels.output import FormatName, export_masks
from siammae.propagation.scores import Scores, measure
from siammae.propagation.table import SCORES_FILE, ScoreTable
from siammae.video.encode import write_video
from siammae.visualize.cutouts import write_cut_outs
from siammae.visualize.masks import overlay
from siammae.visualize.points import draw_keypoints

FORMATS: dict[str, FormatName] = {f"{name}.zip": name for name in get_args(FormatName)}
CUT_OUT = "cut-out.webm"
PALETTE = [0, 0, 0, *chain.from_iterable(COLORS)]


def downloads(session: Session) -> list[str]:
    """List the files that `export` can make now, by name."""
    results = session.results
    names = ["masks.zip", "masks.csv"] if results.masks else []
    names += ["points.csv"] if results.tracks else []
    return [*names, "overlay.mp4"] if names else []


def formats(session: Session) -> list[str]:
    """List the files for other tools that `export` can make now, by name: the masks with the pictures of their frames."""
    return [*FORMATS, CUT_OUT] if session.results.masks else []


def export(session: Session, name: str) -> Path:
    """Write one of the files that `downloads` and `formats` list, and return its path.

    Raises:
        ValueError: there is no file of this name yet; a package is missing that the format needs; results that change
            meanwhile.
    """
    if name not in (*downloads(session), *formats(session)):
        raise ValueError(f"there is no {name} yet: propagate first")
    try:
        return _write(session, name)
    except ImportError as error:
        raise ValueError(f"{name} cannot be made: {error}") from error
    except FileNotFoundError as error:
        raise ValueError(f"the results changed while {name} was made: try again when the propagation has ended") from error


def _write(session: Session, name: str) -> Path:
    target = session.folder / name
    if name in FORMATS:
        _write_format(target, session)
    elif name == CUT_OUT:
        write_cut_outs(target, session.frames(), session.folder / "masks", fps=session.fps / session.trim[2])
    elif name == "overlay.mp4":
        aspect = session.frames().pixel_aspect
        write_video(target, _drawn(session), session.fps / session.trim[2], pixel_aspect=aspect)
    elif name == "points.csv":
        _write_points(target, session)
    else:
        numbers = sorted(session.results.masks)
        (_write_zip if name == "masks.zip" else _write_areas)(target, session, numbers)
    return target


def _write_zip(target: Path, session: Session, numbers: list[int]) -> None:
    """Write the masks and the table of scores, as `siammae propagate` writes them."""
    with tempfile.TemporaryDirectory(dir=session.folder, prefix=".export-") as scratch:
        table = ScoreTable(Path(scratch), 0)
        with atomic(target) as draft, zipfile.ZipFile(draft, "w") as archive:
            for position, number in enumerate(numbers):
                archive.write(session.results.path(number), f"{number:05d}.png")
                table.write(position, number, _scores(session, number))
            table.finish()
            archive.write(Path(scratch) / SCORES_FILE, SCORES_FILE)


def _scores(session: Session, number: int) -> Scores:
    """Return the scores of a frame's objects, with their areas and boxes."""
    ids = as_mask(session.results.path(number), empty=True).values
    objects = session.results.scores.get(number, {})
    score, lost = ([entry[at] for entry in objects.values()] for at in (0, 1))
    return measure(list(objects), [ids == label for label in objects], np.array(score, np.float32), np.array(lost, np.bool_))


def _write_format(target: Path, session: Session) -> None:
    """Write the masks and the pictures of their frames for another tool, in a folder named like the video."""
    title, masks = Path(session.name).stem, session.folder / "masks"
    names = {number: session.labels.objects.get(number, f"object {number}") for number in range(1, MAX_OBJECTS + 1)}
    with tempfile.TemporaryDirectory(dir=session.folder, prefix=".export-") as scratch:
        folder = export_masks(masks, Path(scratch) / title, FORMATS[target.name], names=names, frames=session.video)
        with atomic(target) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder.parent))


def _write_areas(target: Path, session: Session, numbers: list[int]) -> None:
    """Write the area in pixels and the box (x1 and y1 just outside) of each object in each frame, and the object's name."""
    names = session.labels.objects
    with atomic(target) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "object", "area", "x0", "y0", "x1", "y1", "name"])
        for frame in numbers:
            ids = as_mask(session.results.path(frame), empty=True).values
            for number in np.unique(ids[ids > 0]).tolist():
                rows, columns = np.nonzero(ids == number)
                box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                writer.writerow([frame, number, len(rows), *map(int, box), names.get(number, "")])


def _write_points(target: Path, session: Session) -> None:
    with session.lock:
        tracks = dict(session.results.tracks)
    numbers = sorted(tracks)
    most = max(len(scores) for _, scores in tracks.values())
    points = np.full((len(numbers), most, 2), np.nan, np.float32)
    scores = np.zeros((len(numbers), most), np.float32)
    for row, number in enumerate(numbers):
        frame_points, frame_scores = tracks[number]
        points[row, : len(frame_points)], scores[row, : len(frame_scores)] = frame_points, frame_scores
    write_tracks(target, points, scores, numbers)


def _drawn(session: Session) -> Iterator[NDArray[Any]]:
    """Draw the frames to label, in the colours of the page."""
    numbers = session.numbers
    frames, chosen = session.frames(), set(numbers)
    part: Any = frames[numbers[0] : numbers[-1] + 1]
    for index, frame in enumerate(part, numbers[0]):
        if index in chosen:
            lost = [number for number, (_, is_lost) in session.results.scores.get(index, {}).items() if is_lost]
            picture = overlay(frame, session.mask(index), PALETTE, lost=lost)
            yield draw_keypoints(picture, session.points(index))
