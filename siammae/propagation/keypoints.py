"""Keypoint propagation: the points of one frame, carried through a whole video.

Letters: T frames, K points, h x w cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siammae.encoder import Encoder
from siammae.files import PathLike
from siammae.geometry import Geometry, InputSize, frame_size
from siammae.labels.grid import grid_to_points, points_to_crw_grid, points_to_grid, redraw_points
from siammae.labels.keypoints import PointsLike, as_points, write_tracks
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import ConfigLike, Options, PropagationConfig, VideoOptions, as_config
from siammae.propagation.context import SoftPropagator
from siammae.propagation.scenes import Scene
from siammae.propagation.walk import walk
from siammae.video.frames import FrameSource, read_frames
from siammae.video.pictures import as_frame

Array: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[Any] | Sequence[Sequence[float]]
P = TypeVar("P", Array, Tensor)  # the form of points


class KeypointPropagator(Generic[P]):
    """Keypoint propagation frame by frame: for cameras, corrections and videos of any length.

    Args:
        frame0: the first anchor: an array [H, W, 3], a tensor [3, H, W], a PIL image or a path.
        points0: (x, y) of K points in it, [K, 2], in pixels of the frame; (0, 0) is the centre of the top left pixel. A point
            that is not visible is NaN.
        model, size, config: see `LabelPropagator`.

    Attributes:
        points: positions [K, 2] in the last frame, float32, NaN where a point is lost: its score is below
            `config.point_lost_below`, or the frame is foreign; it may come back. A tensor if `points0` is one, else an array.
        scores: how concentrated each point's label still is, [K] float32: 1 in an anchor, 0 where it is lost.

    Raises:
        ValueError: points of another shape, or outside the frame; and bad options.
    """

    encoder: Encoder
    size: InputSize
    config: PropagationConfig
    points: P
    scores: P

    @overload
    def __init__(
        self: "KeypointPropagator[Tensor]", frame0: Any, points0: Tensor, model: str | Encoder = ..., **options: Unpack[Options]
    ) -> None: ...
    @overload
    def __init__(
        self: "KeypointPropagator[Array]", frame0: Any, points0: Rows, model: str | Encoder = ..., **options: Unpack[Options]
    ) -> None: ...
    def __init__(
        self,
        frame0: Any,
        points0: PointsLike,
        model: str | Encoder = DEFAULT_MODEL,
        *,
        size: InputSize = None,
        config: ConfigLike = None,
    ) -> None:
        self.encoder, self.size = as_encoder(model), size
        self.config = as_config(config, self.encoder)
        self.reset(frame0, points0)

    @torch.no_grad()
    def reset(self, frame0: Any, points0: PointsLike) -> None:
        """Forget everything and start from this frame, of any size, and its points."""
        frame, points = as_frame(frame0), as_points(points0)
        geometry = Geometry.of(frame_size(frame), self.encoder, self.size)
        propagator = SoftPropagator(self.encoder, self.config, geometry, exclusive=False)
        self._check_inside(points, geometry)
        features = propagator.encode(frame)
        self._form, self._propagator, self._scene = points0, propagator, Scene()
        self._anchor(features, points)

    @torch.no_grad()
    def step(self, frame: Any) -> tuple[P, P]:
        """Return the points [K, 2] and scores [K] of the next frame."""
        propagator, config = self._propagator, self.config
        features = propagator.encode(as_frame(frame))
        foreign = not config.keep_lost and self._scene.continuity(propagator.plain) < config.foreign_below
        if not foreign:
            self._scene.keep(propagator.plain)
        heat = propagator.advance(features, lambda _, heat: (heat, None if foreign else self._redrawn(heat)))
        points, scores = self._read(heat.cpu())
        lost = ~(scores >= config.point_lost_below) | foreign
        points = propagator.geometry.to_frame(points, self._center).masked_fill(lost[:, None], torch.nan)
        self._keep(points, scores.masked_fill(lost, 0))
        return self.points, self.scores

    @torch.no_grad()
    def add(self, frame: Any, points: PointsLike) -> None:
        """Add an anchor: a correction of the last `step`, more points, or one more frame with its points.

        There are as many points as before, in their order, or more; a point that is not visible in this frame is NaN. From here
        on positions come from all anchors and from the frames that follow; the recent frames are forgotten. New points are also
        propagated back into the earlier anchors.

        Raises:
            ValueError: fewer points than before, or another shape, or points outside the frame. Nothing has changed then.
        """
        image, given = as_frame(frame), as_points(points)
        if len(given) < len(self.points):
            raise ValueError(f"there are {len(given)} points; expected at least the {len(self.points)} known so far")
        self._check_inside(given, self._propagator.geometry)
        self._anchor(self._propagator.encode(image), given)

    def state_dict(self) -> dict[str, Tensor]:
        """Return where the propagation stands, for `load_state_dict` of a propagator that was made with the same arguments."""
        points, scores = (torch.as_tensor(values, device="cpu").clone() for values in (self.points, self.scores))
        return {**self._propagator.state_dict(), **self._scene.state_dict(), "points": points, "scores": scores}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where the propagator stood whose `state_dict` this is, with points in the form of this one's `points0`.

        Raises:
            ValueError: the state of a propagator of another kind, model, config or size of frames. Nothing has changed then.
        """
        self._propagator.check_state(state, (*self._scene.state_dict(), "points", "scores"))
        self._propagator.load_state_dict(state)
        self._scene.load_state_dict(state)
        self._keep(state["points"].clone(), state["scores"].clone())

    def _anchor(self, features: Tensor, points: Tensor) -> None:
        draw = points_to_grid if self.config.point_maps == "gaussian" else points_to_crw_grid
        geometry = self._propagator.geometry
        heat = draw(geometry.to_grid(points, self._center), geometry.grid, self.config.point_sigma)
        self._propagator.anchor(features, heat)
        self._scene.anchor(self._propagator.plain)
        self._keep(points, torch.isfinite(points).all(dim=1).float())

    def _read(self, heat: Tensor) -> tuple[Tensor, Tensor]:
        """Read points [K, 2], in cells, and scores [K] from heat maps [K, h, w]."""
        return grid_to_points(heat, self.config.point_top_k, self.config.point_radius)

    def _redrawn(self, heat: Tensor) -> Tensor:
        """Draw heat maps [K, h, w] partly again, but for those of lost points, for the context."""
        if not self.config.point_redraw:
            return heat
        points, scores = self._read(heat.cpu())
        points[scores < self.config.point_lost_below] = torch.nan
        return redraw_points(heat.cpu(), points, self.config.point_redraw, self.config.point_sigma).to(heat.device)

    def _keep(self, points: Tensor, scores: Tensor) -> None:
        self.points, self.scores = _like(self._form, points), _like(self._form, scores)

    def _check_inside(self, points: Tensor, geometry: Geometry) -> None:
        height, width = geometry.frame
        outside = (points < -0.5) | (points > torch.tensor([width, height], device="cpu") - 0.5)
        if self.config.point_maps == "gaussian" and bool(outside.any()):
            index = int(outside.any(dim=1).nonzero()[0])
            raise ValueError(
                f"point {index} is at {points[index].tolist()}, outside the frame of {width} x {height} pixels (x, y)"
            )

    @property
    def _center(self) -> float:
        """Offset of the whole coordinates of a cell: 0.5 if they are its centre, 0 if they are its corner."""
        return 0.5 if self.config.point_maps == "gaussian" else 0.0


