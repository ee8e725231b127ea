"""Foreign frames: a black picture, a flash, a cut to another place, in which no object of the anchors can be."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

CELLS = 400  # cells of a frame that are compared
WINDOW = 4 / 30  # how far from its own place a cell looks for its like, as a share of the grid's shorter side
LEAST_DEVIATION = 1e-3  # of features from their mean, at which a cell counts as different from the frame


class Scene:
    """The newest anchor and the last frame that belonged to the scene, for telling whether a frame goes on from them.

    Features are taken without their mean over the frame, so that light and blur, which change all cells alike, count little.
    """

    def __init__(self) -> None:
        self._frames = torch.empty(0, 0, 0, 0, dtype=torch.float32, device="cpu")  # [2, D + 1, h, w]: anchor, last frame
        self._chance = torch.zeros((), dtype=torch.float32, device="cpu")

    def anchor(self, features: Tensor) -> None:
        """Start from an anchor with features [D, h, w]."""
        frame = _centered(features)
        with torch.inference_mode(False):
            self._frames = torch.stack([frame, frame]).clone()
        # what two frames have in common whose places do not correspond
        self._chance = (_similarity(frame.flip(1), frame) + _similarity(frame.flip(2), frame)) / 2

    def keep(self, features: Tensor) -> None:
        """Take a frame with features [D, h, w] as the last one of the scene."""
        self._frames[1] = _centered(features)

    def continuity(self, features: Tensor) -> float:
        """Compare a frame with features [D, h, w] with the last one and with the anchor.

        Returns:
            The mean similarity of its cells to the most similar ones near the same place, from 0 to 1: 1 is the same frame, 0
            no more than the anchor has with its mirror images, in which places do not correspond.
        """
        frame = _centered(features)
        similarity = max(float(_similarity(frame, known)) for known in self._frames)
        return max(0.0, 1 - (1 - similarity) / max(1 - float(self._chance), 0.05))

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that `load_state_dict` needs."""
        return {"scene": self._frames.clone(), "scene_chance": self._chance.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become the scene whose `state_dict` this is."""
        device = self._frames.device
        with torch.inference_mode(False):
            self._frames, self._chance = state["scene"].to(device).clone(), state["scene_chance"].to(device).clone()


def _centered(features: Tensor) -> Tensor:
    """Return features [D + 1, h, w] of unit length without their mean; a constant channel keeps those of a flat frame alike."""
    deviation = features - features.mean(dim=(1, 2), keepdim=True)
    return F.normalize(torch.cat([deviation, torch.full_like(deviation[:1], LEAST_DEVIATION)]), dim=0)


def _similarity(frame: Tensor, other: Tensor) -> Tensor:
    """Average the similarity of evenly spaced cells of a frame [D, h, w] to the most similar cells near the same place."""
    height, width = frame.shape[1:]
    step, reach = max(1, math.ceil(math.sqrt(height * width / CELLS))), max(1, round(min(height, width) * WINDOW))
    rows, columns = (torch.arange(size, device=frame.device) for size in (height, width))
    chosen = frame[:, ::step, ::step].flatten(1)  # [D, k]
    similarity = (chosen.T @ other.flatten(1)).reshape(len(rows[::step]), len(columns[::step]), height, width)
    far_up, far_aside = ((places[::step, None] - places).abs() > reach for places in (rows, columns))
    return similarity.masked_fill(far_up[:, None, :, None] | far_aside[:, None], -1).amax(dim=(2, 3)).mean()
