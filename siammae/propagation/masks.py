"""Mask propagation: the labels of one frame, carried through a whole video by the similarity of features.

The cells of each new frame take their labels from the most similar cells of the context: the anchors and the recent frames.
Letters: T frames, L labels, H x W pixels, h x w cells.
"""

import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from siammae.encoder import Encoder
from siammae.errors import whole_number
from siammae.files import PathLike
from siammae.geometry import Geometry, InputSize, frame_size
from siammae.labels.edges import EdgeFilter, flatten_labels, to_shares
from siammae.labels.grid import PLANES_AT_ONCE, Enlarge, labels_to_grid, strongest_label, upsample
from siammae.labels.masks import Mask, MaskLike, as_mask, resize_nearest
from siammae.labels.smooth import check_edges
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import ConfigLike, MaskOptions, MaskVideoOptions, PropagationConfig, as_config
from siammae.propagation.context import SoftPropagator
from siammae.propagation.scores import Judge, Scores, measure
from siammae.propagation.walk import walk
from siammae.video.frames import FrameSource, read_frames
from siammae.video.pictures import as_frame

Array: TypeAlias = NDArray[Any]
VOID_ID = "void_id", "an id, a whole number, or None"  # the argument, for `whole_number`
M = TypeVar("M", Array, Tensor, Image.Image)  # the form of a mask


