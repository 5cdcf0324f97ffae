"""Energy, invariance and bands of the scattering transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.models import scattering


def images(n: int = 3, shape: tuple[int, int] = (64, 48)) -> torch.Tensor:
    """Return smooth noise (n, H, W)."""
    rng = np.random.default_rng(0)
    noise = np.fft.fft2(rng.standard_normal((n, *shape)))
    far = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    return torch.from_numpy(np.fft.ifft2(noise / (0.05 + far)).real).float()


@pytest.mark.parametrize("shape", [(64, 64), (96, 128), (48, 80)])
@pytest.mark.parametrize("angles", [4, 6, 8])
def test_the_bank_makes_no_energy(shape: tuple[int, int], angles: int) -> None:
    low, waves = scattering.filters(shape, 3, angles)
    kept = scattering.littlewood_paley(low, waves)
    assert kept.max() <= 1 + 1e-5
    assert kept.max() > 0.99
    assert kept[0, 0] == pytest.approx(1, abs=1e-4)
    assert waves[..., 0, 0].abs().max() < 1e-6  # no wavelet sees the mean
    within = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]) < 0.4
    assert kept[within].min() > 0.2


def test_energy_does_not_grow() -> None:
    """Low pass and moduli keep at most the energy of what went in, in each order and over all paths."""
    x = images()
    low, waves = scattering.filters((64, 48), 3, 6)
    first = scattering.moduli(x, waves.flatten(0, 1), 1)
    mean = torch.fft.ifft2(torch.fft.fft2(x) * low).real
    energy = x.square().sum(dim=(-2, -1))
    assert (mean.square().sum(dim=(-2, -1)) + first.square().sum(dim=(1, 2, 3)) <= energy * (1 + 1e-4)).all()
    second = scattering.moduli(first.flatten(0, 1), waves.flatten(0, 1), 1)
    of_first = first.square().sum(dim=(-2, -1)).flatten()
    assert (second.square().sum(dim=(1, 2, 3)) <= of_first * (1 + 1e-4)).all()


def test_like_a_slow_loop_without_strides() -> None:
    """Every 2^j-th pixel of a modulus has its mean, up to what a mean over fewer pixels differs by."""
    x = images(2)
    scales, angles, margin = 3, 4, 8
    padded = torch.nn.functional.pad(x[:, None], (margin,) * 4, mode="reflect")[:, 0]
    _, waves = scattering.filters((80, 64), scales, angles)

    def modulus(image: torch.Tensor, wave: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft2(torch.fft.fft2(image) * wave).abs()

    for n in range(len(x)):
        first, second = [], []
        for j in range(scales):
            for a in range(angles):
                once = modulus(padded[n], waves[j, a])
                first.append(once[margin:-margin, margin:-margin].mean())
        for j in range(scales):
            for coarser in range(j + 1, scales):
                for a in range(angles):
                    for b in range(angles):
                        twice = modulus(modulus(padded[n], waves[j, a]), waves[coarser, b])
                        second.append(twice[margin:-margin, margin:-margin].mean())
        got = scattering.scatter(x, scales=scales, angles=angles)[n]
        assert got[0] == pytest.approx(float(x[n].mean()), abs=1e-5)
        slow = torch.stack([*first, *second])
        assert got[1:].shape == slow.shape == (12 + 16 * 3,)
        assert got[1:].numpy() == pytest.approx(slow.numpy(), rel=0.12)
        assert np.corrcoef(got[1:], slow)[0, 1] > 0.999


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("angle", [0, 1, 3])
def test_a_sinusoid_answers_in_its_own_band(scale: int, angle: int) -> None:
    y, x = np.mgrid[:64, :64]
    centre, direction = scattering.CENTRE / 2**scale, np.pi * angle / 4
    wave = np.cos(centre * (x * np.cos(direction) + y * np.sin(direction)))
    got = scattering.scatter(torch.from_numpy(wave[None]).float(), scales=3, angles=4)[0, 1:13].reshape(3, 4)
    assert divmod(int(got.argmax()), 4) == (scale, angle)


def test_a_moved_image_has_the_same_coefficients() -> None:
    field = torch.zeros(1, 64, 64)
    field[0, 24:40, 24:40] = images(1, (16, 16))[0]
    before, moved = (scattering.scatter(f) for f in (field, field.roll((5, -7), (1, 2))))
    other = torch.zeros(1, 64, 64)
    other[0, 24:40, 24:40] = images(2, (16, 16))[1]
    change = (moved - before).norm() / before.norm()
    assert change < 0.05
    assert change < 0.3 * (scattering.scatter(other) - before).norm() / before.norm()
