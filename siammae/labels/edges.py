"""Edges: soft labels follow the edges of the picture when they are enlarged to its size.

First, joint bilateral upsampling brings the labels to a guide, a small copy of the picture: a pixel takes the labels of the
cells around it, those of its own color most. Then a guided filter takes each label for a linear function of color in small
windows of the guide, and evaluates the functions at every pixel of the picture.

Sources: Kopf, Cohen, Lischinski and Uyttendaele, Joint Bilateral Upsampling (2007), equation 3; He, Sun and Tang, Guided Image
Filtering (2013), equations 14 to 16 for a guide of three colors; He and Sun, Fast Guided Filter (2015), which fits the
functions on a small guide.
Letters: L labels, H x W pixels, h x w cells, m x n pixels of the guide.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from siammae.labels.grid import upsample
from siammae.video.pictures import check_range

PIXELS_PER_CELL = 4  # pixels of the guide along each side of a cell
NEAR = 0.4  # deviation of the distance at which a cell counts for a pixel, in cells
ROUNDING = 1e-5  # of sums of labels
CHROMA = 3  # weight of a difference in hue or saturation against one in lightness


class EdgeFilter:
    """A filter that enlarges the labels of one frame as `siammae.labels.upsample` does, but along the frame's edges.

    Args:
        frame: [3, H, W], uint8 or float in [0, 1], on the device of the labels.
        grid: (h, w), cells.
        color: deviation of lightness at which a cell counts for a pixel, from 0 to 1; that of hue is a third.
        radius: half of the windows' side, as a share of the picture's shorter side.
        eps: variance of color within a window that counts as an edge.

    Raises:
        ValueError: floats outside [0, 1].
    """

    def __init__(self, frame: Tensor, grid: tuple[int, int], *, color: float, radius: float, eps: float) -> None:
        if frame.dtype != torch.uint8:
            check_range(frame)
        self.size = (grid[0] * PIXELS_PER_CELL, grid[1] * PIXELS_PER_CELL)
        self.radius = max(1, round(radius * min(self.size)))
        self.frame = (frame.float() / 255 if frame.dtype == torch.uint8 else frame.float()) - 0.5  # centered: less rounding
        self.guide = _resize(self.frame, self.size)  # [3, m, n]
        self.weights = self._bilateral(grid, color)  # [9, m, n]
        (self.mean, (rr, rg, rb, gg, gb, bb)) = _moments(self.guide, self.radius)
        # the covariance as L D L^T with unit lower triangular L, which loses less than its inverse where colors depend on
        # one another, as in a gray picture
        self.d0 = rr + eps
        self.l10, self.l20 = rg / self.d0, rb / self.d0
        self.d1 = gg + eps - self.l10 * rg
        rest = gb - self.l10 * rb
        self.l21 = rest / self.d1
        self.d2 = bb + eps - self.l20 * rb - self.l21 * rest

    def __call__(self, planes: Tensor, size: tuple[int, int]) -> Tensor:
        """Enlarge maps [L, h, w] to H x W pixels: [L, H, W].

        Values can leave the range of the maps by a little (see `to_shares`). Maps that add up to 1 everywhere still do.
        """
        slopes, offsets = self._fit(self._join(planes))
        enlarged = upsample(offsets, size)
        for slope, color in zip(slopes, _resize(self.frame, size), strict=True):
            enlarged.addcmul_(upsample(slope, size), color)
        return enlarged

    def _bilateral(self, grid: tuple[int, int], color: float) -> Tensor:
        """Weigh the 3 x 3 cells around the cell of each pixel of the guide, [9, m, n]; they add up to 1."""
        lightness = self.guide.mean(dim=0)
        pixels = lightness + CHROMA * (self.guide - lightness)
        difference = (_around(F.avg_pool2d(pixels, PIXELS_PER_CELL)) - pixels).square().sum(dim=1)
        steps = torch.arange(PIXELS_PER_CELL, dtype=torch.float32, device=pixels.device)
        offset = (steps + 0.5) / PIXELS_PER_CELL - 0.5  # cells
        square = (offset - torch.arange(-1, 2, device=pixels.device)[:, None]).square()  # [3, pixels of a cell]
        distance = (square[:, None, :, None] + square[None, :, None, :]).flatten(0, 1).repeat(1, *grid)
        return torch.softmax(-distance / (2 * NEAR**2) - difference / (2 * color**2), dim=0)

    def _join(self, planes: Tensor) -> Tensor:
        """Bring maps [L, h, w] to the guide's size by the weights of the cells: [L, m, n]."""
        return torch.stack([(_around(plane[None])[:, 0] * self.weights).sum(dim=0) for plane in planes])

    def _fit(self, planes: Tensor) -> tuple[list[Tensor], Tensor]:
        """Fit maps [L, m, n] by linear functions of color: returns three slopes [L, m, n] and offsets [L, m, n]."""
        mean = window_mean(planes, self.radius)
        y0, y1, y2 = (window_mean(planes * self.guide[c], self.radius) - mean * self.mean[c] for c in range(3))
        y1 = y1 - self.l10 * y0
        y2 = y2 - self.l20 * y0 - self.l21 * y1
        blue = y2 / self.d2
        green = y1 / self.d1 - self.l21 * blue
        red = y0 / self.d0 - self.l10 * green - self.l20 * blue
        offset = mean - red * self.mean[0] - green * self.mean[1] - blue * self.mean[2]
        return [window_mean(slope, self.radius) for slope in (red, green, blue)], window_mean(offset, self.radius)


