"""A project's folder: a video, what a person labelled, and what was propagated; another video is another project.

Letters: H x W pixels, K points.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siammae.app.job import SessionEnded
from siammae.app.labels import Ids, Labels
from siammae.app.results import Results
from siammae.app.upload import check_container, check_file, check_length, check_size
from siammae.app.views import Views
from siammae.files import atomic
from siammae.geometry import frame_size
from siammae.video.frames import Frames, read_frames


class Project:
    """A video with its labels and results, for reading. All methods may be called from any thread.

    Attributes:
        folder: the project's folder.
        name: name of the video as the person knows it.
        frame_size: (H, W) of the frames.
        num_frames: number of frames of the video.
        fps: frames per second.
        labels: what a person labelled.
        results: what was propagated.
        lock: lock to hold while labels or results change.
        revision: a number that grows with each change of labels or results.
    """

    def __init__(self, folder: Path) -> None:
        """Open a project's folder; ValueError if it holds none, or its video is damaged or exceeds the limits."""
        try:
            kept = json.loads((folder / "project.json").read_text())
            self.name, self.video = str(kept["name"]), folder / Path(str(kept["video"])).name
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder.name} is no project of the app") from error
        self.folder, self.lock, self.revision, self._ended = folder, threading.RLock(), 0, False
        with self._errors():
            check_container(self.video)
            self.views = Views(self.video, self._is_free)
            self.num_frames, self.fps = len(self.views.frames), self.views.frames.fps or 25
            check_length(self.num_frames)
            self.frame_size = frame_size(self.views.frames[0])
            check_size(*self.frame_size)
            self.labels, self.results = Labels(folder), Results(folder)

    @staticmethod
    def create(source: Path, folder: Path, *, name: str | None = None, move: bool = False) -> None:
        """Make a project of a video in a new folder.

        Args:
            source: the video; it is copied, or moved if `move`.
            folder: folder to make.
            name: name of the video (its file's name if None).
        """
        suffix = check_file(source)
        folder.mkdir(parents=True)
        try:
            video = folder / f"video{suffix}"
            shutil.move(source, video) if move else shutil.copyfile(source, video, follow_symlinks=False)
            with atomic(folder / "project.json") as draft:
                draft.write_text(json.dumps({"name": name or source.name, "video": video.name}))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _is_free(self) -> bool:
        """Tell whether there is nothing more important to compute than pictures that nobody waits for."""
        return True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Call the video by its name in errors, instead of by its path."""
        try:
            yield
        except (ValueError, OSError) as error:
            if self._ended:
                raise SessionEnded("this project was closed") from error
            text = str(error).replace(str(self.video), self.name).replace(str(self.folder), "the project")
            raise ValueError(text) from error

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Hold the lock of a project that was not closed."""
        with self.lock, self._errors():
            if self._ended:
                raise SessionEnded("this project was closed")
            yield

    def frames(self) -> Frames:
        """Return the video, read lazily at its full size; a new reader for each call."""
        return read_frames(self.video)

    def jpeg(self, index: int) -> bytes:
        """Return a frame as a JPEG file of at most 1280 pixels a side."""
        with self._open():
            self._check_index(index)
        with self._errors():
            return self.views.jpeg(index)

    def mask(self, index: int) -> Ids:
        """Return the ids [H, W] of a frame: the anchor's, else the propagated ones, else background."""
        with self._open():
            self._check_index(index)
            for mask in (self.labels.mask(index), self.results.mask(index)):
                if mask is not None:
                    return mask
            return np.zeros(self.frame_size, np.uint8)

    def points(self, index: int) -> NDArray[np.float32]:
        """Return the points [K, 2] of a frame: the anchor's, else the propagated ones, else none."""
        with self._open():
            self._check_index(index)
            if (given := self.labels.get("points", index)) is not None:
                return as_rows(given)
            return self.results.tracks[index][0] if index in self.results.tracks else np.empty((0, 2), np.float32)

    @property
    def trim(self) -> tuple[int, int, int]:
        """First frame, last frame + 1 and step of the frames to label."""
        chosen = self.labels.get("trim", 0)
        return (chosen[0], chosen[1], chosen[2]) if chosen else (0, self.num_frames, 1)

    @property
    def numbers(self) -> list[int]:
        """Frames to label, ascending: every n-th from the first to the last, and the anchors among them."""
        start, stop, step = self.trim
        anchors = [*self.labels.frames("mask"), *self.labels.frames("points")]
        return sorted({*range(start, stop, step), *(index for index in anchors if start <= index < stop)})

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.num_frames:
            raise ValueError(f"there is no frame {index}; the video has {self.num_frames}")


def as_rows(points: dict[int, tuple[float, float]]) -> NDArray[np.float32]:
    """Return numbered points as rows [K, 2], NaN where a number is missing."""
    rows = np.full((max(points, default=0), 2), np.nan, np.float32)
    for number, place in points.items():
        rows[number - 1] = place
    return rows
