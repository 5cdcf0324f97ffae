"""SIGReg: embeddings like a standard Gaussian, by what their projections onto random directions look like.

A distribution is the standard Gaussian in d dimensions if its projection onto each direction is the one in one
dimension (Cramér and Wold 1936), so a few hundred directions, drawn anew for each batch, see any other shape in time: a
point, a line, a scale, clusters. Time and memory grow linearly with rows, directions and dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives.rows import full_precision, without_autocast

# The integral runs over |t| <= LIMIT by the trapezoid rule. Both signs of t have the same integrand and t = 0 none at
# all, so that the 17 points of the paper are these 8, counted twice.
LIMIT, POINTS = 5.0, 8


@without_autocast
def epps_pulley(x: Tensor) -> Tensor:
    """Return how far samples are from N(0, 1), (M,): ``N ∫ |mean_n exp(i t x_n) - exp(-t²/2)|² exp(-t²/2) dt``.

    For Gaussian samples it stays near 1 (1.06 in the mean, whatever N); for others it grows with N.

    Args:
        x: (N, M), M samples of N numbers each.

    Source: Epps and Pulley 1983, with mean and variance given instead of fitted; Balestriero and LeCun 2025 (LeJEPA),
    algorithm 1. The weight is neither normalised nor its width an option. Code released later integrates up to 3.
    """
    (x,) = full_precision(x)
    step = LIMIT / POINTS
    t = torch.arange(1, POINTS + 1, dtype=x.dtype, device=x.device) * step
    gaussian = torch.exp(-(t**2) / 2)
    weight = 2 * step * gaussian
    weight[-1] /= 2
    angle = x[..., None] * t
    off = (angle.cos().mean(0) - gaussian).square() + angle.sin().mean(0).square()
    return len(x) * (off @ weight)


@without_autocast
def sigreg(z: Tensor, directions: Tensor) -> Tensor:
    """Return the mean over directions of `epps_pulley` of the projected rows.

    Args:
        z: (N, d) rows of any length; a unit row has a length that a Gaussian one hardly ever has.
        directions: (M, d) standard normal numbers, which are scaled to unit length; the same on all processes.

    Source: Balestriero and LeCun 2025 (LeJEPA), sketched isotropic Gaussian regularisation.
    """
    (z,) = full_precision(z)
    return epps_pulley(z @ normalize(directions.to(z.dtype), dim=1).T).mean()
