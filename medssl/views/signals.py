"""Random views of signals, drawn for a whole batch at once on its device.

Letters: B batch, C channels, T time steps. Every operation takes ``x`` (B, C, T), float32, and the samples' own
random numbers, changes each sample by its own amount, and keeps the shape. Amounts are in the scale of ``x``: the
sample's standard deviation with ``ingest.normalise: sample``, that of the recording or the cohort with theirs.
``strength``, from 0 to 2, scales the range that the amount is drawn from; docstrings say that of 1. How many numbers
are drawn does not depend on it. Nothing waits for the device, and a sample's view is the same whatever batch it is in.
"""

from __future__ import annotations

import math
from functools import lru_cache, wraps
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medssl.views.draws import Draws


class Operation(Protocol):
    """Samples (B, C, T), their numbers and a strength -> samples of the same shape."""

    def __call__(self, x: Tensor, draws: Draws, strength: float = 1.0, /) -> Tensor: ...  # noqa: D102


Plan = tuple[tuple[float, Operation], ...]


def _interpolated(values: Tensor, position: Tensor) -> Tensor:
    """Return (B, C, L) values (B, C, T) read at fractional steps ``position`` (B, L) in [0, T - 1]."""
    # Rounding may put the last position behind the end, where a line would go on.
    position = position.clamp(0, values.shape[2] - 1)
    left = position.floor().clamp_max(max(0, values.shape[2] - 2)).long()
    weight = (position - left)[:, None]
    left = left[:, None].expand(-1, values.shape[1], -1)
    right = (left + 1).clamp_max(values.shape[2] - 1)
    return values.gather(2, left) * (1 - weight) + values.gather(2, right) * weight


def _smooth(draws: Draws, knots: int, channels: int, length: int) -> Tensor:
    """Return (B, channels, T) smooth curves: normal knots, linearly interpolated."""
    return functional.interpolate(draws.normal(channels, knots), size=length, mode="linear", align_corners=True)


@lru_cache(maxsize=32)
def _spline_basis(count: int, length: int, kind: torch.dtype, device: torch.device) -> Tensor:
    """Return (K, L): the natural cubic spline that is 1 at one of K evenly spaced knots and 0 at the others.

    Solved once, in float64 on the host: a solver on the device would wait for its error code in each batch.
    """
    # Second derivatives m for unit spacing: m_0 = m_n = 0 and
    # m_{k-1} + 4 m_k + m_{k+1} = 6 (y_{k-1} - 2 y_k + y_{k+1}).
    system, right = np.eye(count), np.zeros((count, count))
    for k in range(1, count - 1):
        system[k, k - 1 : k + 2] = 1, 4, 1
        right[k, k - 1 : k + 2] = 6, -12, 6
    curvature = np.linalg.solve(system, right)
    position = np.linspace(0, count - 1, length)
    left = np.minimum(position.astype(int), count - 2)
    b = (position - left)[:, None]
    a, eye = 1 - b, np.eye(count)
    basis = a * eye[left] + b * eye[left + 1] + ((a**3 - a) * curvature[left] + (b**3 - b) * curvature[left + 1]) / 6
    return torch.from_numpy(basis.T.copy()).to(device, kind)


def _spline(knots: Tensor, length: int) -> Tensor:
    """Return (B, L) natural cubic splines through evenly spaced knots (B, K), K >= 3.

    A matrix product would round a row differently in batches of different size.
    """
    return (knots[:, :, None] * _spline_basis(knots.shape[1], length, knots.dtype, knots.device)).sum(1)


def _factor(octaves: Tensor) -> Tensor:
    """Return 2 to the power of ``octaves``; on a CPU ``torch.exp2`` rounds by the place in the batch."""
    return torch.exp(octaves * math.log(2))


