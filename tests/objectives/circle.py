"""Unit vectors by their angles, as the expected numbers of the specification are given."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def at(*degrees: float) -> Tensor:
    """Return unit rows (n, 2) float64."""
    angle = torch.tensor(degrees, dtype=torch.float64) * (math.pi / 180)
    return torch.stack([angle.cos(), angle.sin()], 1)


A, B, C = at(0, 90, 200, 300), at(10, 70, 215, 330), at(350, 100, 180, 310)
X, Y = at(0, 90, 200), at(10, 70, 215)
