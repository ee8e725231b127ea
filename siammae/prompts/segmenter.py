"""Segmenter: the features of one frame, and the masks that fit the prompts given for it.

Letters: H x W pixels, h x w cells, n = h w cells, m unknown cells, D channels, N boxes, K clicks, L objects.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siammae.encoder import Encoder
from siammae.features import descriptors
from siammae.geometry import Geometry, InputSize, frame_size
from siammae.labels.edges import EdgeFilter
from siammae.labels.grid import labels_to_grid
from siammae.labels.masks import Mask, MaskLike
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.prompts import evidence
from siammae.prompts.prompt import BoxLike, Click, LabelsLike, PointsLike, Prompt, read_prompts
from siammae.video.pictures import as_frame

MAX_CELLS = 8192  # of a grid: the weights between all its cells are kept, 256 MiB
NEVER = -20.0  # evidence of cells that cannot belong to the object
CLICKED = 5.0  # evidence of clicked cells where only clicks are given
SOFTNESS = 0.5  # evidence at which a cell is e times more likely of the object than not
EDGES = {"color": 0.15, "radius": 0.017, "eps": 1e-4}  # of the filter, as in propagation


class Segmenter:
    """The features of one frame, from which each prompt gets its mask within milliseconds.

    It helps to mark one object: it knows no kinds of objects and was not trained to segment. It finds which cells in the
    prompt look unlike the surroundings and like one another, and follows the edges of the picture.

    Args:
        model: an Encoder, or a name for `load_model`.
        frame: an array [H, W, 3], a tensor [3, H, W], a PIL image or a path.
        size: shorter side in pixels, or (H, W), at which the encoder sees the frame; None is the model's default.

    Attributes:
        geometry: sizes of the frame and of the grid.

    Raises:
        ValueError: a bad frame or size, or a grid of more than 8,192 cells.
    """

    @torch.no_grad()
    def __init__(self, model: str | Encoder, frame: Any, *, size: InputSize = None) -> None:
        encoder, picture = as_encoder(model), as_frame(frame)
        self.geometry = Geometry.of(frame_size(picture), encoder, size)
        rows, columns = self.geometry.grid
        if rows * columns > MAX_CELLS:
            raise ValueError(
                f"the grid has {rows} x {columns} cells, more than {MAX_CELLS}; pass a size below "
                f"{min(self.geometry.input)} pixels"
            )
        self._features = descriptors(encoder, [picture], self.geometry)[0].flatten(1).T.contiguous()  # [n, D]
        self._weights = evidence.affinity(self._features)
        self._edges = EdgeFilter(picture.to(encoder.device), self.geometry.grid, **EDGES)

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
            mask: a rough mask: ids [H, W], each an object, 0 the background. Its object may reach a little beyond it.
                Prompts of one id belong together: give the last mask and the next click to correct it.

        Returns:
            Ids [H, W], uint8, 0 where no object is. A mask stays within its box.

        Raises:
            ValueError: a prompt outside the frame or of no area; one that leaves no cell for its object, or no background;
                clicks in one cell that contradict each other; ids that are not 1 to 255.
        """
        prompts = read_prompts(self.geometry.frame, box, points, labels, mask)
        clicks = self._cells(prompts)
        regions = {label: self._region(label, prompt) for label, prompt in prompts.items()}
        maps = [self._evidence(label, prompts[label], regions[label], clicks) for label in prompts]
        return self._draw(prompts, torch.stack(maps))

    def _cells(self, prompts: Mapping[int, Prompt]) -> dict[int, dict[int, bool]]:
        """Find the clicked cells of each object, and whether they are inside; ValueError for contradicting clicks."""
        cells: dict[int, dict[int, bool]] = {label: {} for label in prompts}
        clicks: dict[int, tuple[int, Click]] = {}  # the first plus click by cell
        for label, click in ((label, click) for label, prompt in prompts.items() for click in prompt.clicks):
            cell = self._cell(click)
            if click.inside and not prompts[label].contains(click):
                raise ValueError(
                    f"{click} of object {label} lies outside its box, where the object cannot be; draw a larger box"
                )
            if cells[label].setdefault(cell, click.inside) != click.inside:
                raise ValueError(
                    f"object {label} has a plus and a minus click in one cell, at ({click.x:g}, {click.y:g}); {self._remedy()}"
                )
            owner, first = clicks.setdefault(cell, (label, click)) if click.inside else (label, click)
            if owner != label:
                raise ValueError(
                    f"objects {owner} and {label} have plus clicks in one cell, at ({first.x:g}, {first.y:g}) and "
                    f"({click.x:g}, {click.y:g}); {self._remedy()}"
                )
        return cells

    def _cell(self, click: Click) -> int:
        rows, columns = self.geometry.grid
        place = self.geometry.to_grid(torch.tensor([click.x, click.y], device="cpu"))
        column, row = (round(float(value)) for value in place)
        return min(max(row, 0), rows - 1) * columns + min(max(column, 0), columns - 1)

    def _remedy(self) -> str:
        (height, width), (rows, columns) = self.geometry.frame, self.geometry.grid
        return (
            f"a cell is {width / columns:.0f} x {height / rows:.0f} pixels: pass a larger size than {min(self.geometry.input)} "
            "for smaller ones, or change the prompt"
        )

    def _region(self, label: int, prompt: Prompt) -> Tensor | None:
        """Find the cells [n] that can belong to an object; None if only clicks mark it.

        Raises:
            ValueError: there is no such cell, or no other.
        """
        if prompt.box is not None:
            left, top, right, bottom = prompt.box
            (height, width), (rows, columns) = self.geometry.frame, self.geometry.grid
            shares = torch.outer(_overlap(rows, height, top, bottom), _overlap(columns, width, left, right))
        elif prompt.mask is not None:
            rough = Mask(prompt.mask, "numpy", prompt.mask.dtype)
            shares = labels_to_grid(rough, [1], self.geometry.grid)[0]
        else:
            return None
        region = (shares > 0.5).flatten().to(self._weights.device)
        if not bool(region.any()):
            raise ValueError(f"object {label} is lost on the grid: it fills no cell by half; {self._remedy()}")
        if bool(region.all()):
            raise ValueError(f"object {label} fills the whole frame: nothing is left that is surely background; mark it closer")
        return region

    def _evidence(self, label: int, prompt: Prompt, region: Tensor | None, clicks: Mapping[int, Mapping[int, bool]]) -> Tensor:
        """Weigh the evidence [n] for an object: above 0 where it is, NEVER where it cannot be."""
        others = {cell: False for other in clicks if other != label for cell, plus in clicks[other].items() if plus}
        marks = {**others, **clicks[label]}
        cells = torch.tensor(list(marks), dtype=torch.int64, device=self._weights.device)  # [K]
        inside = torch.tensor(list(marks.values()), dtype=torch.bool, device=self._weights.device)  # [K]
        result = torch.full_like(self._weights[0], NEVER)  # [n]
        if region is None:
            ends = torch.zeros_like(result)
            ends[cells] = torch.where(inside, 1.0, -1.0)
            unknown = ends == 0
            result[unknown] = evidence.standardize(evidence.chance_to_reach(self._weights, ends)[unknown])
            result[cells] = torch.where(inside, CLICKED, -CLICKED)
            return result
        if prompt.box is None:
            result.fill_(-evidence.CERTAIN)  # clicks may add to a rough mask
        result[region] = evidence.standardize(evidence.steps_to_background(self._weights, region))
        if len(cells):
            similarity = self._features @ self._features[cells].T  # [n, K]
            places = self._places()
            distance = torch.cdist(places, places[cells])
            result = evidence.correct(result, similarity, distance, cells, inside)
        return result

    def _places(self) -> Tensor:
        """Return row and column [n, 2] of every cell."""
        rows, columns = (torch.arange(length, device=self._weights.device) for length in self.geometry.grid)
        return torch.cartesian_prod(rows, columns).float()

    def _draw(self, prompts: Mapping[int, Prompt], maps: Tensor) -> NDArray[np.uint8]:
        """Draw the ids [H, W] that evidence [L, n] stands for, along the edges of the picture; ValueError if one is missing."""
        height, width = self.geometry.frame
        ids = torch.zeros(height, width, dtype=torch.uint8, device=maps.device)
        best = torch.full((height, width), 0.5, device=maps.device)
        for (label, prompt), map_ in zip(prompts.items(), maps, strict=True):
            shares = torch.sigmoid(map_ / SOFTNESS).view(1, *self.geometry.grid)
            plane = self._edges(shares, (height, width))[0]
            if prompt.box is not None:
                plane = torch.where(_inside(prompt.box, (height, width)).to(plane.device), plane, 0)
            better = plane > best
            ids, best = torch.where(better, label, ids), torch.where(better, plane, best)
        drawn: NDArray[np.uint8] = ids.cpu().numpy()
        missing = set(prompts) - set(np.unique(drawn).tolist())
        if missing:
            raise ValueError(
                f"no pixel is left for objects {sorted(missing)}: their prompts fit the background, or another object, better; "
                f"{self._remedy()}"
            )
        return drawn


def _overlap(num_cells: int, num_pixels: int, first: float, last: float) -> Tensor:
    """Compute the share of each cell that the pixels from `first` to `last` cover along one axis: [num_cells]."""
    side = num_pixels / num_cells
    edges = torch.arange(num_cells + 1, device="cpu") * side - 0.5
    return ((edges[1:].clamp(max=last + 0.5) - edges[:-1].clamp(min=first - 0.5)) / side).clamp(min=0)


def _inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> Tensor:
    """Find the pixels [H, W] that a box touches."""
    left, top, right, bottom = box
    rows, columns = (torch.arange(length, device="cpu") for length in size)
    return torch.outer((rows >= top - 0.5) & (rows <= bottom + 0.5), (columns >= left - 0.5) & (columns <= right + 0.5))


@torch.no_grad()
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
    return Segmenter(model, frame, size=size).segment(box=box, points=points, labels=labels, mask=mask)
