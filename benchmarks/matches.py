"""Matches of every frame of a sequence, found once, from which labels are propagated with many settings.

Which cells match depends on features alone. The NUM_MATCHES best cells within RADIUS, in the first frame and the CONTEXT frames
before, are kept; a setting takes the best of those that its own window and context admit. This is what
`siammae.propagation` does, unless a cell has fewer admitted matches than `top_k` among those kept; and similarities are kept in
float16, so scores differ a little from those of `siammae evaluate`.
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
from siammae.features import encode
from siammae.geometry import Geometry, frame_size
from siammae.propagation import PropagationConfig
from siammae.video import as_frame

NUM_MATCHES, RADIUS, CONTEXT = 30, 12, 20
LOADED: dict[str, Encoder] = {}


class Sequence:
    """Matches [T, k, h w] of the frames of one sequence.

    Attributes:
        geometry: sizes of frames, input and grid.
        similarities: of the matches; below -1 where there is none.
        cells: numbers of the matches' cells, counted from the first frame on.
    """

    def __init__(self, one: AnnotatedFrames, model: str, size: int, layer: int, cache: Path) -> None:
        encoder = loaded(model)
        self.geometry = Geometry.of(frame_size(as_frame(one.frames[0])), encoder, size)
        path = cache / f"{encoder.name}-{self.geometry.input[0]}-{layer}-{one.name}-{len(one.frames)}-matches.npz"
        if not path.exists():
            draft = path.with_suffix(".part.npz")
            similarities, cells = find(features(one, encoder, self.geometry, layer, cache))
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
            similarities = torch.where(self._admitted(t, config), self.similarities[t], -2)
            best, order = similarities.topk(config.top_k, dim=0)
            weights = torch.softmax(best / config.temperature, dim=0) * (best > -2)
            matched = labels.flatten(0, 1)[self.cells[t].gather(0, order)]  # [k, h w, L]
            result.append((weights[..., None] * matched).sum(dim=0).T.unflatten(1, (height, width)))
            labels[t] = (remember(result[-1]) if remember else result[-1]).flatten(1).T
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
    """Find the matches of every frame of features [T, D, h, w]: similarities and cells, both [T, k, h w]."""
    num_frames, _, height, width = grids.shape
    similarities = torch.full((num_frames, NUM_MATCHES, height * width), -2.0)
    cells = torch.zeros(similarities.shape, dtype=torch.int64)
    for t in range(1, num_frames):
        context = [0, *range(max(1, t - CONTEXT), t)]
        options = {"radius": RADIUS, "top_k": NUM_MATCHES, "temperature": 1.0, "return_matches": True}
        labels = torch.zeros(len(context), 1, height, width)
        _, matches = ops.propagate(grids[t].float(), grids[context].float(), labels, **options)
        similarity, index = matches.similarities.flatten(1), matches.indices.flatten(1)
        similarities[t, : len(index)] = similarity
        cells[t, : len(index)] = torch.tensor(context)[index // (height * width)] * height * width + index % (height * width)
    return similarities, cells


def loaded(model: str) -> Encoder:
    if model not in LOADED:
        LOADED[model] = load_model(model)
    return LOADED[model]


def features(one: AnnotatedFrames, encoder: Encoder, geometry: Geometry, layer: int, cache: Path) -> Tensor:
    """Return features [T, D, h, w] of unit length, float16, from the cache, which is filled if need be."""
    path = cache / f"{encoder.name}-{geometry.input[0]}-{layer}-{one.name}-{len(one.frames)}.npy"
    if not path.exists():
        grids = [F.normalize(encode(encoder, [as_frame(frame)], geometry, layer).float(), dim=1).half() for frame in one.frames]
        draft = path.with_suffix(".part.npy")
        np.save(draft, torch.cat(grids).contiguous().numpy())
        draft.replace(path)
    return torch.from_numpy(np.load(path))
