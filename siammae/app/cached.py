"""An encoder that keeps recent features, so that the first preview does not wait for them."""

import hashlib
import threading
import time
from collections import OrderedDict

import numpy as np
from torch import Tensor

from siammae.encoder import Encoder
from siammae.propagation.masks import propagate_labels

MAX_GRIDS = 32  # grids of features to keep


class CachedEncoder(Encoder):
    """An encoder that keeps the features of the last images: an image is encoded once, before or when it is needed.

    Attributes:
        seconds: time of the last encoding of one image, by the size (H, W) of the images.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(
            encoder.vit,
            architecture=encoder.architecture,
            model_args=encoder.model_args,
            mean=encoder.mean,
            std=encoder.std,
            default_size=encoder.default_size,
            name=encoder.name,
            metadata=encoder.metadata,
        )
        self.projection, self.precision, self.runtime = encoder.projection, encoder.precision, encoder.runtime
        self.train(encoder.training)
        self._grids: OrderedDict[bytes, Tensor] = OrderedDict()
        self.seconds: dict[tuple[int, int], float] = {}
        self._lock = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether images are being encoded."""
        return self._lock.locked()

    def forward(self, images: Tensor, *, layer: int = -1) -> Tensor:
        """Return the features [B, D, h, w] of images [B, 3, H, W], from the cache if they are in it."""
        pixels = np.ascontiguousarray(images.detach().float().cpu().numpy())
        key = hashlib.sha256(f"{pixels.shape} {layer}".encode() + pixels.tobytes()).digest()
        with self._lock:
            if key not in self._grids:
                started = time.monotonic()
                self._grids[key] = super().forward(images, layer=layer)
                count, _, height, width = images.shape
                self.seconds[height, width] = (time.monotonic() - started) / count
            self._grids.move_to_end(key)
            if len(self._grids) > MAX_GRIDS:
                self._grids.popitem(last=False)
            return self._grids[key]


def warm_up(encoder: Encoder) -> None:
    """Propagate through two small frames, which loads everything that the first propagation of a process needs."""
    side = 4 * encoder.patch_size
    frames = np.random.default_rng(0).integers(0, 255, (2, side, side, 3), dtype=np.uint8)
    propagate_labels(frames, np.tri(side, dtype=bool), encoder, size=side, progress=False)
