"""Several videos, one after another, with one model: the masks of each as soon as they are there."""

from collections.abc import Iterable, Iterator, Sized
from typing import Any, Unpack

from siammae.encoder import Encoder
from siammae.labels.masks import MaskLike
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import MaskVideoOptions
from siammae.propagation.masks import propagate_labels
from siammae.video.frames import FrameSource


def iter_labels(
    videos: Iterable[FrameSource],
    masks: Iterable[MaskLike],
    model: str | Encoder = DEFAULT_MODEL,
    *,
    return_scores: bool = False,
    **options: Unpack[MaskVideoOptions],
) -> Iterator[Any]:
    """Propagate the mask of each video through it, and yield what `propagate_labels` returns, video after video.

    The model is loaded once. A video is read, and its mask taken, when its turn comes, so that both may be generators and the
    memory is that of one video.

    Args:
        videos: videos that `read_frames` takes.
        masks: the mask of each video.
        model, return_scores, options: see `propagate_labels`.

    Raises:
        ValueError: more videos than masks, or masks than videos; and at its turn, what `propagate_labels` raises for a video,
            which ends the iteration: to go on with the others, call `propagate_labels` in a loop of your own.
    """
    if isinstance(videos, Sized) and isinstance(masks, Sized) and len(videos) != len(masks):
        raise ValueError(f"there are {len(videos)} videos and {len(masks)} masks; expected a mask for each video")
    return _iterate(iter(videos), iter(masks), as_encoder(model), return_scores, options)


def _iterate(
    videos: Iterator[FrameSource], masks: Iterator[MaskLike], encoder: Encoder, return_scores: bool, options: MaskVideoOptions
) -> Iterator[Any]:
    nothing = object()
    for count, video in enumerate(videos):
        mask: Any = next(masks, nothing)
        if mask is nothing:
            raise ValueError(f"there are only {count} masks, but more videos; expected a mask for each video")
        yield propagate_labels(video, mask, encoder, return_scores=return_scores, **options)  # type: ignore[call-overload]
    if next(masks, nothing) is not nothing:
        raise ValueError("there are more masks than videos; expected a mask for each video")
