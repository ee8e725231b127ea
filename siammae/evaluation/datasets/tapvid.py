"""TAP-Vid: points that are tracked through videos, with their occlusions.

The pickles of TAP-Vid-DAVIS, TAP-Vid-Kinetics and TAP-Vid-RGB-Stacking (Doersch et al. 2022) and of RoboTAP (Vecerik et al.
2023): a file, or a folder of them, each a list of videos or a dictionary of videos by name. A video has `video` (uint8
[T, H, W, 3], or T encoded pictures), `points` ([N, T, 2], shares of width and height) and `occluded` (bool [N, T]).
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siammae.evaluation.datasets.dataset import Dataset, Progress
from siammae.evaluation.datasets.pickles import read_pickle
from siammae.evaluation.datasets.sequences import PathLike, TrackSequence, check_complete, shortened
from siammae.evaluation.pck import read_predictions
from siammae.evaluation.tracking import Queries, TrackingScores, tracking_metrics
from siammae.video.pictures import read_image

SIDE = 256  # videos are resized to 256 x 256, and distances are pixels of this size
STRIDE = 5  # frames between the queries of "strided"


@dataclass(frozen=True)
class TapVid(Dataset):
    """TAP-Vid's sets and RoboTAP.

    Attributes:
        root: a .pkl file, or a folder of .pkl files, in TAP-Vid's layout. Without `sequences` and `split`, all videos.
        queries: "first" gives each point in the first frame in which it is visible, and scores the frames after it; "strided"
            gives it in every fifth frame in which it is visible, and scores all other frames.
        occluded_below: score of a prediction below which a point is predicted occluded.
    """

    queries: Queries = "first"
    occluded_below: float = 0.1

    name = "tapvid"
    rule = f"at {SIDE} x {SIDE} pixels, mean of videos"
    options = ("queries",)

    def find(self) -> list[TrackSequence]:
        """Find the videos. One pickle at a time is in memory; the frames are read again when they are needed."""
        base, wanted = Path(self.root), self.wanted()
        files = sorted(base.glob("*.pkl")) if base.is_dir() else [base]
        check_complete(base, [] if files and files[0].is_file() else ["*.pkl"], "a pickle of TAP-Vid, or a folder of them")
        videos: dict[str, TrackSequence] = {}
        for file in files:
            for key, video in _videos(file):
                name = key if isinstance(key, str) else f"{file.stem}_{key:05d}" if len(files) > 1 else f"{key:05d}"
                if name in videos:
                    raise ValueError(f"{file} has the video {name}, which {videos[name].annotations[0]} has too")
                if not wanted or name in wanted:
                    videos[name] = _sequence(name, file, key, video, self.queries)
        check_complete(base, [name for name in wanted if name not in videos], "videos of these names")
        empty = [name for name, video in videos.items() if not len(video.query_frames)]
        if empty or not videos:
            raise ValueError(f"{base} has no visible point in {shortened(empty) or 'any video'}")
        return [videos[name] for name in wanted or videos]

    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> TrackingScores:
        """Compute TAP-Vid's metrics of predicted points.

        `predictions` holds VIDEO.csv for each video, with the columns frame, point, x, y, score as `siammae keypoints` writes
        them: pixels of the video at 256 x 256, where (0, 0) is the centre of the first pixel, and the points in the order of
        the queries. A point is predicted occluded where its score is below `occluded_below`, or where x and y are empty.
        """
        metrics, frames, folder = {}, {}, Path(predictions)
        for video, tracks in read_predictions(self.find(), predictions):
            pred = tracks.swapaxes(0, 1)  # [K, T, 2]
            scores = read_scores(folder / f"{video.name}.csv", *tracks.shape[:2])
            hidden = np.isnan(pred).any(axis=-1) | (scores.swapaxes(0, 1) < self.occluded_below)
            metrics[video.name] = tracking_metrics(video.query_frames, video.tracks, video.occluded, pred, hidden, self.queries)
            frames[video.name] = _by_frame(video, pred, self.queries)
            progress(video.name)
        return TrackingScores(metrics, frames)

    def record(self) -> dict[str, Any]:
        return super().record() | {"queries": self.queries}


def read_scores(path: Path, num_frames: int, num_points: int) -> NDArray[np.float64]:
    """Read the scores [T, K] of points from a CSV whose points `read_tracks` has read; 1 without the column score."""
    rows = np.genfromtxt(path, delimiter=",", names=True, ndmin=1)
    scores = np.ones((num_frames, num_points))
    if "score" in (rows.dtype.names or ()):
        within = rows["frame"] < num_frames
        scores[rows["frame"][within].astype(int), rows["point"][within].astype(int)] = rows["score"][within]
    return scores


def read_video(sequence: TrackSequence) -> list[NDArray[np.uint8]]:
    """Read the frames of a video, resized to 256 x 256, T arrays [256, 256, 3]."""
    video = dict(_videos(sequence.annotations[0]))[sequence.key]
    return [_resized(frame) for frame in video["video"]]


def _sequence(name: str, file: Path, key: str | int, video: Mapping[str, Any], queries: Queries) -> TrackSequence:
    """Choose the queries of a video as TAP-Vid's evaluation does."""
    visible = ~video["occluded"]
    if queries == "first":
        rows = np.flatnonzero(visible.any(axis=1))
        numbers = visible[rows].argmax(axis=1)
    else:
        every = np.arange(0, visible.shape[1], STRIDE)
        order, rows = np.nonzero(visible[:, every].T)  # frame by frame
        numbers = every[order]
    tracks = video["points"].astype(np.float64) * SIDE - 0.5  # the upper left corner of a picture is (-0.5, -0.5)
    return TrackSequence(name, (), (file,), key, tracks, video["occluded"], rows, numbers, queries == "strided")