def flatten_labels(labels: Tensor, power: float) -> Tensor:
    """Raise labels [L, ...] to a power and bring them back to their sum, which is 1 with what no label has.

    A power below 1 brings the shares of a place closer together; the inverse power takes them apart again.
    """
    labels = labels.clamp(min=0)
    total = labels.sum(dim=0)
    rest = F.threshold(1 - total, ROUNDING, 0)
    raised = labels.pow(power)
    return raised * ((total + rest) / (raised.sum(dim=0) + rest.pow(power)))


def to_shares(planes: Tensor) -> Tensor:
    """Bring enlarged maps [L, H, W] back to values from 0 to 1, with the same sum and the same strongest label."""
    total = planes.sum(dim=0).clamp(min=0)
    planes = planes.clamp(min=0)
    return (planes * (total / planes.sum(dim=0).clamp(min=torch.finfo(planes.dtype).tiny))).clamp(max=1)


def _around(planes: Tensor) -> Tensor:
    """Repeat each cell's 3 x 3 neighbors, those at the border again, for all its pixels of the guide: [9, L, m, n]."""
    height, width = planes.shape[-2:]
    padded = F.pad(planes[None], (1, 1, 1, 1), mode="replicate")[0]
    shifted = torch.stack([padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)])
    return shifted.repeat_interleave(PIXELS_PER_CELL, -2).repeat_interleave(PIXELS_PER_CELL, -1)


def window_mean(planes: Tensor, radius: int) -> Tensor:
    """Average maps [..., m, n] over squares of side 2 radius + 1 around every pixel, or what of them lies in the picture."""
    for axis in (-1, -2):
        length = planes.shape[axis]
        total = planes.clone()
        for shift in range(1, min(radius, length - 1) + 1):
            total.narrow(axis, shift, length - shift).add_(planes.narrow(axis, 0, length - shift))
            total.narrow(axis, 0, length - shift).add_(planes.narrow(axis, shift, length - shift))
        places = torch.arange(length, device=planes.device)
        count = (places + radius).clamp(max=length - 1) - (places - radius).clamp(min=0) + 1
        planes = total / (count if axis == -1 else count[:, None])
    return planes


def _moments(guide: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Compute means [3, m, n] of a guide [3, m, n] in windows, and the covariances [6, m, n] rr, rg, rb, gg, gb, bb."""
    first, second = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
    mean = window_mean(guide, radius)
    return mean, window_mean(guide[first] * guide[second], radius) - mean[first] * mean[second]


def _resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a picture [3, H, W]."""
    if picture.shape[-2:] == size:
        return picture
    return F.interpolate(picture[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]
