"""Scattering of signals: a slow loop, energy, bands, and what a shift changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl import models
from medssl.models import scattering1d
from medssl.models.scattering import CENTRE, WIDTH
from medssl.models.scattering1d import Scattering, scatter


def signals(n: int = 2, steps: int = 400) -> torch.Tensor:
    """Return noise (n, T) that is smooth, as recordings are."""
    spectrum = torch.fft.rfft(torch.randn(n, steps, generator=torch.Generator().manual_seed(0)))
    return torch.fft.irfft(spectrum / (0.05 + torch.fft.rfftfreq(steps)), steps)


def slow(x: np.ndarray, octaves: int, each: int) -> np.ndarray:
    """Return coefficients (paths, T / 2^J) of one signal (T,), from every step of every modulus."""
    unit, length = 2**octaves, len(x)
    padded = np.pad(x, (unit, unit + -length % unit), mode="reflect")
    low, first, second = (bank.double().numpy() for bank in scattering1d.filters(len(padded), octaves, each))

    def through(y: np.ndarray, wave: np.ndarray) -> np.ndarray:
        return np.fft.ifft(np.fft.fft(y) * wave)

    def mean(y: np.ndarray) -> np.ndarray:
        return through(y, low).real[unit : unit - (-length // unit) * unit : unit]

    ones, twos = [mean(padded)], []
    for j in range(octaves):
        moduli = [np.abs(through(padded, first[j, q])) for q in range(each)]
        ones += [mean(one) for one in moduli]
        for coarser in range(j + 1, octaves):
            twos += [mean(np.abs(through(one, second[coarser]))) for one in moduli]
    return np.stack([*ones, *twos])


@pytest.mark.parametrize(("octaves", "each", "steps"), [(4, 3, 400), (6, 8, 500), (3, 1, 129)])
def test_it_is_the_slow_loop(octaves: int, each: int, steps: int) -> None:
    x = signals(2, steps)
    got = scatter(x, octaves=octaves, per_octave=each)
    assert got.shape == (2, scattering1d.paths(octaves, each), -(-steps // 2**octaves))
    for n in range(2):
        expected = slow(x[n].double().numpy(), octaves, each)
        # Moduli from every 2^j-th step: what lies above is folded, a little.
        size = np.abs(expected).max(1, keepdims=True)
        assert (np.abs(got[n].numpy() - expected) / size).max() < 0.12
        assert np.corrcoef(got[n].flatten(), expected.ravel())[0, 1] > 0.999


def test_the_published_number_of_coefficients() -> None:
    assert scattering1d.paths() == 1 + 48 + 120
    assert Scattering(12).channels == 12 * 169


def test_no_energy_is_made() -> None:
    low, first, second = scattering1d.filters(1024)
    for bank in (first.flatten(0, 1), second):
        kept = low.numpy() ** 2 + scattering1d.both_ways(bank.numpy())
        assert kept.max() == pytest.approx(1, abs=1e-4)
        assert bank[:, 0].abs().max() < 1e-6  # a wavelet does not see the mean
    assert second.shape == (6, 1024)


@pytest.mark.parametrize("number", [0, 5, 11, 20, 30])
def test_a_tone_answers_in_its_own_band(number: int) -> None:
    tone = torch.cos(CENTRE / 2 ** (number / 8) * torch.arange(1024))
    assert int(scatter(tone[None])[0, 1:49].mean(1).argmax()) == number


def test_how_a_band_varies_is_second_order() -> None:
    """Two tones of one power, one of which swells: the average of the band is alike, its second moduli are not."""
    steps = torch.arange(1024)
    tone = torch.cos(CENTRE / 2 * steps)
    swelling = tone * (1 + torch.cos(CENTRE / 2**4 * steps)) / 1.5**0.5
    still, moving = (scatter(x[None])[0].mean(1) for x in (tone, swelling))
    first, second = 1 + 8, 49 + 8 * 5 + 8 * 2  # octave 1; octave 1 and then 4
    assert moving[first] == pytest.approx(float(still[first]), rel=0.25)
    assert moving[second] > 10 * still[second]


def test_a_small_shift_changes_moduli_less_than_waves() -> None:
    x = torch.randn(2, 1032, generator=torch.Generator().manual_seed(0))

    def changed(one: torch.Tensor, moved: torch.Tensor) -> float:
        return float((one - moved).norm() / (one[0] - one[1]).norm())

    one, moved = x[:, 4:-4], x[:, 8:]
    assert changed(scatter(one)[:, 1:], scatter(moved)[:, 1:]) < 0.3 * changed(one, moved)


def test_the_front_of_an_encoder() -> None:
    options = {"in_channels": 2, "front": "scattering", "pool": "stages", "widths": (4, 4, 8, 8)}
    encoder = models.build("convnet1d", **options, seed=0)  # type: ignore[arg-type]
    x = torch.stack([signals(2), 10 * signals(2)])
    z = encoder(x)
    assert encoder.embedding_dim == z.shape[1] == 2 * (2 * 169 + 24)
    z.square().sum().backward()
    trained = dict(encoder.named_parameters())
    assert {name for name in trained if name.startswith("front")} == {"front.norm.weight", "front.norm.bias"}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    flat = encoder(torch.zeros(2, 2, 400, requires_grad=True))
    assert flat.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(x).isfinite().all()


def test_windows_that_are_too_short_are_refused() -> None:
    encoder = models.build("convnet1d", in_channels=1, front="scattering", seed=0)
    with pytest.raises(ValueError, match=r"encoder\.front: scattering needs windows of more than 128 steps, not 128"):
        encoder(torch.zeros(2, 1, 128))


def test_wavelets_are_as_narrow_as_kymatios() -> None:
    """Neighbours of eight an octave cross at half their power, where they are not longer than the average."""
    _, first, _ = scattering1d.filters(4096)
    one, two = first[0, 2].numpy(), first[0, 3].numpy()
    between = 2 ** (-2.5 / 8) * CENTRE / (2 * np.pi) * 4096
    at = round(between)
    assert one[at] / one.max() == pytest.approx(0.5**0.5, abs=0.03)
    assert two[at] / two.max() == pytest.approx(0.5**0.5, abs=0.03)
    assert WIDTH == 0.8


def test_small_coefficients_of_smooth_signals_are_heard_too() -> None:
    steps = torch.arange(250) / 50
    phase = 2 * torch.pi * torch.rand(16, 1, 1, generator=torch.Generator().manual_seed(0))
    smooth = torch.sin(2 * torch.pi * 1.2 * steps + phase) + 0.3 * torch.sin(2 * torch.pi * 2.4 * steps + 2 * phase)
    deviation = Scattering(1)(smooth).transpose(0, 1).flatten(1).std(1)
    assert deviation.min() > 0.8
