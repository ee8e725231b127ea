"""The results of a session as files to download."""

import csv
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.app.palette import COLORS
from siammae.app.session import Session
from siammae.files import atomic
from siammae.labels.keypoints import write_tracks
from siammae.labels.masks import as_mask
from siammae.video.encode import write_video
from siammae.visualize.masks import overlay
from siammae.visualize.points import draw_keypoints

PALETTE = [0, 0, 0, *chain.from_iterable(COLORS)]


def downloads(session: Session) -> list[str]:
    """List the files that `export` can make now, by name."""
    results = session.results
    names = ["masks.zip", "masks.csv"] if results.masks else []
    names += ["points.csv"] if results.tracks else []
    return [*names, "overlay.mp4"] if names else []


def export(session: Session, name: str) -> Path:
    """Write one of the files that `downloads` lists, and return its path; ValueError for any other name."""
    if name not in downloads(session):
        raise ValueError(f"there is no {name} yet: propagate first")
    target = session.folder / name
    if name == "overlay.mp4":
        aspect = session.frames().pixel_aspect
        write_video(target, _drawn(session), session.fps / session.trim[2], pixel_aspect=aspect)
    elif name == "points.csv":
        _write_points(target, session)
    else:
        numbers = sorted(session.results.masks)
        (_write_zip if name == "masks.zip" else _write_areas)(target, session, numbers)
    return target


def _write_zip(target: Path, session: Session, numbers: list[int]) -> None:
    with atomic(target) as draft, zipfile.ZipFile(draft, "w") as archive:
        for number in numbers:
            archive.write(session.results.path(number), f"{number:05d}.png")


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
