"""The order in which propagation visits the frames of a video."""

from collections.abc import Iterator

from torch import Tensor

from siammae.video.frames import Frames
from siammae.video.progress import progress_bar


def walk(source: Frames, start: int, progress: bool | None) -> Iterator[tuple[int, Tensor]]:
    """Number and frame in the order of propagation: `start` to the end, then `start` once more and back to 0."""
    check_start(source, start)
    index, first = -1, None
    for index, frame in enumerate(progress_bar(source, source.length, "propagate", progress)):
        if index == start:
            first = frame
        if index >= start:
            yield index, frame
    if first is None:
        raise ValueError(f"start is {start}, but {source.label} has only {index + 1} frames")
    if start:
        yield start, first
        backwards = progress_bar(source.backwards(start), start, "propagate backwards", progress)
        yield from zip(range(start - 1, -1, -1), backwards, strict=True)


def check_start(source: Frames, start: int) -> None:
    """ValueError where propagation cannot begin at frame `start`, as far as that is known before reading."""
    if start < 0:
        raise ValueError(f"start is {start}; expected the number of a frame, 0 or more")
    if start:
        source.backwards(start)  # nothing is read yet; but frames that come only once say so
