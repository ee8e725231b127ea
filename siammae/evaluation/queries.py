"""Points of queries in several frames of one video, as TAP-Vid asks for them."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from siammae.encoder import Encoder
from siammae.evaluation.datasets.sequences import TrackSequence, outside_frame
from siammae.geometry import InputSize
from siammae.propagation.config import PropagationConfig
from siammae.propagation.keypoints import propagate_keypoints


class SequenceEncoder(Encoder):
    """An encoder that keeps the features of all images, for many passes over one video."""

    def __init__(self, encoder: Encoder) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(encoder.__dict__)  # the same weights and settings
        self._grids: dict[bytes, Tensor] = {}

    def forward(self, images: Tensor, *, layer: int = -1) -> Tensor:
        """Return the features [B, D, h, w] of images [B, 3, H, W], computed once."""
        pixels = images.detach().float().cpu().contiguous().numpy()
        key = hashlib.sha256(f"{pixels.shape} {layer}".encode() + pixels.tobytes()).digest()
        if key not in self._grids:
            self._grids[key] = super().forward(images, layer=layer)
        return self._grids[key]


def track_queries(
    frames: Sequence[NDArray[np.uint8]],
    sequence: TrackSequence,
    encoder: Encoder,
    config: PropagationConfig,
    size: InputSize,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Propagate each query's point from its frame to all others: points [T, K, 2] and scores [T, K].

    Queries of the same frame are propagated together. A point outside the picture is lost.
    """
    remembering = SequenceEncoder(encoder)
    points = np.full((len(frames), len(sequence.rows), 2), np.nan, dtype=np.float32)
    scores = np.zeros(points.shape[:2], dtype=np.float32)
    for number in np.unique(sequence.query_frames):
        queries = np.flatnonzero(sequence.query_frames == number)
        given = sequence.tracks[queries, number]
        given = np.where(outside_frame(given, frames[0].shape[:2])[:, None], np.nan, given)
        begin = 0 if sequence.backwards else number
        points[begin:, queries], scores[begin:, queries] = propagate_keypoints(
            list(frames[begin:]), given, remembering, size=size, config=config, start=int(number - begin), progress=False
        )
    return points, scores
