"""The results of a session as files to download."""

import csv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.app.session import Session
from siammae.files import atomic
from siammae.labels.keypoints import write_tracks
from siammae.labels.masks import as_mask
from siammae.video.encode import write_video
from siammae.visualize.masks import overlay
from siammae.visualize.points import draw_keypoints


def export(session: Session) -> list[Path]:
    """Write masks.zip and masks.csv if there are masks, points.csv if there are points, and overlay.mp4; returns the files."""
    masks = sorted((session.folder / "masks").glob("*.png"))
    if not masks and not session.tracks:
        raise ValueError("there are no results yet: propagate first")
    files = []
    if masks:
        files += [_write_zip(session.folder / "masks.zip", masks), _write_areas(session.folder / "masks.csv", masks)]
    if session.tracks:
        files.append(_write_points(session.folder / "points.csv", session.tracks))
    write_video(session.folder / "overlay.mp4", _drawn(session), session.fps, pixel_aspect=session.frames().pixel_aspect)
    return [*files, session.folder / "overlay.mp4"]


def _write_zip(target: Path, masks: Sequence[Path]) -> Path:
    with atomic(target) as draft, zipfile.ZipFile(draft, "w") as archive:
        for path in masks:
            archive.write(path, path.name)
    return target


def _write_areas(target: Path, masks: Sequence[Path]) -> Path:
    """Write the area in pixels and the box (x1 and y1 just outside) of each object in each frame."""
    with atomic(target) as draft, open(draft, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "object", "area", "x0", "y0", "x1", "y1"])
        for path in masks:
            ids = as_mask(path, empty=True).values
            for number in np.unique(ids[ids > 0]).tolist():
                rows, columns = np.nonzero(ids == number)
                box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                writer.writerow([int(path.stem), number, len(rows), *map(int, box)])
    return target


def _write_points(target: Path, tracks: dict[int, tuple[NDArray[Any], NDArray[Any]]]) -> Path:
    numbers = sorted(tracks)
    most = max(len(scores) for _, scores in tracks.values())
    points = np.full((len(numbers), most, 2), np.nan, np.float32)
    scores = np.zeros((len(numbers), most), np.float32)
    for row, number in enumerate(numbers):
        frame_points, frame_scores = tracks[number]
        points[row, : len(frame_points)], scores[row, : len(frame_scores)] = frame_points, frame_scores
    write_tracks(target, points, scores, numbers)
    return target


def _drawn(session: Session) -> Iterator[NDArray[np.uint8]]:
    for index, frame in enumerate(session.frames()):
        picture = overlay(frame, session.mask(index))
        yield draw_keypoints(picture, session.tracks[index][0]) if index in session.tracks else picture
