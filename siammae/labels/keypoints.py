"""Keypoints of one frame, and CSV tables of points and tracks."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siammae.files import PathLike, atomic

PointsLike: TypeAlias = Tensor | NDArray[Any] | Sequence[Sequence[float]]
MAX_COORDINATE = 1e9  # pixels


def as_points(points: PointsLike) -> Tensor:
    """Return points as a new tensor [K, 2], float32 on the CPU; ValueError if they have another shape, or there are none."""
    values = points.detach() if isinstance(points, Tensor) else torch.from_numpy(np.array(points, dtype=np.float32))
    if values.ndim != 2 or values.shape[1] != 2 or not len(values):
        raise ValueError(f"points have shape {list(values.shape)}; expected [K, 2], the x and y of K points")
    return values.to("cpu", torch.float32, copy=True)


def write_tracks(path: PathLike, points: NDArray[Any], scores: NDArray[Any], frames: Iterable[int] | None = None) -> None:
    """Write points [T, K, 2] and scores [T, K] as a CSV with the columns frame, point, x, y, score.

    The cells x and y of a lost point (NaN) stay empty. `frames` numbers the T frames; None counts from 0.
    """
    numbers = range(len(points)) if frames is None else frames
    with atomic(path) as draft, open(draft, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "point", "x", "y", "score"])
        for frame, positions, confidences in zip(numbers, points, scores, strict=True):
            for point, ((x, y), score) in enumerate(zip(positions, confidences, strict=True)):
                place = ["", ""] if np.isnan(x) else [f"{x:.3f}", f"{y:.3f}"]
                writer.writerow([frame, point, *place, f"{score:.4f}"])


def read_points(path: PathLike) -> NDArray[np.float32]:
    """Read the points [K, 2] of one frame from a CSV with the columns x and y, one row a point; empty cells become NaN.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another file than that: no such columns, no numbers, or the rows of several frames.
    """
    label = os.fspath(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{label} is not a CSV table: {error}") from error
    if not rows or not {"x", "y"} <= rows[0].keys():
        raise ValueError(f"{label} has no rows with the columns x and y")
    if len({row.get("frame") for row in rows}) > 1:
        raise ValueError(f"{label} holds the points of several frames; keep the rows of one")
    try:
        points = np.array([[float(row[axis] or "nan") for axis in ("x", "y")] for row in rows])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label}: x and y must be numbers ({error})") from error
    if np.any(np.abs(points) > MAX_COORDINATE):
        raise ValueError(f"{label}: x and y must be pixels of the frame, below {MAX_COORDINATE:g}; leave hidden points empty")
    return points.astype(np.float32)


def read_tracks(path: Path, num_frames: int, num_points: int) -> NDArray[np.float64]:
    """Read points [T, K, 2] from a CSV that `write_tracks` wrote; lost points are NaN, and frames beyond T are ignored.

    Raises:
        ValueError: another file than that, or one that lacks a point of a frame.
    """
    expected = f"{num_frames} frames of {num_points} points, with the columns frame, point, x, y"
    points = np.full((num_frames, num_points, 2), np.nan)
    seen = np.zeros((num_frames, num_points), dtype=bool)
    try:
        rows = np.genfromtxt(path, delimiter=",", names=True, ndmin=1)
        for frame, point, x, y in zip(*(rows[name] for name in ("frame", "point", "x", "y")), strict=True):
            if not 0 <= int(frame) < num_frames:
                continue
            points[int(frame), int(point)] = x, y
            seen[int(frame), int(point)] = True
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} does not hold {expected}: {error}") from error
    if not seen.all():
        frame, point = np.argwhere(~seen)[0]
        raise ValueError(f"{path} lacks point {point} of frame {frame}; expected {expected}")
    return points
