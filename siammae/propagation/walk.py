"""The order in which propagation visits the frames of a video."""

from collections.abc import Iterator

from torch import Tensor

from siammae.errors import whole_number
from siammae.video.frames import Frames
from siammae.video.progress import progress_bar


def walk(source: Frames, start: int, progress: bool | None) -> Iterator[tuple[int, Tensor, bool]]:
    """Visit the frames from `start` to the end, then `start` once more and the frames before it back to 0.

    Yields the number of a frame, the frame [3, H, W], and True where propagation begins (again), which is at `start`.

    Raises:
        ValueError: there is no frame `start`, or it is not the first and the source can be read forwards only.
    """
    check_start(source, start)
    index, first = -1, None
    for index, frame in enumerate(progress_bar(source, source.length, "propagate", progress)):
        if index == start:
            first = frame
        if index >= start:
            yield index, frame, index == start
    if first is None:
        raise ValueError(f"start is {start}, but {source.label} has only {index + 1} frames")
    if start:
        yield start, first, True
        backwards = progress_bar(source.backwards(start), start, "propagate backwards", progress)
        for index, frame in zip(range(start - 1, -1, -1), backwards, strict=True):
            yield index, frame, False


def check_start(source: Frames, start: int) -> int:
    """Return `start` as a plain int; ValueError if propagation cannot begin there, as far as is known before reading."""
    start = whole_number(start, "start", "the number of a frame, a whole number")
    if start is None or start < 0:
        raise ValueError(f"start is {start}; expected the number of a frame, 0 or more")
    if start:
        source.backwards(start)  # reads nothing yet, but raises if frames come only once
    return start
