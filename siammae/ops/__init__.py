"""The one operation of label propagation: every cell of a frame takes its labels from the most similar cells around it.

Letters: N context frames, D channels, L labels, h x w grid cells.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from siammae.ops import reference

Window = Literal["circle", "square"]


def propagate(
    query: Tensor,
    context: Tensor,
    context_labels: Tensor,
    *,
    radius: float | Sequence[float] | Tensor,
    top_k: int,
    temperature: float,
    window: Window = "circle",
    strict: bool = False,
    keep_ties: bool = False,
) -> Tensor:
    """Labels of a frame's cells, as the weighted mean of the labels of their best matches in the context frames.

    A cell's candidates are the cells of each context frame within `radius` of its own position. Of all candidates together the
    `top_k` with the highest dot product s count, with the weights softmax(s / temperature).

    Args:
        query: features [D, h, w] of the frame, of unit length where s shall be the cosine similarity.
        context: features [N, D, h, w] of the context frames; channels last in memory saves a copy.
        context_labels: soft labels [N, L, h, w] of the context frames.
        radius: of the window, in grid cells: one number, or one for each context frame; inf searches everywhere.
        top_k: number of matches; fewer count where the windows hold fewer cells.
        temperature: of the softmax.
        window: "circle" limits the Euclidean distance, "square" the larger of the row and column distance.
        strict: distance < radius instead of distance <= radius.
        keep_ties: let every candidate count that is as similar as the last of the `top_k` (DINO); otherwise exactly `top_k`
            count, of equal ones those that come first in `context`, row by row.

    Returns:
        [L, h, w] in float32 (float64 for float64 features).

    Raises:
        ValueError: shapes, devices or types that do not fit; values outside their range; features that are not finite.
    """
    if query.ndim != 3 or context.ndim != 4 or context.shape[1:] != query.shape or 0 in context.shape:
        raise ValueError(f"query is {list(query.shape)} and context {list(context.shape)}; expected [D, h, w] and [N, D, h, w]")
    num, _, height, width = context.shape
    labels_fit = context_labels.ndim == 4 and context_labels.shape[::2] == (num, height) and context_labels.shape[3] == width
    if not labels_fit or context_labels.shape[1] == 0:
        raise ValueError(f"context_labels are {list(context_labels.shape)}; expected [{num}, L, {height}, {width}]")
    if len({query.device, context.device, context_labels.device}) > 1:
        raise ValueError(f"query, context and labels are on {query.device}, {context.device} and {context_labels.device}")
    if not all(tensor.is_floating_point() for tensor in (query, context, context_labels)):
        raise ValueError(f"features and labels are {query.dtype}, {context.dtype} and {context_labels.dtype}; expected floats")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; expected a positive number")
    if window not in ("circle", "square"):
        raise ValueError(f"window is {window!r}; expected 'circle' or 'square'")
    radii = torch.as_tensor(radius, dtype=torch.float64, device="cpu").expand(num) if _fits(radius, num) else None
    if radii is None or not bool((radii >= 0).all()) or (strict and not bool((radii > 0).all())):
        least = "above 0, since the window is strict" if strict else "0 or more"
        raise ValueError(f"radius is {radius}; expected one number, or one for each of {num} context frames, {least}")
    with torch.autocast(query.device.type, enabled=False):  # similarities of 8 bits would pick other matches
        return reference.propagate(query, context, context_labels, radii, top_k, temperature, window, strict, keep_ties)


def _fits(radius: float | Sequence[float] | Tensor, num: int) -> bool:
    shape = torch.as_tensor(radius).shape
    return shape in {(), (num,)}
