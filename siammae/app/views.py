"""Pictures of frames for the browser: a frame is decoded when it is looked at, and those around it while nobody waits."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siammae.errors import VideoError
from siammae.video.videofile import VideoFile

MAX_VIEW = 1280  # longer side of a picture in the browser, pixels
MAX_BYTES = 64 << 20  # pictures kept in memory for each video
NEAR = 12  # frames ahead that are reached faster by reading on than by seeking
STRETCH = 60  # frames that are made ahead before those behind are
REST = 0.3  # seconds after somebody waited for a frame in which none is made ahead


class Views:
    """The frames of a video as JPEG files of at most MAX_VIEW pixels a side.

    A frame of a phone's film takes up to half a second, since all frames from its key frame on have to be decoded. So once one
    is looked at, a thread makes the others, the nearest first, as many as MAX_BYTES hold.

    Args:
        video: file of the video.
        is_free: function that tells whether there is nothing more important to compute; it is asked before each frame.
    """

    def __init__(self, video: Path, is_free: Callable[[], bool] = lambda: True) -> None:
        self.frames, self._is_free = VideoFile(video), is_free
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._kept: dict[int, bytes] = {}
        self._num_bytes, self._at, self._asked = 0, 0, 0.0  # the frame that is looked at, and when somebody waited for one
        self._reader, self._reading = _Reader(self.frames), threading.Lock()
        self._maker: threading.Thread | None = None

    def jpeg(self, index: int) -> bytes:
        """Return a frame as the browser shows it."""
        self._at = index
        data = self._kept.get(index)
        if data is None:
            with self._reading:
                data = self._kept.get(index) or self._keep(index, self._reader.read(index))
                self._asked = time.monotonic()
        with self._lock:
            if not (self._ended.is_set() or (self._maker and self._maker.is_alive())):
                self._maker = threading.Thread(target=self._make_others, name="views", daemon=True)
                self._maker.start()
        return data

    def close(self) -> None:
        """Make no more pictures, and close the file."""
        self._ended.set()
        if self._maker is not None:
            self._maker.join()
        with self._reading:
            self._reader.close()

    def _make_others(self) -> None:
        reader = _Reader(self.frames)
        try:
            while not self._ended.is_set() and (index := self._next()) is not None:
                if self._reading.locked() or time.monotonic() - self._asked < REST or not self._is_free():
                    self._ended.wait(0.05)
                else:
                    self._keep(index, reader.read(index))
        except VideoError:
            self._ended.set()  # a damaged frame is reported when it is looked at
        finally:
            reader.close()

    def _next(self) -> int | None:
        """Choose the frame to make next; None if there is none, or no room for it."""
        at, count, kept = self._at, len(self.frames), self._kept
        for begin in range(0, count, STRETCH):
            ahead = range(at + begin, min(at + begin + STRETCH, count))
            behind = range(max(at - begin - STRETCH, 0), at - begin)
            missing = next((index for part in (ahead, behind) for index in part if index not in kept), None)
            if missing is not None:
                full = self._num_bytes + self._num_bytes / max(len(kept), 1) > MAX_BYTES
                return None if full and abs(missing - at) >= abs(self._farthest() - at) else missing
        return None

    def _keep(self, index: int, picture: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=88)
        data = file.getvalue()
        with self._lock:
            if index not in self._kept:
                self._kept[index] = data
                self._num_bytes += len(data)
            while self._num_bytes > MAX_BYTES and len(self._kept) > 1:
                self._num_bytes -= len(self._kept.pop(self._farthest()))
        return data

    def _farthest(self) -> int:
        return max(list(self._kept), key=lambda index: abs(index - self._at))


class _Reader:
    """The frames of a video as pictures [H, W, 3] of at most MAX_VIEW pixels a side; the file stays open between them."""

    def __init__(self, frames: VideoFile) -> None:
        self._frames, self._next = frames, 0  # number of the frame that `_pictures` gives next
        self._pictures: Iterator[NDArray[np.uint8]] | None = None

    def read(self, index: int) -> NDArray[np.uint8]:
        if self._pictures is None or not self._next <= index < self._next + NEAR:
            self.close()
            self._next, self._pictures = index, self._frames.pictures(range(index, len(self._frames)), MAX_VIEW)
        try:
            for picture in self._pictures:
                self._next += 1
                if self._next > index:
                    return picture
        except BaseException:
            self.close()
            raise
        raise VideoError(f"{self._frames.label} has no frame {index}")

    def close(self) -> None:
        pictures: Any = self._pictures
        self._pictures = None
        if pictures is not None:
            pictures.close()
