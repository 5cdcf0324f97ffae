"""Global contrast with moving averages: the numbers of V-4 and V-6, the gradient it stands for, a slow loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.pretrain.recipes.sogclr import global_contrast
from tests.objectives.circle import X, Y, at

IDS = torch.tensor([4, 1, 3])
STEPS = [(X, Y), (at(20, 80, 190), at(5, 95, 230))]


def test_v4_and_v6() -> None:
    for gamma, rho, losses, averages, temperatures in (
        (0.9, None, (-2.136492, -1.927623), (1.099497, 0.301097, 0.971225), (0.5, 0.5, 0.5)),
        (0.8, 0.4, (-2.136492, -1.923534), (1.095388, 0.292421, 0.970670), (0.495145, 0.489397, 0.501324)),
    ):
        average, velocity = torch.zeros(2, 6, dtype=torch.float64)
        temperature, seen = torch.full((6,), 0.5, dtype=torch.float64), torch.zeros(6, dtype=torch.bool)
        for (z1, z2), expected in zip(STEPS, losses, strict=True):
            found = global_contrast(
                z1, z2, average=average[IDS], seen=seen[IDS], temperature=temperature[IDS], gamma=gamma
            )
            assert found.loss.item() == pytest.approx(expected, abs=1e-6)
            average[IDS], seen[IDS] = found.average, True
            if rho is not None:
                slope = (found.slope + rho).clamp(-3, 3)
                velocity[IDS] = (velocity[IDS] + slope) / 2
                temperature[IDS] = (temperature[IDS] - 0.03 * velocity[IDS]).clamp(0.05, 1)
            if expected == losses[0] and rho is not None:
                assert slope.tolist() == pytest.approx([-0.050234, 0.127491, 0.312975], abs=1e-6)
                assert average.tolist() == pytest.approx([0, 1.051038, 0, 0.242831, 0.970640, 0], abs=1e-6)
        assert average[[1, 3, 4]].tolist() == pytest.approx(averages, abs=1e-6)
        assert temperature[[1, 3, 4]].tolist() == pytest.approx(temperatures, abs=1e-6)


def objective(z1: Tensor, z2: Tensor, t: float) -> Tensor:
    """What the surrogate's gradient is that of, with averages of this batch alone."""
    z, n = torch.cat([z1, z2]), len(z1)
    total = z.new_zeros(())
    for i in range(2 * n):
        apart = [j for j in range(2 * n) if j % n != i % n]
        total = total - z[i] @ z[(i + n) % (2 * n)] + t * (z[apart] @ z[i] / t).exp().mean().log()
    return total / n


def test_v4_gradient() -> None:
    leaves = [z.clone().requires_grad_() for z in (X, Y)]
    new = {"average": torch.zeros(3), "seen": torch.zeros(3, dtype=torch.bool), "temperature": torch.full((3,), 0.5)}
    surrogate = global_contrast(*leaves, **new, gamma=0.9).loss
    expected = objective(*leaves, 0.5)
    assert expected.item() == pytest.approx(-2.406414, abs=1e-6)
    pairs = zip(torch.autograd.grad(surrogate, leaves), torch.autograd.grad(expected, leaves), strict=True)
    assert all(torch.allclose(got, want, atol=1e-12) for got, want in pairs)


def test_equals_the_loop_with_groups_and_temperatures() -> None:
    generator = torch.Generator().manual_seed(0)
    z1, z2 = normalize(torch.randn(2, 5, 3, dtype=torch.float64, generator=generator), dim=2)
    t, u = torch.rand(2, 5, dtype=torch.float64, generator=generator) + 0.2
    seen, group = torch.tensor([True, False, True, True, False]), torch.tensor([0, 0, 1, 2, 3])
    got = global_contrast(z1, z2, average=u, seen=seen, temperature=t, gamma=0.7, group=group)
    z, terms, averages, slopes = torch.cat([z1, z2]), [], torch.zeros(2, 5), torch.zeros(2, 5)
    for k in range(10):
        i = k % 5
        scores = [float(z[k] @ z[j]) for j in range(10) if group[j % 5] != group[i]]
        e = [math.exp(s / float(t[i])) for s in scores]
        now = sum(e) / len(e)
        average = 0.3 * float(u[i]) + 0.7 * now if seen[i] else now
        weights = [x / average for x in e]
        pull = float(z[k] @ z[(k + 5) % 10])
        terms.append(sum(w * s for w, s in zip(weights, scores, strict=True)) / len(e) - pull)
        averages[k // 5, i] = average
        tilt = sum(w * s / float(t[i]) for w, s in zip(weights, scores, strict=True)) / len(e)
        slopes[k // 5, i] = math.log(average) - tilt
    assert got.loss.item() == pytest.approx(sum(terms) / 5, abs=1e-9)
    assert torch.allclose(got.average.float(), averages.mean(0), atol=1e-6)
    assert torch.allclose(got.slope.float(), slopes.mean(0), atol=1e-6)


def test_one_patient_alone_has_no_loss() -> None:
    leaves = [z.clone().requires_grad_() for z in (X, Y)]
    new = {"average": torch.zeros(3), "seen": torch.zeros(3, dtype=torch.bool), "temperature": torch.full((3,), 0.1)}
    found = global_contrast(*leaves, **new, gamma=0.9, group=torch.zeros(3))
    assert found.loss.item() == 0
    assert not found.valid.any()
    assert all(not g.any() for g in torch.autograd.grad(found.loss, leaves))
