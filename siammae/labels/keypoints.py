"""Keypoints of one frame, and CSV tables of points and tracks."""

import csv
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siammae.files import PathLike, atomic

PointsLike: TypeAlias = Tensor | NDArray[Any] | Sequence[Sequence[float]]
MAX_COORDINATE = 1e9  # pixels
MAX_FRAME = 1e15  # up to which a float holds every whole number
SEPARATORS = ",", ";", "\t"
NAME_COLUMNS = "name", "bodypart", "keypoint", "label"  # those that may hold the names of points


def as_points(points: PointsLike) -> Tensor:
    """Return points as a new tensor [K, 2], float32 on the CPU; ValueError if they are no such numbers, or there are none."""
    if isinstance(points, str | os.PathLike):
        raise ValueError(f"points are the text {os.fspath(points)!r}; read a table with siammae.labels.read_points")
    try:
        values = points.detach() if isinstance(points, Tensor) else torch.from_numpy(np.array(points, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"points are no numbers: {error}; expected [K, 2], the x and y of K points") from error
    if values.is_complex():
        raise ValueError(f"points hold {values.dtype}; expected [K, 2], the x and y of K points")
    if values.ndim != 2 or values.shape[1] != 2 or not len(values):
        raise ValueError(f"points have shape {list(values.shape)}; expected [K, 2], the x and y of K points")
    return values.to("cpu", torch.float32, copy=True)


class NamedPoints(NamedTuple):
    """The points of one frame, and what a table calls them."""

    points: NDArray[np.float32]  # [K, 2]
    names: list[str] | None  # of the K points, or None where the table has no names


def write_tracks(
    path: PathLike,
    points: NDArray[Any],
    scores: NDArray[Any],
    frames: Iterable[int] | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Write points [T, K, 2] and scores [T, K] as a CSV with the columns frame, point, x, y, score.

    The cells x and y of a lost point (NaN) stay empty. `frames` numbers the T frames; None counts from 0. With `names` of the
    points there is a column name after point.

    Raises:
        ValueError: other numbers of points, scores, frames or names.
    """
    numbers = list(range(len(points)) if frames is None else frames)
    if points.shape[:2] != scores.shape or len(numbers) != len(points) or (names is not None and len(names) != points.shape[1]):
        counts = f"{len(numbers)} frames, {'no' if names is None else len(names)} names and scores {list(scores.shape)}"
        raise ValueError(f"points have shape {list(points.shape)}, but there are {counts}; expected as many of each")
    labels = [[name] for name in names] if names is not None else [[] for _ in range(points.shape[1])]
    with atomic(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "point", *(["name"] if names is not None else []), "x", "y", "score"])
        for frame, positions, confidences in zip(numbers, points, scores, strict=True):
            for point, (label, (x, y), score) in enumerate(zip(labels, positions, confidences, strict=True)):
                place = ["", ""] if np.isnan(x) else [f"{x:.3f}", f"{y:.3f}"]
                writer.writerow([frame, point, *label, *place, f"{score:.4f}"])


def read_points(path: PathLike, frame: int | None = None) -> NDArray[np.float32]:
    """Read the points [K, 2] of one frame from a table; see `read_named_points`."""
    return read_named_points(path, frame).points


def read_named_points(path: PathLike, frame: int | None = None) -> NamedPoints:
    """Read the points of one frame from a table, with their names if it has some.

    The table has one row for each point and the columns x and y, and if need be frame and name (or bodypart, keypoint, label);
    or it is DeepLabCut's, with the header rows scorer, bodyparts and coords and one row for each frame. Its columns may be
    separated by commas, semicolons, tabs or spaces; numbers may have a decimal comma where commas do not separate. Empty cells
    become NaN.

    Args:
        path: the file.
        frame: number of the frame, for a table that holds several.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another file than that: no such columns, no numbers, or the points of several frames and not of `frame`.
    """
    label = os.fspath(path)
    rows = _cells(path, label)
    by_frame = _deeplabcut(rows, label) if rows[0][0].lower() == "scorer" else _one_row_each(rows, label)
    if len(by_frame) == 1:
        (found,) = by_frame.values()
    elif frame in by_frame:
        found = by_frame[frame]
    else:
        known = sorted(number for number in by_frame if number is not None)
        held = f"{len(known)} frames, {known[0]} to {known[-1]}" if known else f"{len(by_frame)} frames"
        reason = f"frame {frame} is not among them" if frame is not None else "keep the rows of one"
        raise ValueError(f"{label} holds the points of several frames ({held}); {reason}")
    if np.any(np.abs(found.points) > MAX_COORDINATE):
        raise ValueError(f"{label}: x and y must be pixels of the frame, below {MAX_COORDINATE:g}; leave hidden points empty")
    return NamedPoints(found.points.astype(np.float32), found.names)


def _cells(path: PathLike, label: str) -> list[list[str]]:
    """Read a table's rows of stripped cells, without empty rows; its first line tells what separates them."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for line in file.read().splitlines() if line.strip()]
        if not lines:
            raise ValueError(f"{label} has no rows with the columns x and y: it is empty")
        if lines[0].lower().startswith("sep=") and len(lines) > 1:  # what Excel writes and understands
            del lines[0]
        separator = max(SEPARATORS, key=lines[0].count)
        if lines[0].count(separator):
            rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
        else:
            rows = [line.split() for line in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{label} is not a CSV table: {error}") from error
    return [[cell.strip() for cell in row] for row in rows]


def _one_row_each(rows: list[list[str]], label: str) -> dict[int | None, NamedPoints]:
    """Read a table with one row for each point, by the numbers of the frames."""
    header = [cell.lower() for cell in rows[0]]
    if not {"x", "y"} <= set(header):
        raise ValueError(
            f"{label} has no rows with the columns x and y, but the columns {', '.join(rows[0][:12])}; "
            "expected one row for each point, or DeepLabCut's header rows scorer, bodyparts and coords"
        )
    if len(rows) == 1:
        raise ValueError(f"{label} has no rows with the columns x and y")
    named = next((column for column in NAME_COLUMNS if column in header), None)
    found: dict[int | None, tuple[list[list[float]], list[str]]] = {}
    for row in rows[1:]:
        cells = dict(zip(header, row, strict=False))
        frame = _frame(cells.get("frame", ""), label) if "frame" in header else None
        points, names = found.setdefault(frame, ([], []))
        points.append([_number(cells.get(axis, ""), label) for axis in ("x", "y")])
        names.append(cells.get(named or "", ""))
    return {
        frame: NamedPoints(np.array(points), names if named is not None else None) for frame, (points, names) in found.items()
    }


def _deeplabcut(rows: list[list[str]], label: str) -> dict[int | None, NamedPoints]:
    """Read DeepLabCut's table, of labels or of predictions, by the numbers of the frames."""
    heads = {row[0].lower(): row for row in rows[:4]}
    if not {"bodyparts", "coords"} <= heads.keys():
        raise ValueError(f"{label} begins like DeepLabCut's tables, but lacks their header rows bodyparts and coords")
    coords = [cell.lower() for cell in heads["coords"]]
    columns = [index for index, cell in enumerate(coords) if cell == "x" and coords[index + 1 : index + 2] == ["y"]]
    individuals = heads.get("individuals", [""] * len(coords))
    if min(len(individuals), len(heads["bodyparts"])) < len(coords):
        raise ValueError(f"{label} is DeepLabCut's table, but its header rows have different lengths")
    names = [f"{individuals[index]} {heads['bodyparts'][index]}".strip() for index in columns]
    start = 1 + [row[0].lower() for row in rows].index("coords")
    frames: dict[int | None, NamedPoints] = {}
    for place, row in enumerate(rows[start:]):
        digits = re.findall(r"\d+", Path(" ".join(row[: columns[0]]).strip()).stem) if columns else []
        points = [
            [_number(row[index + axis] if index + axis < len(row) else "", label) for axis in (0, 1)] for index in columns
        ]
        frames[_frame(digits[-1], label) if digits else place] = NamedPoints(np.array(points), names)
    if not columns or not frames:
        raise ValueError(f"{label} is DeepLabCut's table, but holds no points")
    return frames


def _number(cell: str, label: str) -> float:
    """Read a number, with a decimal point or comma; an empty cell is NaN."""
    try:
        return float(cell.replace(",", ".") or "nan")
    except ValueError as error:
        raise ValueError(f"{label}: x and y must be numbers ({error})") from error


def _frame(cell: str, label: str) -> int:
    """Read the number of a frame."""
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not (number.is_integer() and abs(number) < MAX_FRAME):
        raise ValueError(f"{label}: a frame is called {cell[:40]!r}; expected its number, a whole number")
    return int(number)


def read_tracks(path: Path, num_frames: int, num_points: int) -> NDArray[np.float64]:
    """Read points [T, K, 2] from a CSV that `write_tracks` wrote; lost points are NaN, and frames beyond T are ignored.

    Raises:
        ValueError: another file than that, or one that lacks a point of a frame.
    """
    expected = f"{num_frames} frames of {num_points} points, with the columns frame, point, x, y"
    points = np.full((num_frames, num_points, 2), np.nan)
    seen = np.zeros((num_frames, num_points), dtype=bool)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, strict=True):
                frame, point = int(float(row["frame"])), int(float(row["point"]))
                if not 0 <= frame < num_frames:
                    continue
                if not 0 <= point < num_points:
                    raise IndexError(f"point {point}")
                points[frame, point] = [float(row[axis] or "nan") for axis in ("x", "y")]
                seen[frame, point] = True
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise ValueError(f"{path} does not hold {expected}: {error}") from error
    if not seen.all():
        frame, point = np.argwhere(~seen)[0]
        raise ValueError(f"{path} lacks point {point} of frame {frame}; expected {expected}")
    return points
