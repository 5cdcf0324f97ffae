"""Wavelet scattering of signals: moduli of wavelets, twice, each averaged over a few steps. Nothing is learned.

Coefficients hardly change when a signal moves by less than the steps they are averaged over, or is stretched a little,
and keep what an average of the first moduli loses in the second: how the loudness of a band varies. Own code on
`torch.fft`: kymatio 0.3 asks scipy for a function that scipy 1.17 removed, and does not import.

Source: Mallat 2012, Andén and Mallat 2014 (deep scattering spectrum), with kymatio's width of a wavelet: neighbours
cross at half their power. Different: coarse wavelets are no longer than the average, at geometric centres all the
same. Letters: n signals, T steps, J octaves, Q wavelets an octave.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from medssl.models.scattering import ALIASES, CENTRE, WIDTH

OCTAVES, PER_OCTAVE = 6, 8


def paths(octaves: int = OCTAVES, per_octave: int = PER_OCTAVE) -> int:
    """Return the coefficients of a signal: the mean, J Q of first order, Q J (J - 1) / 2 of second."""
    return 1 + per_octave * octaves + per_octave * octaves * (octaves - 1) // 2


@functools.lru_cache(maxsize=8)
def filters(length: int, octaves: int = OCTAVES, per_octave: int = PER_OCTAVE) -> tuple[Tensor, Tensor, Tensor]:
    """Return the low pass (T,) and the wavelets of first (J, Q, T) and second order (J, T), real, by frequency.

    Wavelets are scaled so that the Littlewood-Paley sum of either order is at most 1: no energy is made.
    """
    longest = WIDTH * 2 ** (octaves - 1)  # steps: the deviation of the average
    ratio = 2 ** (-1 / per_octave)
    narrow = np.sqrt(np.log(2)) * (1 + ratio) / (1 - ratio) / CENTRE  # steps: neighbours cross at half their power
    low = _gaussian(length, longest, 0.0)
    first = [_wavelet(length, min(longest, narrow * 2 ** (k / per_octave)), CENTRE / 2 ** (k / per_octave))
             for k in range(octaves * per_octave)]  # fmt: skip
    second = [_wavelet(length, WIDTH * 2**j, CENTRE / 2**j) for j in range(octaves)]
    banks = [_bounded(np.stack(bank), low) for bank in (first, second)]
    one, two = (torch.from_numpy(bank).float() for bank in banks)
    return torch.from_numpy(low).float(), one.view(octaves, per_octave, length), two


def _gaussian(length: int, width: float, centre: float) -> np.ndarray:
    """Return the transform (T,) of a Gaussian of ``width`` steps that turns by ``centre`` radians a step."""
    at = 2 * np.pi * np.fft.fftfreq(length)
    return np.sum([np.exp(-((width * (at + 2 * np.pi * turns - centre)) ** 2) / 2) for turns in ALIASES], axis=0)


def _wavelet(length: int, width: float, centre: float) -> np.ndarray:
    """Return a Morlet wavelet (T,), which does not see the mean."""
    wave, still = _gaussian(length, width, centre), _gaussian(length, width, 0.0)
    return np.asarray(wave - wave[0] / still[0] * still)


def both_ways(bank: np.ndarray) -> np.ndarray:
    """Return half the power (T,) of wavelets (F, T) at a frequency and its opposite: what a real signal meets."""
    return ((bank**2 + np.roll(bank[:, ::-1], 1, axis=1) ** 2) / 2).sum(axis=0)


def _bounded(bank: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return wavelets that make no energy together with the low pass."""
    both = both_ways(bank)
    seen = both > 1e-3 * both.max()
    return bank * np.sqrt(((1 - low**2)[seen] / both[seen]).clip(0).min())


def folded(spectrum: Tensor, stride: int) -> Tensor:
    """Return the spectrum (..., T / stride) of what has this spectrum at every ``stride``-th step."""
    return spectrum.unflatten(-1, (stride, -1)).sum(-2)


def scatter(x: Tensor, *, octaves: int = OCTAVES, per_octave: int = PER_OCTAVE) -> Tensor:
    """Return coefficients (n, `paths`, ceil(T / 2^J)) of signals (n, T): the mean, first order, second order.

    A modulus has lower frequencies than its wavelet: the second goes on with coarser octaves alone, and octave j is
    known from every 2^j-th step. Ends are mirrored, because the transform takes signals for periodic.

    Raises:
        ValueError: windows that are too short to be mirrored.
    """
    unit = 2**octaves
    length = x.shape[1]
    if length <= 2 * unit:
        raise ValueError(f"encoder.front: scattering needs windows of more than {2 * unit} steps, not {length}")
    padded = nn.functional.pad(x[:, None], (unit, unit + -length % unit), mode="reflect")[:, 0]
    low, first, second = (bank.to(x.device, x.dtype) for bank in filters(padded.shape[1], octaves, per_octave))

    def average(spectrum: Tensor, stride: int) -> Tensor:
        """Return (..., T / 2^J), without the mirrored ends, of what is known from every ``stride``-th step."""
        rest = unit // stride
        return torch.fft.ifft(folded(spectrum * folded(low, stride), rest) / rest).real[..., 1 : 1 - (-length // unit)]

    def modulus(spectrum: Tensor, waves: Tensor, stride: int) -> Tensor:
        """Return the spectrum of the modulus at every ``stride``-th step of what it is."""
        return torch.fft.fft(torch.fft.ifft(folded(spectrum * waves, stride) / stride).abs())

    whole = torch.fft.fft(padded)
    first_order, second_order = [average(whole, 1)[:, None]], []
    for j in range(octaves):
        one = modulus(whole[:, None], first[j], 2**j)
        first_order.append(average(one, 2**j))
        for coarser in range(j + 1, octaves):
            two = modulus(one, folded(second[coarser], 2**j), 2 ** (coarser - j))
            second_order.append(average(two, 2**coarser))
    return torch.cat([*first_order, *second_order], 1)


class Scattering(nn.Module):
    """Scattering of each channel, normalised by coefficient: (B, C, T) -> (B, C x `paths`, ceil(T / 64)).

    Filters are fixed; the normalisation alone learns.

    Source: Kinakh et al. 2021 (ScatSimCLR), whose images are scattered with J = 2 and 16 angles; the counterpart for
    signals has J = 6 octaves with Q = 8 wavelets each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels * paths()
        # Coefficients of the second order are small: the usual eps would silence most of them.
        self.norm = nn.BatchNorm1d(self.channels, eps=1e-10)

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised coefficients, those of the first channel first."""
        with torch.autocast(x.device.type, enabled=False):
            found = scatter(x.float().flatten(0, 1)).unflatten(0, x.shape[:2]).flatten(1, 2)
        return self.norm(found)
