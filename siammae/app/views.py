"""Pictures of frames for the browser: a frame is decoded when it is looked at."""

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from torch import Tensor

from siammae.video.frames import Frames, read_frames
from siammae.video.pictures import as_picture

MAX_VIEW = 1280  # longer side of a picture in the browser, pixels
MAX_BYTES = 64 << 20  # pictures kept in memory for each video
NEAR = 12  # frames ahead that are reached faster by reading on than by seeking


class Views:
    """The frames of a video as JPEG files of at most MAX_VIEW pixels a side; the last ones are kept in memory."""

    def __init__(self, video: Path) -> None:
        self.frames = read_frames(video)
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._num_bytes = 0
        self._next = 0  # number of the frame that `_reader` gives next
        self._reader: Iterator[Tensor] | None = None

    def jpeg(self, index: int) -> bytes:
        """Return a frame as the browser shows it."""
        with self._lock:
            if index not in self._kept:
                self._keep(index, self._read(index))
            self._kept.move_to_end(index)
            return self._kept[index]

    def _read(self, index: int) -> Tensor:
        if self._reader is None or not self._next <= index < self._next + NEAR:
            self._next, self._reader = index, iter(_from(self.frames, index))
        try:
            while True:
                frame = next(self._reader)
                self._next += 1
                if self._next > index:
                    return frame
                self._keep(self._next - 1, frame)
        except BaseException:
            self._reader = None
            raise

    def _keep(self, index: int, frame: Tensor) -> None:
        if index in self._kept:
            return
        picture, data = Image.fromarray(as_picture(frame)), io.BytesIO()
        picture.thumbnail((MAX_VIEW, MAX_VIEW), Image.Resampling.BILINEAR, reducing_gap=2)
        picture.save(data, "JPEG", quality=88)
        self._kept[index] = data.getvalue()
        self._num_bytes += len(self._kept[index])
        while self._num_bytes > MAX_BYTES and len(self._kept) > 1:
            self._num_bytes -= len(self._kept.popitem(last=False)[1])


def _from(frames: Frames, index: int) -> Frames:
    part: Frames = frames[index:]
    return part
