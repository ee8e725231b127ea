"""Segmenter: the features of one frame, and the masks that fit the prompts given for it.

Letters: H x W pixels, n cells of a view, N boxes, K clicks, L objects.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siammae.encoder import Encoder
from siammae.geometry import Geometry, InputSize, frame_size
from siammae.labels.masks import MaskLike
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.prompts import evidence
from siammae.prompts.prompt import Box, BoxLike, Click, LabelsLike, PointsLike, Prompt, read_prompts
from siammae.prompts.view import View, Window, size_of, window_around
from siammae.video.pictures import as_frame

MAX_CELLS = 8192  # of a grid: the weights between all its cells are kept, 256 MiB
MAX_VIEWS = 8  # views that are kept
FEW_CELLS = 200  # a box of fewer cells is looked at closely
NEVER = -20.0  # evidence of cells that cannot belong to the object
BEYOND = 3.0  # cells that an object may reach beyond its rough mask
CLICKED = 5.0  # evidence of clicked cells where only clicks are given
SOFTNESS = 0.5  # evidence at which a cell is e times more likely of the object than not


class Segmenter:
    """The features of one frame, from which each prompt gets its mask within a fraction of a second.

    It helps to mark one object: it knows no kinds of objects and was not trained to segment. It finds which cells in the
    prompt look unlike the surroundings and like one another, and follows the edges of the picture.

    The frame is encoded once. For a small box the part of the frame around it is encoded too, with as many cells as the frame;
    the last eight such views are kept, so that a click on the same object needs no encoding.

    Args:
        model: an Encoder, or a name for `load_model`.
        frame: an array [H, W, 3], a tensor [3, H, W], a PIL image or a path.
        size: shorter side in pixels, or (H, W), at which the encoder sees the frame; None is the model's default.
        prepare: encode the whole frame at once; otherwise when a prompt first needs it.

    Attributes:
        geometry: sizes of the frame and of its grid.

    Raises:
        ValueError: a bad frame or size, or a grid of more than 8,192 cells.
    """

    def __init__(self, model: str | Encoder, frame: Any, *, size: InputSize = None, prepare: bool = True) -> None:
        self._encoder, self._frame = as_encoder(model), as_frame(frame)
        self.geometry = Geometry.of(frame_size(self._frame), self._encoder, size)
        rows, columns = self.geometry.grid
        if rows * columns > MAX_CELLS:
            raise ValueError(
                f"the grid has {rows} x {columns} cells, more than {MAX_CELLS}; pass a size below "
                f"{min(self.geometry.input)} pixels"
            )
        self._views: OrderedDict[Window, View] = OrderedDict()
        if prepare:
            self._view(None)

    @torch.no_grad()
    def segment(
        self,
        *,
        box: BoxLike | None = None,
        points: PointsLike | None = None,
        labels: LabelsLike | None = None,
        mask: MaskLike | None = None,
    ) -> NDArray[np.uint8]:
        """Fit a mask to each object that is marked.

        Args:
            box: (left, top, right, bottom) around the object in pixels, close to it; [N, 4] for several objects, which get
                the ids 1 to N; or a mapping from ids to boxes. The corners belong to the box; what reaches over the frame
                is cut off.
            points: clicks [K, 2], (x, y) in pixels; or a mapping from ids to the clicks of each object.
            labels: for each click 1, a place of the object, or 0, none; a mapping if `points` is one. None is 1 for all.
            mask: a rough mask: ids [H, W], each an object, 0 the background. Prompts of one id belong together.

        Returns:
            Ids [H, W], uint8, 0 where no object is. A mask stays within its box.

        Raises:
            ValueError: a prompt outside the frame or of no area; one that leaves no cell for its object, or no background;
                clicks in one cell that contradict each other; ids that are not 1 to 255.
        """
        prompts = read_prompts(self.geometry.frame, box, points, labels, mask)
        ids = torch.zeros(self.geometry.frame, dtype=torch.uint8, device=self._encoder.device)  # [H, W]
        best = torch.full(self.geometry.frame, 0.5, device=self._encoder.device)  # [H, W], share of the strongest label
        for label, prompt in prompts.items():
            view = self._view(prompt.box if prompt.mask is None else None)
            shares = view.enlarge(torch.sigmoid(self._evidence(view, label, prompts) / SOFTNESS))
            left, top, right, bottom = view.window
            if prompt.box is not None:
                shares = torch.where(_inside(prompt.box, view.window).to(shares.device), shares, 0)
            part, strongest = ids[top:bottom, left:right], best[top:bottom, left:right]
            better = shares > strongest
            part[better], strongest[better] = label, shares[better]
        drawn: NDArray[np.uint8] = ids.cpu().numpy()
        missing = set(prompts) - set(np.unique(drawn).tolist())
        if missing:
            raise ValueError(
                f"no pixel is left for objects {sorted(missing)}: their prompts fit the background, or another object, better; "
                "change them, or add a click"
            )
        return drawn

    @torch.no_grad()
    def _view(self, box: Box | None) -> View:
        """Return the surroundings of a small box, or else the whole frame."""
        (height, width), (rows, columns) = self.geometry.frame, self.geometry.grid
        window, size = (0, 0, width, height), self.geometry.input
        if box is not None and (box[2] - box[0] + 1) * (box[3] - box[1] + 1) * rows * columns < FEW_CELLS * width * height:
            window = window_around(box, self.geometry.frame)
            size = size_of(window, self.geometry, self._encoder.patch_size)
        if window not in self._views:
            self._views[window] = View(self._encoder, self._frame, window, size)
        self._views.move_to_end(window)
        if len(self._views) > MAX_VIEWS:
            self._views.popitem(last=False)
        return self._views[window]

    def _evidence(self, view: View, label: int, prompts: Mapping[int, Prompt]) -> Tensor:
        """Weigh the evidence [n] for an object: above 0 where it is, NEVER where it cannot be."""
        prompt, marks = prompts[label], _marks(view, label, prompts)
        cells = torch.tensor(list(marks), dtype=torch.int64, device=view.weights.device)  # [K]
        inside = torch.tensor(list(marks.values()), dtype=torch.bool, device=view.weights.device)  # [K]
        result = torch.full_like(view.weights[0], NEVER)  # [n]
        if prompt.box is None and prompt.mask is None:
            ends = torch.zeros_like(result)
            ends[cells] = torch.where(inside, 1.0, -1.0)
            unknown = ends == 0
            result[unknown] = evidence.standardize(evidence.chance_to_reach(view.weights, ends)[unknown].log())
            result[cells] = torch.where(inside, CLICKED, -CLICKED)
            return result
        places, region = view.places(), _region(view, label, prompt)
        if prompt.mask is None:
            result[region] = evidence.standardize(evidence.steps_to_background(view.weights, region).log())
        else:
            allowed = region if prompt.box is not None else torch.cdist(places, places[region]).amin(dim=1) <= BEYOND
            shares = view.mask_shares(prompt.mask).to(result.device)
            result[allowed] = evidence.standardize(evidence.smooth_shares(view.weights, shares)[allowed])
            if prompt.box is None:
                result[~allowed] = -evidence.CERTAIN  # clicks may add to a rough mask
        if len(cells):
            similarity, distance = view.features @ view.features[cells].T, torch.cdist(places, places[cells])  # [n, K]
            result = evidence.correct(result, similarity, distance, cells, inside)
        return result


def _marks(view: View, label: int, prompts: Mapping[int, Prompt]) -> dict[int, bool]:
    """Find the clicked cells of an object, and whether they are inside it; a plus click of another object is outside.

    Raises:
        ValueError: a plus click outside the box, or clicks in one cell that contradict each other.
    """
    marks: dict[int, tuple[bool, Click, int]] = {}
    for owner, prompt in sorted(prompts.items(), key=lambda item: item[0] != label):
        for click in prompt.clicks:
            cell = view.cell(click)
            if owner == label and click.inside and not prompt.contains(click):
                raise ValueError(f"{click} of object {label} lies outside its box; draw a larger box")
            if cell is None or not (owner == label or click.inside):
                continue
            inside, first, other = marks.setdefault(cell, (owner == label and click.inside, click, owner))
            if inside != (owner == label and click.inside):
                raise ValueError(
                    f"{first} of object {other} and {click} of object {owner} contradict each other: they lie in one cell of "
                    f"the grid. {_remedy(view)}"
                )
    return {cell: inside for cell, (inside, _, _) in marks.items()}


def _region(view: View, label: int, prompt: Prompt) -> Tensor:
    """Find the cells [n] that a box or rough mask covers by half; ValueError if there are none, or no others."""
    if prompt.box is not None:
        shares = view.box_shares(prompt.box)
    else:
        assert prompt.mask is not None
        shares = view.mask_shares(prompt.mask)
    region = (shares > 0.5).to(view.weights.device)
    if not bool(region.any()):
        raise ValueError(f"object {label} is lost on the grid: it fills no cell by half. {_remedy(view)}")
    if bool(region.all()):
        raise ValueError(f"object {label} fills the whole frame: nothing is left that is surely background; mark it closer")
    return region


def _remedy(view: View) -> str:
    (height, width), (rows, columns) = view.geometry.frame, view.geometry.grid
    return f"A cell has {width / columns:.1f} x {height / rows:.1f} pixels: change the prompt, or pass a larger size"


def _inside(box: Box, window: Window) -> Tensor:
    """Find the pixels [H, W] of a view that a box touches."""
    columns = torch.arange(window[0], window[2], device="cpu")
    rows = torch.arange(window[1], window[3], device="cpu")
    left, top, right, bottom = box
    return torch.outer((rows >= top - 0.5) & (rows <= bottom + 0.5), (columns >= left - 0.5) & (columns <= right + 0.5))


def segment(
    frame: Any,
    *,
    box: BoxLike | None = None,
    points: PointsLike | None = None,
    labels: LabelsLike | None = None,
    mask: MaskLike | None = None,
    model: str | Encoder = DEFAULT_MODEL,
    size: InputSize = None,
) -> NDArray[np.uint8]:
    """Fit a mask to each object that a box, clicks or a rough mask mark in a frame.

    It helps to mark one object: it knows no kinds of objects and was not trained to segment. `Segmenter` keeps the features for
    further prompts.

    Args:
        frame: an array [H, W, 3], a tensor [3, H, W], a PIL image or a path.
        box, points, labels, mask: see `Segmenter.segment`.
        model: an Encoder, or a name for `load_model`.
        size: shorter side in pixels, or (H, W), at which the encoder sees the frame; None is the model's default.

    Returns:
        Ids [H, W], uint8, 0 where no object is.

    Raises:
        ValueError: a bad frame, size or prompt.
    """
    return Segmenter(model, frame, size=size, prepare=False).segment(box=box, points=points, labels=labels, mask=mask)