def _videos(file: Path) -> Sequence[tuple[str | int, dict[str, Any]]]:
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(file: Path, changed: int) -> Sequence[tuple[str | int, dict[str, Any]]]:
    """Read the videos of a pickle by name or number; ValueError names all that cannot be used."""
    content = read_pickle(file)
    if not isinstance(content, dict | list):
        raise ValueError(f"{file} holds a {type(content).__name__}; expected a list of videos, or a dictionary of them by name")
    videos = list(content.items() if isinstance(content, dict) else enumerate(content))
    wrong = [f"{key}: {fault}" for key, video in videos if (fault := _fault(key, video))]
    if wrong:
        raise ValueError(f"{file} is not in TAP-Vid's layout: {shortened(wrong)}")
    return videos


def _fault(key: Any, video: Any) -> str:
    """Say what is wrong with a video; nothing if it can be used."""
    if not isinstance(key, int) and (not isinstance(key, str) or key in ("", ".", "..") or set(key) & set("/\\:\0")):
        return "no name of a file"
    if not isinstance(video, dict) or not {"video", "points", "occluded"} <= video.keys():
        return "no dictionary of video, points and occluded"
    frames, points, occluded = (video[name] for name in ("video", "points", "occluded"))
    if not isinstance(points, np.ndarray) or points.ndim != 3 or points.shape[2] != 2 or points.dtype.kind != "f":
        return "points are no floats [N, T, 2]"
    if not isinstance(occluded, np.ndarray) or occluded.shape != points.shape[:2] or occluded.dtype != bool:
        return "occluded is no bool [N, T] as points have it"
    if not np.isfinite(points[~occluded]).all():
        return "visible points are not finite"
    if isinstance(frames, np.ndarray):
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            return "video is no uint8 [T, H, W, 3]"
    elif not isinstance(frames, list | tuple) or not all(isinstance(frame, bytes) for frame in frames):
        return "video is neither an array nor a list of encoded pictures"
    if len(frames) != points.shape[1]:
        return f"{len(frames)} frames, but points in {points.shape[1]}"
    return ""


def _resized(frame: NDArray[np.uint8] | bytes) -> NDArray[np.uint8]:
    picture = read_image(io.BytesIO(frame), "a frame").convert("RGB") if isinstance(frame, bytes) else Image.fromarray(frame)
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _by_frame(video: TrackSequence, pred: NDArray[np.float64], queries: Queries) -> NDArray[np.float64]:
    """Compute the share of visible points less than 4 pixels away in each frame, [T]; NaN where no point counts."""
    numbers, given = np.arange(video.num_frames), video.query_frames[:, None]
    counted = ~video.occluded & (numbers > given if queries == "first" else numbers != given)
    within = (np.linalg.norm(pred - video.tracks, axis=-1) < 4) & counted
    total = counted.sum(axis=0)
    shares: NDArray[np.float64] = np.divide(within.sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0)
    return shares
