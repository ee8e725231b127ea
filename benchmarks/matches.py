"""Matches of every frame of a sequence, found once, from which labels are propagated with many settings.

Which cells match depends on features alone. The NUM_MATCHES best cells within RADIUS in the CONTEXT frames before are kept, and
ANCHOR_MATCHES in the first frame; a setting takes the best of those that its own window and context admit. This is what
`siammae.propagation` does, unless a cell has fewer admitted matches than `top_k` among those kept; and similarities are kept in
float16, and no object is lost, so scores differ a little from those of `siammae evaluate`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from siammae import load_model, ops
from siammae.encoder import Encoder
from siammae.evaluation.datasets.sequences import AnnotatedFrames
from siammae.features import encode, project
from siammae.geometry import Geometry, frame_size
from siammae.labels import EdgeFilter, flatten_labels, strongest_label
from siammae.propagation import PropagationConfig
from siammae.propagation.context import sharpened
from siammae.video import as_frame

NUM_MATCHES, ANCHOR_MATCHES, RADIUS, CONTEXT = 24, 10, 12, 20
LOADED: dict[str, Encoder] = {}


class Sequence:
    """Matches [T, k, h w] of the frames of one sequence.

    Attributes:
        geometry: sizes of frames, input and grid.
        similarities: of the matches; below -1 where there is none.
        cells: numbers of the matches' cells, counted from the first frame on.
    """

    def __init__(self, one: AnnotatedFrames, model: str, size: int, config: PropagationConfig, cache: Path) -> None:
        encoder = loaded(model)
        self.geometry = Geometry.of(frame_size(as_frame(one.frames[0])), encoder, size)
        kind = "projected" if config.projection else "plain"
        name = f"{encoder.name}-{self.geometry.input[0]}-{config.layer}-{one.name}-{len(one.frames)}-{kind}-matches.npz"
        path = cache / name
        if not path.exists():
            draft = path.with_suffix(".part.npz")
            grids = features(one, encoder, self.geometry, config.layer, cache).float()
            if config.projection:
                grids = project(encoder, grids, config.layer)
            similarities, cells = find(F.normalize(grids, dim=1))
            np.savez(draft, similarities=similarities.half().numpy(), cells=cells.int().numpy())
            draft.replace(path)
        stored = np.load(path)
        self.similarities = torch.from_numpy(stored["similarities"]).float()
        self.cells = torch.from_numpy(stored["cells"]).long()
        height, width = self.geometry.grid
        place, match = torch.arange(height * width), self.cells % (height * width)
        self.frames = self.cells // (height * width)
        self.rows, self.columns = (match // width - place // width).abs(), (match % width - place % width).abs()

    def propagate(self, first: Tensor, config: PropagationConfig, remember: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Propagate the labels [L, h, w] of the first frame: soft labels [T, L, h, w].

        `remember` turns the labels of a frame into those that later frames see.
        """
        num_labels, height, width = first.shape
        labels = torch.zeros(len(self.cells), height * width, num_labels)
        labels[0] = first.flatten(1).T
        result = [first]
        for t in range(1, len(labels)):
            weighed = torch.where(self.frames[t] == 0, self.similarities[t] * config.anchor_factor, self.similarities[t])
            similarities = torch.where(self._admitted(t, config), weighed, -2)
            best, order = similarities.topk(config.top_k, dim=0)
            weights = torch.softmax(best / config.temperature, dim=0) * (best > -2)
            matched = labels.flatten(0, 1)[self.cells[t].gather(0, order)]  # [k, h w, L]
            result.append((weights[..., None] * matched).sum(dim=0).T.unflatten(1, (height, width)))
            kept = remember(result[-1]) if remember else sharpened(result[-1], config.label_power)
            labels[t] = kept.flatten(1).T
        return torch.stack(result)

    def _admitted(self, t: int, config: PropagationConfig) -> Tensor:
        """Return which matches [k, h w] of a frame the context and the windows of a config hold."""
        rows, columns = self.rows[t], self.columns[t]
        far = torch.maximum(rows, columns) if config.window == "square" else (rows**2 + columns**2).sqrt()
        anchor = self.frames[t] == 0
        recent = anchor | (self.frames[t] >= t - config.context_frames)
        admitted: Tensor = (far <= config.radius) & recent & (self.similarities[t] > -2)
        return admitted


def find(grids: Tensor) -> tuple[Tensor, Tensor]:
    """Find the matches of every frame of features [T, D, h, w] of unit length: similarities and cells, both [T, k, h w]."""
    num_frames, _, height, width = grids.shape
    similarities = torch.full((num_frames, NUM_MATCHES + ANCHOR_MATCHES, height * width), -2.0)
    cells = torch.zeros(similarities.shape, dtype=torch.int64)
    for t in range(1, num_frames):
        for context, num, place in ((range(max(1, t - CONTEXT), t), NUM_MATCHES, 0), ([0], ANCHOR_MATCHES, NUM_MATCHES)):
            if not len(context):
                continue
            options = {"radius": RADIUS, "top_k": num, "temperature": 1.0, "return_matches": True}
            labels = torch.zeros(len(context), 1, height, width)
            _, matches = ops.propagate(grids[t], grids[list(context)], labels, **options)
            similarity, index = matches.similarities.flatten(1), matches.indices.flatten(1)
            here = slice(place, place + len(index))
            similarities[t, here] = similarity
            cells[t, here] = torch.tensor(list(context))[index // (height * width)] * height * width + index % (height * width)
    return similarities, cells


def strongest(frame: Tensor, labels: Tensor, config: PropagationConfig) -> Tensor:
    """Find the strongest of labels [L, h, w] at every pixel of a frame [3, H, W], as `LabelPropagator` does: [H, W]."""
    size, grid = (frame.shape[1], frame.shape[2]), (labels.shape[1], labels.shape[2])
    if config.edges == "none":
        return strongest_label(labels, size)
    edges = EdgeFilter(frame, grid, color=config.edge_color, radius=config.edge_radius, eps=config.edge_eps)
    return strongest_label(flatten_labels(labels, config.edge_power), size, enlarge=edges)


def loaded(model: str) -> Encoder:
    if model not in LOADED:
        LOADED[model] = load_model(model)
    return LOADED[model]


def features(one: AnnotatedFrames, encoder: Encoder, geometry: Geometry, layer: int, cache: Path) -> Tensor:
    """Return features [T, D, h, w], float16, from the cache, which is filled if need be."""
    path = cache / f"{encoder.name}-{geometry.input[0]}-{layer}-{one.name}-{len(one.frames)}-features.npy"
    if not path.exists():
        grids = [encode(encoder, [as_frame(frame)], geometry, layer).half() for frame in one.frames]
        draft = path.with_suffix(".part.npy")
        np.save(draft, torch.cat(grids).contiguous().numpy())
        draft.replace(path)
    return torch.from_numpy(np.load(path))
