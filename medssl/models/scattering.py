"""Wavelet scattering of images: moduli of wavelets, twice, averaged over space. Nothing is learned.

Its coefficients do not change when the image moves and hardly when it is bent, and lose no energy that they could
keep. Own code on `torch.fft`: no kept library has it.

Source: Mallat 2012 (Group invariant scattering), Bruna and Mallat 2013, with their Morlet wavelets (centre frequency
3 pi / 4, width 0.8, slant 4 / L). Different: every modulus is averaged over the whole image, not over windows of 2^J,
and the logarithm is taken, as in their classifiers. Letters: n images, H x W pixels, J scales, L angles.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

SCALES, ANGLES = 4, 6
CENTRE, WIDTH = 3 * np.pi / 4, 0.8  # radians a pixel, pixels: of the finest wavelet
ALIASES = (-1, 0, 1)  # turns of 2 pi around which a sampled Gaussian has a part that counts


@functools.lru_cache(maxsize=8)
def filters(shape: tuple[int, int], scales: int = SCALES, angles: int = ANGLES) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the low pass (H, W) and the wavelets (J, L, H, W), real, in the domain of frequencies.

    The wavelets are scaled so that the Littlewood-Paley sum is at most 1 (`littlewood_paley`): no energy is made.
    """
    low = _gaussian(shape, WIDTH * 2 ** (scales - 1), 0.0, 0.0, 1.0)
    slant = 4 / angles
    bank = []
    for j in range(scales):
        for angle in np.arange(angles) * np.pi / angles:
            width, centre = WIDTH * 2**j, CENTRE / 2**j
            wave = _gaussian(shape, width, angle, centre, slant)
            still = _gaussian(shape, width, angle, 0.0, slant)
            bank.append(wave - wave[0, 0] / still[0, 0] * still)  # a wavelet does not see the mean
    waves = np.stack(bank).reshape(scales, angles, *shape)
    room = 1 - low**2
    both = _both_ways(waves).sum(axis=(0, 1))
    waves *= np.sqrt((room / np.maximum(both, 1e-9))[both > 1e-3 * both.max()].clip(0).min())
    return torch.from_numpy(low).float(), torch.from_numpy(waves).float()


def _gaussian(shape: tuple[int, int], width: float, angle: float, centre: float, slant: float) -> np.ndarray:
    """Return the transform (H, W) of a Gaussian of ``width`` pixels along ``angle``, and width / slant across."""
    out = np.zeros(shape)
    for up in ALIASES:
        for right in ALIASES:
            y = 2 * np.pi * (np.fft.fftfreq(shape[0]) + up)[:, None]
            x = 2 * np.pi * (np.fft.fftfreq(shape[1]) + right)[None]
            along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            out += np.exp(-(width**2) / 2 * ((along - centre) ** 2 + (across / slant) ** 2))
    return out


def _both_ways(waves: np.ndarray) -> np.ndarray:
    """Return half the power of wavelets at a frequency and its opposite: what a real image meets."""
    opposite = np.roll(np.flip(waves, axis=(-2, -1)), (1, 1), axis=(-2, -1))
    return (waves**2 + opposite**2) / 2


def littlewood_paley(low: torch.Tensor, waves: torch.Tensor) -> np.ndarray:
    """Return the share of energy (H, W) at each frequency that low pass and wavelets keep together."""
    return (low.numpy() ** 2) + _both_ways(waves.numpy()).sum(axis=(0, 1))


def moduli(images: torch.Tensor, waves: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the modulus (n, F, H / stride, W / stride) of images (n, H, W) under wavelets (F, H, W).

    Products of spectra are folded as they are made, as matrix products over the frequencies that fall together: all of
    them at once would be stride^2 times larger than what is kept, and memory would be the limit.
    """
    spectrum = torch.view_as_real(torch.fft.fft2(images)).permute(3, 0, 1, 2).flatten(0, 1)  # (2 n, H, W)
    kept = (images.shape[1] // stride, images.shape[2] // stride)
    product = _together(spectrum, stride).transpose(1, 2).contiguous() @ (_together(waves, stride) / stride**2)
    parts = product.unflatten(1, (2, -1)).permute(2, 3, 0, 1).contiguous()  # (n, F, places, 2)
    return torch.fft.ifft2(torch.view_as_complex(parts).unflatten(2, kept)).abs()


def _together(values: torch.Tensor, stride: int) -> torch.Tensor:
    """Return values (m, H, W) as (H W / stride^2, stride^2, m): which frequencies become one at ``stride``."""
    cut = values.unflatten(2, (stride, -1)).unflatten(1, (stride, -1))  # (m, stride, h, stride, w)
    return cut.permute(2, 4, 1, 3, 0).flatten(2, 3).flatten(0, 1)


def folded(spectrum: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the spectrum (..., H / stride, W / stride) of what has this spectrum at every ``stride``-th pixel."""
    *batch, height, width = spectrum.shape
    parts = spectrum.reshape(*batch, stride, height // stride, stride, width // stride)
    return parts.sum(dim=(-4, -2))


@torch.inference_mode()
def scatter(images: torch.Tensor, *, scales: int = SCALES, angles: int = ANGLES) -> torch.Tensor:
    """Return coefficients (n, 1 + J L + L^2 J (J - 1) / 2) of images (n, H, W): the mean, first and second order.

    A modulus has lower frequencies than its wavelet: the second goes on with coarser wavelets alone, and scale j is
    known from every 2^j-th pixel. Borders are mirrored, because the transform takes images for periodic.
    """
    height, width = images.shape[-2:]
    margin, unit = 2**scales, 2**scales
    around = (margin, margin + -width % unit, margin, margin + -height % unit)
    padded = torch.nn.functional.pad(images[:, None], around, mode="reflect")[:, 0]
    _, waves = filters((padded.shape[1], padded.shape[2]), scales, angles)

    def mean(values: torch.Tensor, stride: int) -> torch.Tensor:
        """Average over the image itself, without its margin."""
        rows, columns = (slice(margin // stride, -(-(margin + side) // stride)) for side in (height, width))
        return values[..., rows, columns].mean(dim=(-2, -1)).reshape(len(images), -1)

    first_order, second_order = [], []
    for j in range(scales):
        first = moduli(padded, waves[j], 2**j)
        first_order.append(mean(first, 2**j))
        for coarser in range(j + 1, scales):
            second = moduli(first.flatten(0, 1), folded(waves[coarser], 2**j), 2 ** (coarser - j))
            second_order.append(mean(second, 2**coarser))
    return torch.cat([images.mean(dim=(-2, -1))[:, None], *first_order, *second_order], dim=1)