@overload
def propagate_keypoints(
    frames: FrameSource, points0: Tensor, model: str | Encoder = ..., **options: Unpack[VideoOptions]
) -> tuple[Tensor, Tensor]: ...
@overload
def propagate_keypoints(
    frames: FrameSource, points0: Rows, model: str | Encoder = ..., **options: Unpack[VideoOptions]
) -> tuple[Array, Array]: ...
def propagate_keypoints(
    frames: FrameSource,
    points0: PointsLike,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    config: ConfigLike = None,
    start: int = 0,
    progress: bool | None = None,
) -> tuple[Any, Any]:
    """Propagate the keypoints of one frame to all frames of a video.

    Args:
        frames: anything that `siammae.read_frames` takes.
        points0: (x, y) of K points in frame `start`, [K, 2], in pixels of the frame; (0, 0) is the centre of the top left
            pixel. A point that is not visible is NaN, and stays so.
        model, size, config, start, progress: see `propagate_labels`.

    Returns:
        Points [T, K, 2] float32 in pixels of the frames, and scores [T, K] float32: how concentrated a point's label still is,
        1 in frame `start`. A point is lost, NaN with score 0, where that is below `config.point_lost_below`, and in a foreign
        frame (see `siammae.propagation.scenes`). Tensors if `points0` is one, else arrays.

    Raises:
        ValueError: there is no frame `start`; and what `KeypointPropagator` and `read_frames` raise.
    """
    tracks = dict(_track(frames, as_points(points0), model, size, config, start, progress))
    positions, scores = zip(*(tracks[index] for index in range(len(tracks))), strict=True)
    return _like(points0, torch.stack(positions)), _like(points0, torch.stack(scores))


def propagate_keypoints_to_file(
    frames: FrameSource,
    points0: PointsLike,
    path: PathLike,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    config: ConfigLike = None,
    start: int = 0,
    first: int = 0,
    names: Sequence[str] | None = None,
    progress: bool | None = None,
) -> NDArray[np.float32]:
    """Write the points of every frame as a CSV, and return them [T, K, 2].

    When the video turns out to be damaged, or the run is interrupted, the file gets the frames before that.

    Args:
        path: CSV file with the columns frame, point, x, y, score; see `siammae.labels.write_tracks`.
        first: what the first of the frames is called in the file, for a part of a video; `start` counts from it.
        names: names of the points, for one more column of the file.
        frames, points0, model, size, config, start, progress: see `propagate_keypoints`.
    """
    tracks: dict[int, tuple[Tensor, Tensor]] = {}
    source = read_frames(frames)
    try:
        for index, track in _track(source, as_points(points0), model, size, config, start, progress):
            tracks[index] = track
    finally:
        if tracks:
            numbers = sorted(tracks)
            points, scores = (torch.stack([tracks[index][i] for index in numbers]).numpy() for i in (0, 1))
            write_tracks(path, points, scores, [first + source.number(number) for number in numbers], names)
    return points


def _track(
    frames: FrameSource,
    points0: Tensor,
    model: str | Encoder,
    size: InputSize,
    config: ConfigLike,
    start: int,
    progress: bool | None,
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Yield the number of each frame with its points [K, 2] and scores [K], in the order of `walk`."""
    encoder, source = as_encoder(model), read_frames(frames)
    for index, frame, begins in walk(source, start, progress):
        if begins:
            propagator = KeypointPropagator(frame, points0, encoder, size=size, config=config)
        else:
            propagator.step(frame)
        yield index, (propagator.points, propagator.scores)


def _like(given: PointsLike, values: Tensor) -> Any:
    """Return `values` as a tensor on the device of `given` if that is a tensor, else as an array."""
    return values.to(given.device) if isinstance(given, Tensor) else values.numpy()
