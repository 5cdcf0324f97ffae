"""Random views of signals, drawn for a whole batch at once on its device.

Letters: B batch, C channels, T time steps. Every operation takes ``x`` (B, C, T) in units of the sample's standard
deviation and a generator, changes each sample with its own strength, and leaves it alone with probability 1 - p.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

Operation = Callable[[Tensor, Generator], Tensor]


def _uniform(x: Tensor, low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype) * (high - low) + low


def gain(x: Tensor, generator: Generator) -> Tensor:
    """Multiply by a factor from 0.5 to 2, uniform on a log scale, equal for all channels."""
    return x * torch.exp2(_uniform(x, -1, 1, (len(x), 1, 1), generator))


def noise(x: Tensor, generator: Generator) -> Tensor:
    """Add white noise of 0.01 to 0.4 standard deviations."""
    sigma = _uniform(x, 0.01, 0.4, (len(x), 1, 1), generator)
    return x + sigma * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _smooth(x: Tensor, knots: int, channels: int, generator: Generator) -> Tensor:
    """Return (B, channels, T) smooth curves: normal knots, linearly interpolated."""
    values = torch.randn((len(x), channels, knots), generator=generator, device=x.device, dtype=x.dtype)
    return functional.interpolate(values, size=x.shape[2], mode="linear", align_corners=True)


def drift(x: Tensor, generator: Generator) -> Tensor:
    """Add baseline wander of up to one standard deviation, per channel."""
    return x + _uniform(x, 0, 1, (len(x), 1, 1), generator) * _smooth(x, 5, x.shape[1], generator)


def magnitude_warp(x: Tensor, generator: Generator) -> Tensor:
    """Multiply by a smooth curve around 1 with standard deviation 0.2."""
    return x * (1 + 0.2 * _smooth(x, 6, 1, generator))


def cut_out(x: Tensor, generator: Generator) -> Tensor:
    """Set one span of 5 to 25 % of the window to zero in all channels."""
    length = _uniform(x, 0.05, 0.25, (len(x), 1, 1), generator) * x.shape[2]
    start = _uniform(x, 0, 1, (len(x), 1, 1), generator) * (x.shape[2] - length)
    steps = torch.arange(x.shape[2], device=x.device)
    return x * ~((steps >= start) & (steps < start + length))


def shift(x: Tensor, generator: Generator) -> Tensor:
    """Rotate in time by up to half a window; the seam is one discontinuity."""
    offset = torch.randint(0, x.shape[2], (len(x), 1, 1), generator=generator, device=x.device)
    index = (torch.arange(x.shape[2], device=x.device) + offset) % x.shape[2]
    return x.gather(2, index.expand_as(x))


# Probability of each operation, applied in this order.
OPERATIONS: tuple[tuple[float, Operation], ...] = (
    (0.5, shift),
    (0.5, magnitude_warp),
    (0.8, gain),
    (0.5, drift),
    (0.8, noise),
    (0.5, cut_out),
)


def view(x: Tensor, generator: Generator) -> Tensor:
    """Return one random view of each sample (B, C, T)."""
    for probability, operation in OPERATIONS:
        chosen = torch.rand((len(x), 1, 1), generator=generator, device=x.device) < probability
        x = torch.where(chosen, operation(x, generator), x)
    return x


def continuous_mask(batch: int, length: int, generator: Generator, *, spans: int = 5, share: float = 0.1) -> Tensor:
    """Return (batch, length) bool, False in ``spans`` spans of ``int(share * length)`` steps; overlaps are allowed.

    Source: COMET's ``continuous`` mask; starts are uniform in [0, length - span].
    """
    span = int(share * length)
    starts = torch.randint(0, length - span + 1, (batch, spans, 1), generator=generator, device=generator.device)
    steps = torch.arange(length, device=generator.device)
    return ~((steps >= starts) & (steps < starts + span)).any(1)
