"""Masks: which time steps (and latent channels) an encoder may see, COMET's, and boxes to be told by the rest.

Letters: B batch, T time steps, C latent channels. A mask is (B, T) or (B, T, C) bool, True = keep. All take the same
arguments, so that a recipe names one in the table; masks of time ignore ``channels``.

Source: Wang et al. 2023 (COMET) and its code, after TS2Vec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medssl.views.draws import Draws

Mask = Callable[[Draws, int, int], Tensor]


def _spans(draws: Draws, length: int, *, spans: int, share: float) -> Tensor:
    """Return (B, spans, T) bool, True inside a span of ``int(share * length)`` steps that lies wholly in the window."""
    span = int(share * length)
    starts = draws.integers(length - span + 1, spans, 1)
    steps = torch.arange(length, device=draws.device)
    return (steps >= starts) & (steps < starts + span)


def boxes(draws: Draws, size: Sequence[int], *, number: int, share: float) -> Tensor:
    """Return (B, *size) bool, True in ``number`` random spans of a signal or boxes of an image, one step at least.

    They may overlap, and go on at the start of an axis where its end cuts them, so that each step is as often in one.
    Together they cover ``share`` of a sample on average, as far as whole steps can; many with a large share cover some
    samples wholly.
    """
    side = (1 - (1 - share) ** (1 / number)) ** (1 / len(size))
    covered = torch.zeros((len(draws), *size), dtype=torch.bool, device=draws.device)
    axes = []
    for n in size:
        steps = torch.arange(n, device=draws.device)
        axes.append((steps - draws.integers(n, number, 1)) % n < max(1, round(side * n)))  # (B, number, n)
    for k in range(number):  # all at once would be as much memory again for each box
        box = axes[0][:, k]
        for inside in axes[1:]:
            box = box[..., None] & inside[:, k].view(len(draws), *[1] * (box.ndim - 1), -1)
        covered |= box
    return covered


def all_true(draws: Draws, length: int, channels: int = 1) -> Tensor:
    """Return (B, T): keep everything; two passes differ only by dropout."""
    return torch.ones((len(draws), length), dtype=torch.bool, device=draws.device)


def continuous(draws: Draws, length: int, channels: int = 1, *, spans: int = 5, share: float = 0.1) -> Tensor:
    """Return (B, T): hide ``spans`` spans of ``int(share * length)`` steps; they may overlap.

    Starts are uniform in [0, length - span], so that the border is hardly ever hidden: 40 % of 300 steps are hidden
    on average, 2 % at the first step.
    """
    return ~_spans(draws, length, spans=spans, share=share).any(1)


def binomial(draws: Draws, length: int, channels: int = 1, *, keep: float = 0.5) -> Tensor:
    """Return (B, T): keep each step with probability ``keep``."""
    return draws.uniform(length) < keep


def channel_continuous(draws: Draws, length: int, channels: int, *, spans: int = 5, share: float = 0.1) -> Tensor:
    """Return (B, T, C): the spans of `continuous`, each of which hides its own random half of the channels."""
    inside = _spans(draws, length, spans=spans, share=share)
    half = draws.permutation(channels, spans) < channels // 2
    hidden = torch.zeros((len(draws), length, channels), dtype=torch.bool, device=draws.device)
    for i in range(spans):
        # All spans at once would be five times the memory of the largest tensor here.
        hidden |= inside[:, i, :, None] & half[:, i, None, :]
    return ~hidden


def channel_binomial(draws: Draws, length: int, channels: int, *, keep: float = 0.5) -> Tensor:
    """Return (B, T, C): keep each step of each channel with probability ``keep``."""
    return draws.uniform(length, channels) < keep


_ALL = (all_true, continuous, binomial, channel_continuous, channel_binomial)
MASKS: dict[str, Mask] = {mask.__name__: mask for mask in _ALL}