def gain(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Multiply by a factor from 0.5 to 2, uniform on a log scale, equal for all channels."""
    return x * _factor(draws.uniform(1, 1, low=-strength, high=strength))


def noise(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Add white noise of 0.01 to 0.4 standard deviations."""
    return x + draws.uniform(1, 1, low=0.01 * strength, high=0.4 * strength) * draws.normal(*x.shape[1:])


def drift(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Add baseline wander of up to one standard deviation, per channel."""
    return x + draws.uniform(1, 1, high=strength) * _smooth(draws, 5, x.shape[1], x.shape[2])


def soft_warp(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Multiply by a smooth curve around 1 with standard deviation 0.2."""
    return x * (1 + 0.2 * strength * _smooth(draws, 6, 1, x.shape[2]))


def cut_out(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Set one span of 5 to 25 % of the window to zero in all channels."""
    length = draws.uniform(1, 1, low=0.05 * strength, high=0.25 * strength) * x.shape[2]
    start = draws.uniform(1, 1) * (x.shape[2] - length)
    steps = torch.arange(x.shape[2], device=x.device)
    return x * ~((steps >= start) & (steps < start + length))


def shift(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Rotate in time by up to a whole window; the seam is one discontinuity."""
    offset = draws.integers(x.shape[2], 1, 1)
    index = (torch.arange(x.shape[2], device=x.device) + offset) % x.shape[2]
    return x.gather(2, index.expand_as(x))


def magnitude_warp(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Multiply by a cubic spline through 4 to 6 knots drawn from N(1, 0.2^2), equal for all channels."""
    count = draws.integers(3, 1)
    curves = torch.stack([_spline(1 + 0.2 * strength * draws.normal(knots), x.shape[2]) for knots in (4, 5, 6)], 1)
    chosen = curves.gather(1, count[..., None].expand(-1, 1, x.shape[2]))
    return x * chosen


def faint_noise(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Add white noise of 0.01 to 0.1 of each channel's standard deviation."""
    sigma = draws.uniform(1, 1, low=0.01 * strength, high=0.1 * strength) * x.std(2, keepdim=True, correction=0)
    return x + sigma * draws.normal(*x.shape[1:])


def channel_permute(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Put the channels in a random order. Only where channels are interchangeable, never for leads of an ECG."""
    order = draws.permutation(x.shape[1])
    return x.gather(1, order[:, :, None].expand_as(x))


def warped_time(draws: Draws, length: int, *, knots: int = 4, most: float = 0.05) -> Tensor:
    """Return (B, T) rising positions in [0, T - 1] with fixed ends: ``knots`` inner knots move by <= ``most`` T.

    Knots stand 1 / (knots + 1) of the window apart, at least twice what they move, so their order stays.
    """
    fixed = torch.linspace(0, 1, knots + 2, device=draws.device)[1:-1]
    moved = fixed + draws.uniform(knots, low=-most, high=most)
    ends = torch.zeros_like(moved[:, :1])
    path = torch.cat([ends, moved, ends + 1], 1)[:, None]
    return functional.interpolate(path, size=length, mode="linear", align_corners=True)[:, 0] * (length - 1)


def time_warp(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Stretch and squeeze time along a rising, piecewise linear map with fixed ends, equal for all channels."""
    return _interpolated(x, warped_time(draws, x.shape[2], most=0.05 * strength))


def band_stop(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Set a random band of 5 to 20 % of the spectrum to zero, never the mean."""
    spectrum = torch.fft.rfft(x, dim=2)
    bins = spectrum.shape[2]
    width = draws.uniform(1, 1, low=0.05 * strength, high=0.2 * strength) * bins
    start = 1 + draws.uniform(1, 1) * (bins - 1 - width)
    number = torch.arange(bins, device=x.device)
    return torch.fft.irfft(spectrum * ~((number >= start) & (number < start + width)), n=x.shape[2], dim=2)


def spectral_jitter(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Multiply the spectrum by a smooth random gain, a factor of 0.7 to 1.4 for most bins, equal for all channels."""
    spectrum = torch.fft.rfft(x, dim=2)
    return torch.fft.irfft(
        spectrum * _factor(0.25 * strength * _smooth(draws, 8, 1, spectrum.shape[2])), n=x.shape[2], dim=2
    )


def phase_jitter(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Turn the phase of each frequency by up to 0.3 radians, equal for all channels; mean and Nyquist stay."""
    spectrum = torch.fft.rfft(x, dim=2)
    angle = draws.uniform(1, spectrum.shape[2], low=-0.3 * strength, high=0.3 * strength)
    # These two have no phase in a real signal, and libraries disagree on what to do with one.
    angle[..., 0] = 0
    if x.shape[2] % 2 == 0:
        angle[..., -1] = 0
    return torch.fft.irfft(spectrum * torch.polar(torch.ones_like(angle), angle), n=x.shape[2], dim=2)


def lead_mask(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Set each channel to zero with a probability of its sample between 0 and 0.5; one channel always stays."""
    chance = draws.uniform(x.shape[1], 1)
    lost = chance < draws.uniform(1, 1, high=0.5 * strength)
    return x * ~(lost & (chance < chance.amax(1, keepdim=True)))


def lead_gain(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Multiply each channel by its own factor from 0.7 to 1.4, uniform on a log scale."""
    return x * _factor(draws.uniform(x.shape[1], 1, low=-0.5 * strength, high=0.5 * strength))


def rereference(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Subtract the mean of all channels at each step (average reference). A single channel stays as it is."""
    return x - x.mean(1, keepdim=True) if x.shape[1] > 1 else x


def _at(share: float, operation: Operation) -> Operation:
    """Return an operation at a share of its usual strength."""

    @wraps(operation)
    def weaker(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
        return operation(x, draws, share * strength)

    return weaker


# Probability of each operation, applied in this order. The wearable plans have the published order and probabilities
# (Abbaspourazad et al. 2024); their strengths are ours, since the paper gives none. `spectral` keeps where things
# happen and changes their colour, for rhythms (EEG); `leads` is for recordings with electrodes that come off. `mild` is
# what a reader of the recording would not notice or not mind: at most a tenth of a standard deviation of noise and two
# tenths of wander, a fifth of gain, a twentieth of the window missing, no seam. With `none` a view is the sample, so
# that only other samples of a patient or trial make positives that differ.
PLANS: dict[str, Plan] = {
    "default": ((0.5, shift), (0.5, soft_warp), (0.8, gain), (0.5, drift), (0.8, noise), (0.5, cut_out)),
    "wearable_ppg": (
        (0.4, cut_out),
        (0.25, magnitude_warp),
        (0.25, faint_noise),
        (0.25, channel_permute),
        (0.15, time_warp),
    ),
    "wearable_ecg": ((0.8, cut_out), (0.5, magnitude_warp), (0.5, faint_noise), (0.3, time_warp)),
    "spectral": (
        (0.5, shift),
        (0.5, band_stop),
        (0.5, spectral_jitter),
        (0.3, phase_jitter),
        (0.8, gain),
        (0.5, faint_noise),
    ),
    "leads": ((0.5, shift), (0.5, lead_mask), (0.5, lead_gain), (0.3, rereference), (0.5, drift), (0.8, noise)),
    "mild": ((0.5, _at(0.3, gain)), (0.5, _at(0.2, drift)), (0.5, faint_noise), (0.3, _at(0.2, cut_out))),
    "none": (),
}


MOVING = (shift, time_warp)


def _chance(probability: float, operation: Operation, strength: float) -> float:
    """Return how often an operation is applied: as its plan says, but never at strength 0.

    What has no strength comes more or less often instead. A shift never comes more often: where a window begins means
    nothing, however strong views are to be.
    """
    if operation is shift:
        return probability * min(1.0, strength)
    if operation in (channel_permute, rereference):
        return min(1.0, probability * strength)
    return probability if strength else 0.0


def view(x: Tensor, draws: Draws, plan: Plan = PLANS["default"], strength: float = 1.0) -> Tensor:
    """Return one random view of each sample (B, C, T); where no operation is chosen, the sample itself, bit for bit.

    ``strength`` scales that of all operations, from 0, the sample itself, to 2; which are chosen and how they are
    drawn stays, so that views of different strength differ by it alone.

    Each operation is computed for all samples and kept for those that drew it: to pick them out, the host would have
    to wait for the device.
    """
    for probability, operation in plan:
        chosen = draws.uniform(1, 1) < _chance(probability, operation, strength)
        x = torch.where(chosen, operation(x, draws, strength), x)
    return x


def crop(x: Tensor, draws: Draws, *, share: tuple[float, float], length: int) -> Tensor:
    """Return (B, C, length): a random part of the window, a share of it between the two, resampled linearly.

    For the small crops of SwAV. Nothing is filtered before, so ``length`` should not be far below the part's steps.
    """
    part = draws.uniform(1, low=share[0], high=share[1]) * (x.shape[2] - 1)
    start = draws.uniform(1) * (x.shape[2] - 1 - part)
    step = part / max(1, length - 1)
    return _interpolated(x, start + step * torch.arange(length, device=x.device))


def part(x: Tensor, draws: Draws, steps: int) -> tuple[Tensor, Tensor]:
    """Return (B, C, steps): a random part of each window, as it is; and its map (B, 1, 2) to the window.

    The map sends the part's ends, at -1 and 1, to where they are in a window from -1 to 1.
    """
    length = x.shape[2]
    start = draws.integers(length - steps + 1, 1, 1)
    index = start + torch.arange(steps, device=x.device)
    centre = (2 * start + steps) / length - 1
    place = torch.cat([torch.full_like(centre, steps / length), centre], 2)
    return x.gather(2, index.expand(-1, x.shape[1], -1)), place


def plan_of(name: str, modality: str) -> Plan:
    """Return a plan by its name; ``wearable`` follows the modality.

    Channels of a PPG are interchangeable colours; leads of an ECG or sites of an EEG are not.
    """
    if name == "wearable":
        name = "wearable_ppg" if modality == "ppg" else "wearable_ecg"
    return PLANS[name]


def still(plan: Plan) -> Plan:
    """Return the operations of a plan that leave everything where it is in time."""
    return tuple((probability, operation) for probability, operation in plan if operation not in MOVING)
