"""Keypoint propagation: points of one frame, carried through a whole video.

Letters: T frames, K points, h x w grid cells.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siammae.encoder import Encoder
from siammae.geometry import Geometry, frame_size
from siammae.labels.grid import grid_to_points, points_to_crw_grid, points_to_grid
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import ConfigLike, PropagationConfig, as_config
from siammae.propagation.context import SoftPropagator
from siammae.propagation.walk import walk
from siammae.video.frames import FrameSource, read_frames


def propagate_keypoints(
    frames: FrameSource,
    points0: Any,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: int | tuple[int, int] | None = None,
    config: ConfigLike = None,
    start: int = 0,
    progress: bool | None = None,
) -> tuple[Any, Any]:
    """The positions of keypoints in all frames of a video, from those in one.

    Args:
        frames: anything that `siammae.read_frames` takes.
        points0: (x, y) of K points in frame `start`, [K, 2], in pixels of the frame; (0, 0) is the centre of the top left
            pixel. A point that cannot be seen is NaN, and stays so.
        model, size, config, start, progress: see `propagate_labels`.

    Returns:
        Points [T, K, 2] float32 in pixels of the frames, and scores [T, K] float32: how concentrated a point's label still is,
        1 in frame `start`, 0 where it is lost (the point is NaN then). Tensors if `points0` is one, else arrays.
    """
    found = dict(track_keypoints(frames, points0, model, size=size, config=config, start=start, progress=progress))
    points = torch.stack([found[index][0] for index in range(len(found))])
    scores = torch.stack([found[index][1] for index in range(len(found))])
    if isinstance(points0, Tensor):
        return points.to(points0.device), scores.to(points0.device)
    return points.numpy(), scores.numpy()


def track_keypoints(
    frames: FrameSource,
    points0: Any,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: int | tuple[int, int] | None = None,
    config: ConfigLike = None,
    start: int = 0,
    progress: bool | None = None,
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """What `propagate_keypoints` returns, frame by frame as it comes: the frame's number, its points [K, 2] and scores [K]."""
    given = (
        points0.detach().float().cpu() if isinstance(points0, Tensor) else torch.from_numpy(np.array(points0, dtype=np.float32))
    )
    if given.ndim != 2 or given.shape[1] != 2 or not len(given):
        raise ValueError(f"points have shape {list(given.shape)}; expected [K, 2], the x and y of K points")
    encoder, settings, source = as_encoder(model), as_config(config), read_frames(frames)
    propagator = None
    for index, frame in walk(source, start, progress):
        if propagator is None or index == start:
            propagator = _point_propagator(frame, given, encoder, settings, size)
            yield index, (given, torch.isfinite(given).all(dim=1).float())
        else:
            with torch.no_grad():
                heat = propagator.advance(propagator.encode(frame))
                points, scores = grid_to_points(heat.cpu(), settings.point_top_k)
            yield index, (propagator.geometry.to_frame(points, _centre(settings)), scores)


@torch.no_grad()
def _point_propagator(
    frame: Tensor, points: Tensor, encoder: Encoder, config: PropagationConfig, size: int | tuple[int, int] | None
) -> SoftPropagator:
    height, width = frame_size(frame)
    outside = (points < -0.5) | (points > torch.tensor([width, height]) - 0.5)
    if config.point_maps == "gaussian" and bool(outside.any()):
        index = int(outside.any(dim=1).nonzero()[0])
        raise ValueError(f"point {index} is at {points[index].tolist()}, outside the frame of {width} x {height} pixels (x, y)")
    propagator = SoftPropagator(encoder, config, Geometry.of((height, width), encoder, size))
    draw = points_to_grid if config.point_maps == "gaussian" else points_to_crw_grid
    heat = draw(propagator.geometry.to_grid(points, _centre(config)), propagator.geometry.grid, config.point_sigma)
    propagator.anchor(propagator.encode(frame), heat)
    return propagator


def _centre(config: PropagationConfig) -> float:
    """Where the centre of a cell is, from its whole number."""
    return 0.5 if config.point_maps == "gaussian" else 0.0