class LabelPropagator(Generic[M]):
    """Mask propagation frame by frame: for cameras, corrections and videos of any length.

    Args:
        frame0: the first anchor: an array [H, W, 3], a tensor [3, H, W], a PIL image or a path.
        mask0: its labels: ids [H, W] (integers or bool; array, tensor, PIL image or path to a PNG), or soft labels [L, H, W].
        model: an Encoder, or a name for `load_model`.
        size: shorter side in pixels, or (H, W), at which the encoder sees the frames; None is the model's default.
        config: a PropagationConfig, the name of a preset, a mapping of its fields, or None for the settings of the model.
        void_id: id that means "unknown" in given masks (255 in DAVIS): its pixels are ignored, and no output pixel has it.

    Attributes:
        ids: the ids that are propagated, in the order of the soft labels.
        scores: score, lost, area and box of each object in the last frame; see `siammae.propagation.Scores`.

    Raises:
        ValueError: a mask that `as_mask` refuses, of another size than its frame, with nothing but `void_id`, or with smooth
            edges, as a JPEG has them; bad options.
    """

    encoder: Encoder
    size: InputSize
    config: PropagationConfig
    void_id: int | None
    ids: list[int]
    _frame: Tensor | None
    _scores: Scores | None

    @overload
    def __init__(self, frame0: Any, mask0: M, model: str | Encoder = ..., **options: Unpack[MaskOptions]) -> None: ...
    @overload
    def __init__(
        self: "LabelPropagator[Array]", frame0: Any, mask0: PathLike, model: str | Encoder = ..., **options: Unpack[MaskOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: "LabelPropagator[Any]", frame0: Any, mask0: MaskLike, model: str | Encoder = ..., **options: Unpack[MaskOptions]
    ) -> None: ...
    def __init__(
        self,
        frame0: Any,
        mask0: MaskLike,
        model: str | Encoder = DEFAULT_MODEL,
        *,
        size: InputSize = None,
        config: ConfigLike = None,
        void_id: int | None = None,
    ) -> None:
        self.encoder, self.size, self.void_id = (
            as_encoder(model),
            size,
            whole_number(void_id, *VOID_ID),
        )
        self.config = as_config(config, self.encoder)
        self.reset(frame0, mask0)

    @torch.no_grad()
    def reset(self, frame0: Any, mask0: MaskLike) -> None:
        """Forget everything and start from this frame, of any size, and its mask."""
        frame, mask = as_frame(frame0), as_mask(mask0)
        geometry = Geometry.of(frame_size(frame), self.encoder, self.size)
        _check_size(mask, geometry)
        if mask.soft and self.void_id is not None:
            raise ValueError(f"void_id is {self.void_id}, but soft labels have no ids; leave it out")
        self._check_edges(mask)
        ids = mask.ids(self.void_id)
        if not ids:
            raise ValueError(f"the mask holds nothing but the void id {self.void_id}")
        propagator = SoftPropagator(self.encoder, self.config, geometry)
        features = propagator.encode(frame)
        self._form, self._propagator = mask, propagator
        self._judge = Judge(not mask.soft, self.config)
        self._show(frame)
        self._anchor(features, mask, ids)

    @property
    def labels(self) -> Tensor:
        """Soft labels [L, h, w] of the last frame on the grid."""
        return self._propagator.labels

    @torch.no_grad()
    def step(self, frame: Any) -> M:
        """Return the mask of the next frame, in the form of `mask0`."""
        propagator, image = self._propagator, as_frame(frame)
        features = propagator.encode(image)
        propagator.advance(features, lambda _, labels: self._judge.revise(propagator.plain, labels))
        self._show(image)
        return self.decode()

    @property
    def scores(self) -> Scores:
        """Score, lost, area and box of each object in the last frame."""
        if self._scores is None:
            self._decode()
        assert self._scores is not None
        return self._scores

    def decode(self) -> M:
        """Return the mask that `labels` stand for, in the form of `mask0`.

        After `step` that is the mask it returned; after `reset`, `add` and `remove` it shows what the grid keeps of the labels.
        """
        mask: M = self._form.like(self._decode())
        return mask

    @torch.no_grad()
    def add(self, frame: Any, mask: MaskLike) -> None:
        """Add an anchor: a correction of the last `step`, a new object, or one more labelled frame.

        The mask labels the whole frame: where it says background (0), no object is. From here on labels come from all anchors
        and from the frames that follow; the recent frames are forgotten. A new id is also propagated back into the earlier
        anchors, where it was not marked.

        Raises:
            ValueError: a mask of another size or kind than `mask0`, or ids that its type cannot hold. Nothing has changed then.
        """
        frame, mask = as_frame(frame), as_mask(mask, empty=True)
        _check_size(mask, self._propagator.geometry)
        if mask.soft != self._form.soft:
            raise ValueError(f"the mask holds {_kind(mask)}; this propagator was started with {_kind(self._form)}")
        if mask.soft and len(mask.values) < len(self.ids):
            raise ValueError(
                f"the mask holds {len(mask.values)} soft labels; expected at least the {len(self.ids)} known so far"
            )
        self._check_edges(mask)
        ids = list(dict.fromkeys(self.ids + mask.ids(self.void_id)))
        self._form.check_ids(ids)
        features = self._propagator.encode(frame)
        self._show(frame)
        self._anchor(features, mask, ids)

    def remove(self, ids: Iterable[int]) -> None:
        """Drop objects from here on: their cells become background (0), in the context too.

        An `add` whose mask has the id again makes it a new object. Soft labels have no background: the channels with the
        numbers `ids` stay in their places and are zero.

        Raises:
            ValueError: an id that is not propagated, or the background. Nothing has changed then.
        """
        try:
            gone = [operator.index(label) for label in dict.fromkeys(ids)]
        except TypeError as error:
            raise ValueError(f"ids are {ids!r}; expected a list of ids, such as [1, 2]") from error
        if unknown := [label for label in gone if label not in self.ids]:
            raise ValueError(f"ids {unknown} are not propagated; the ids are {self.ids}")
        old = self.ids
        rows: list[int | None]
        if self._form.soft:
            rows = [None if label in gone else label for label in old]
        elif 0 in gone:
            raise ValueError("id 0 is the background, which cannot be removed; expected ids of objects")
        else:
            self.ids = [label for label in old if label not in gone] + [0] * (0 not in old)
            rows = [self.ids.index(0 if label in gone else label) for label in old]
        self._propagator.relabel(lambda labels: _move(labels, rows, len(self.ids)))
        if not self._form.soft:
            sources = [old.index(label) if label in old else None for label in self.ids]
        else:
            sources = [None if row in gone else row for row in range(len(old))]
        self._judge.relabel(sources, self._objects())
        self._scores = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return where the propagation stands, for `load_state_dict` of a propagator that was made with the same arguments."""
        kind = torch.tensor(self._form.soft, device="cpu")
        shown = {} if self._frame is None else {"last_frame": self._frame.clone()}
        return {
            **self._propagator.state_dict(),
            **self._judge.state_dict(),
            **shown,
            "soft": kind,
            "ids": self._form.as_tensor(self.ids),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where the propagator stood whose `state_dict` this is, with masks in the form of this one's `mask0`.

        Raises:
            ValueError: the state of a propagator of another kind, model, config or size of frames, or ids that the type of
                `mask0` cannot hold. Nothing has changed then.
        """
        self._propagator.check_state(
            state, ("soft", "ids", *self._judge.state_dict(), *([] if self._frame is None else ["last_frame"]))
        )
        if bool(state["soft"]) != self._form.soft:
            kinds = "soft labels", "ids"
            raise ValueError(f"the state is of {kinds[self._form.soft]}; this propagator was started with {_kind(self._form)}")
        ids = state["ids"].tolist()
        self._form.check_ids(ids)
        self._propagator.load_state_dict(state)
        self._judge.load_state_dict(state)
        self._scores = None
        if self._frame is not None:
            self._frame = state["last_frame"].clone()
        self.ids = ids

    def _check_edges(self, mask: Mask) -> None:
        if not mask.soft:
            check_edges(mask.values, self.void_id)

    def _anchor(self, features: Tensor, mask: Mask, ids: list[int]) -> None:
        config, geometry = self.config, self._propagator.geometry
        sampled = mask.resized(geometry.input, config.nearest_pixel) if config.first_labels == "bilinear" else mask
        self.ids = ids
        self._propagator.anchor(features, labels_to_grid(sampled, ids, geometry.grid, config.first_labels))
        self._judge.anchor(self._propagator.plain, self.labels, self._objects())
        self._scores = None
        if not mask.soft:
            winner = strongest_label(self.labels, geometry.input, normalize=config.normalize_objects, enlarge=self._enlarge())
            lost = set(mask.ids(self.void_id)) - {ids[row] for row in winner.unique().tolist()} - {0}
            if lost:
                warnings.warn(
                    f"ids {sorted(lost)} are too small for a grid of {geometry.grid[0]} x {geometry.grid[1]} cells and will be "
                    "lost; encode the frames at a larger size",
                    stacklevel=3,
                )

    def _objects(self) -> list[int]:
        """Return the rows of the soft labels that are objects: all but the background of ids."""
        return [row for row, label in enumerate(self.ids) if self._form.soft or label != 0]

    def _show(self, frame: Tensor) -> None:
        """Keep the frame [3, H, W] that the labels belong to, if its edges are needed."""
        self._frame = frame.clone(memory_format=torch.contiguous_format) if self.config.edges == "guided" else None

    def _enlarge(self) -> Enlarge:
        """Return what enlarges the labels of the last frame."""
        if self._frame is None:
            return upsample
        frame, grid, config = self._frame.to(self.labels.device), self._propagator.geometry.grid, self.config
        return EdgeFilter(frame, grid, color=config.edge_color, radius=config.edge_radius, eps=config.edge_eps)

    def _decode(self) -> Array:
        config, geometry, enlarge = self.config, self._propagator.geometry, self._enlarge()
        labels, gone = self._judge.without_lost(self.labels)
        ids: list[int] = self.ids
        if gone and not self._form.soft:
            if 0 not in ids:
                labels, ids = torch.cat([labels, torch.zeros_like(labels[:1])]), [*ids, 0]
            labels[ids.index(0)] += self.labels[gone].sum(dim=0)
        if self._frame is not None:
            labels = flatten_labels(labels, config.edge_power)
        if self._form.soft:
            planes = torch.cat([enlarge(few, geometry.frame) for few in labels.split(PLANES_AT_ONCE)])
            if self._frame is not None:
                planes = flatten_labels(to_shares(planes), 1 / config.edge_power).clamp(max=1)
            soft: Array = planes.cpu().numpy()
            self._scores = measure(self.ids, list(soft >= 0.5), self._judge.score, self._judge.lost)
            return soft
        size = geometry.frame if config.decode_at == "frame" else geometry.input
        winner = strongest_label(labels, size, normalize=config.normalize_objects, enlarge=enlarge)
        winner = resize_nearest(winner, geometry.frame, config.nearest_pixel)
        masks: Array = np.array(ids, dtype=self._form.values.dtype)[winner.cpu().numpy()]
        objects = [label for label in self.ids if label != 0]
        self._scores = measure(objects, [masks == label for label in objects], self._judge.score, self._judge.lost)
        return masks


@overload
def propagate_labels(
    frames: FrameSource,
    mask0: Array | PathLike,
    model: str | Encoder = ...,
    *,
    return_scores: Literal[True],
    **options: Unpack[MaskVideoOptions],
) -> tuple[Array, Scores]: ...
@overload
def propagate_labels(
    frames: FrameSource,
    mask0: Array | PathLike,
    model: str | Encoder = ...,
    *,
    return_scores: Literal[False] = ...,
    **options: Unpack[MaskVideoOptions],
) -> Array: ...
@overload
def propagate_labels(
    frames: FrameSource,
    mask0: Tensor,
    model: str | Encoder = ...,
    *,
    return_scores: Literal[True],
    **options: Unpack[MaskVideoOptions],
) -> tuple[Tensor, Scores]: ...
@overload
def propagate_labels(
    frames: FrameSource,
    mask0: Tensor,
    model: str | Encoder = ...,
    *,
    return_scores: Literal[False] = ...,
    **options: Unpack[MaskVideoOptions],
) -> Tensor: ...
@overload
def propagate_labels(
    frames: FrameSource,
    mask0: Image.Image,
    model: str | Encoder = ...,
    *,
    return_scores: Literal[True],
    **options: Unpack[MaskVideoOptions],
) -> tuple[list[Image.Image], Scores]: ...
@overload
def propagate_labels(
    frames: FrameSource,
    mask0: Image.Image,
    model: str | Encoder = ...,
    *,
    return_scores: Literal[False] = ...,
    **options: Unpack[MaskVideoOptions],
) -> list[Image.Image]: ...
@overload
def propagate_labels(
    frames: FrameSource,
    mask0: MaskLike,
    model: str | Encoder = ...,
    *,
    return_scores: Literal[True],
    **options: Unpack[MaskVideoOptions],
) -> tuple[Any, Scores]: ...
@overload
def propagate_labels(
    frames: FrameSource,
    mask0: MaskLike,
    model: str | Encoder = ...,
    *,
    return_scores: Literal[False] = ...,
    **options: Unpack[MaskVideoOptions],
) -> Any: ...
def propagate_labels(
    frames: FrameSource,
    mask0: MaskLike,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    size: InputSize = None,
    config: ConfigLike = None,
    start: int = 0,
    void_id: int | None = None,
    progress: bool | None = None,
    return_scores: bool = False,
) -> Any:
    """Propagate the mask of one frame to all frames of a video.

    Args:
        frames: anything that `siammae.read_frames` takes.
        mask0: labels of frame `start`: ids [H, W] (integers or bool; array, tensor, PIL image or path to a PNG), or soft labels
            [L, H, W] in [0, 1].
        model, size, config, void_id: see `LabelPropagator`.
        start: number of the frame that `mask0` belongs to; labels run forwards to the end and backwards to frame 0.
        progress: show a progress bar; None shows one if standard error is a terminal.
        return_scores: return masks and `Scores` [T, objects].

    Returns:
        Masks in the form of `mask0`: an array or tensor [T, H, W] of the same type (soft labels: [T, L, H, W]), or a list of
        PIL images with the same palette; a path gives an array. The mask of frame `start` is `mask0` itself. The masks are all
        that grows with the video: for long videos write files (`siammae propagate`) or step through a LabelPropagator.

    Raises:
        ValueError: there is no frame `start`; and what `LabelPropagator` and `read_frames` raise.
    """
    mask, source, encoder = as_mask(mask0), read_frames(frames), as_encoder(model)
    masks: dict[int, Any] = {start: mask.like(mask.values)}
    scores: dict[int, Scores] = {}
    for index, frame, begins in walk(source, start, progress):
        if begins:
            propagator = LabelPropagator(frame, mask, encoder, size=size, config=config, void_id=void_id)
            scores[index] = given_scores(mask, propagator.scores)
        else:
            masks[index] = propagator.step(frame)
            scores[index] = propagator.scores
    ordered: Any = [masks.pop(index) for index in range(len(masks))]
    if mask.form != "pil":
        ordered = torch.stack(ordered) if mask.form == "torch" else np.stack(ordered)
    return (ordered, Scores.stack([scores[index] for index in range(len(scores))])) if return_scores else ordered


def given_scores(mask: Mask, scores: Scores) -> Scores:
    """Return the scores of an anchor with area and box from the mask that was given, not from what the grid keeps of it."""
    values = np.asarray(mask.values)
    objects = list(values >= 0.5) if mask.soft else [values == label for label in scores.ids]
    return measure(scores.ids, objects, scores.score, scores.lost)


def _check_size(mask: Mask, geometry: Geometry) -> None:
    if mask.size != geometry.frame:
        raise ValueError(f"the mask is {_times(mask.size)} pixels but its frame is {_times(geometry.frame)} (height x width)")


def _move(labels: Tensor, rows: Sequence[int | None], num_labels: int) -> Tensor:
    """Move each of the maps [..., L, h, w] to its row of [..., num_labels, h, w], where maps add up; None drops a map."""
    moved = labels.new_zeros(*labels.shape[:-3], num_labels, *labels.shape[-2:])
    for old, new in enumerate(rows):
        if new is not None:
            moved[..., new, :, :] += labels[..., old, :, :]
    return moved


def _kind(mask: Mask) -> str:
    return "soft labels" if mask.soft else "ids"


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
