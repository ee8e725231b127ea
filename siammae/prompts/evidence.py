"""Evidence that cells belong to an object, from the similarity of features alone.

A walker steps from cell to cell of the frame, to similar cells more often. Cells that look like the known background soon lead
there; cells of the object lead to one another, and the walk stays among them. So the expected number of steps until the walk
reaches the background tells the object from the background in a box, without a model of either. The expected numbers solve a
linear system: they are the absorption times of a Markov chain (Kemeny and Snell, Finite Markov Chains, 1960, chapter 3), as in
saliency by absorbing chains (Jiang et al., ICCV 2013) and, with clicks as ends, in the random walker (Grady, PAMI 2006).

Letters: n cells, m unknown cells, K clicks.
"""

import torch
from torch import Tensor

SHARPNESS = 0.085  # difference of cosine similarity at which a step is e times less likely
RIDGE = 1e-6  # chance that a walk ends at each step, so that the system can always be solved
LEAK = 0.003  # the same where only clicks are given, and no background
TRUST = 0.5  # weight of a rough mask's share of a cell, beside the weights of all similar cells
REACH = 0.15  # difference of similarity to a click at which its influence is e times less
NEAR = 4.0  # deviation of the distance from a click at which it has influence, in cells
CERTAIN = 1.5  # evidence, in deviations, that a click gives at its own place
NOISE = 0.01  # variance of a click's evidence


def affinity(descriptors: Tensor) -> Tensor:
    """Compute the weights [n, n] of steps between cells from descriptors [n, D] of unit length."""
    weights = torch.exp((descriptors @ descriptors.T - 1) / SHARPNESS)
    return weights.fill_diagonal_(0)


def steps_to_background(weights: Tensor, unknown: Tensor) -> Tensor:
    """Compute the expected number of steps [m] from each unknown cell until a walk first leaves the unknown cells.

    Args:
        weights: [n, n], from `affinity`.
        unknown: [n], bool; the others are background.
    """
    degrees = weights.sum(dim=1)[unknown]
    system = torch.diag(degrees * (1 + RIDGE)) - weights[unknown][:, unknown]
    steps: Tensor = torch.linalg.solve(system, degrees)
    return steps


def chance_to_reach(weights: Tensor, ends: Tensor) -> Tensor:
    """Compute the chance [n] that a walk from each cell reaches a cell of the object before it ends elsewhere.

    Args:
        weights: [n, n], from `affinity`.
        ends: [n], 1 at cells of the object, -1 at cells that are not, 0 at unknown ones. A walk also ends by itself.
    """
    unknown, reached = ends == 0, ends > 0
    system = torch.diag(weights.sum(dim=1)[unknown] * (1 + LEAK)) - weights[unknown][:, unknown]
    chance = reached.float()
    chance[unknown] = torch.linalg.solve(system, weights[unknown][:, reached].sum(dim=1))
    return chance


def smooth_shares(weights: Tensor, shares: Tensor) -> Tensor:
    """Average the shares [n] of a rough mask over similar cells: a share moves to those of the cells that look like its own.

    This is the random walker with a prior (Grady, Multilabel Random Walker Image Segmentation Using Prior Models, 2005).
    """
    degrees = weights.sum(dim=1)
    system = torch.diag(degrees * (1 + TRUST)) - weights
    smooth: Tensor = torch.linalg.solve(system, TRUST * degrees * shares)
    return smooth


def standardize(values: Tensor) -> Tensor:
    """Turn values [m] into evidence: 0 at their threshold, in units of their deviation; equal values are all evidence of 1."""
    deviation = values.std() if len(values) > 1 else values.new_zeros(())
    if not bool(deviation > 1e-4):
        return torch.ones_like(values)
    return (values - split(values)) / deviation


def split(values: Tensor) -> float:
    """Find the threshold that splits values [m], two or more, into the groups with the largest variance between them.

    Source: Otsu, A Threshold Selection Method from Gray-Level Histograms (1979), on the values themselves.
    """
    ordered = values.double().sort().values
    counts = torch.arange(1, len(ordered), device=values.device)
    sums = ordered.cumsum(dim=0)
    below, above = sums[:-1] / counts, (sums[-1] - sums[:-1]) / (len(ordered) - counts)
    best = int((counts * (len(ordered) - counts) * (above - below).square()).argmax())
    return float(ordered[best : best + 2].mean())


def correct(evidence: Tensor, similarity: Tensor, distance: Tensor, cells: Tensor, inside: Tensor) -> Tensor:
    """Correct evidence [n] by clicks: what a click contradicts changes there, and in similar cells nearby.

    The corrections at the clicks are interpolated by a Gaussian process (Rasmussen and Williams 2006, equation 2.23) with a
    kernel of similarity and distance.

    Args:
        evidence: [n].
        similarity: [n, K], cosine similarity to the clicked cells.
        distance: [n, K], to the clicked cells, in cells.
        cells: [K], numbers of the clicked cells.
        inside: [K], bool: the click belongs to the object.
    """
    kernel = torch.exp((similarity - 1) / REACH - distance.square() / (2 * NEAR**2))  # [n, K]
    before = evidence[cells].clamp(-4, 4)
    change = torch.where(inside, (CERTAIN - before).clamp(min=0), (-CERTAIN - before).clamp(max=0))
    system = kernel[cells] + NOISE * torch.eye(len(cells), device=evidence.device)
    corrected: Tensor = evidence + kernel @ torch.linalg.solve(system, change)
    return corrected
