"""SIGReg against a loop, a numeric integral and its mean under the null; which distributions it tells apart."""

from __future__ import annotations

import cmath
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from medssl.objectives.sigreg import epps_pulley, sigreg


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def integrand(x: list[float], t: float) -> float:
    empirical = sum(cmath.exp(1j * t * one) for one in x) / len(x)
    return len(x) * abs(empirical - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2)


def by_loop(z: Tensor, directions: Tensor) -> float:
    """The trapezoid rule on all 17 points, direction by direction."""
    points = np.linspace(-5, 5, 17)
    total = 0.0
    for direction in directions.tolist():
        length = math.sqrt(sum(a * a for a in direction))
        x = [sum(a * b for a, b in zip(row, direction, strict=True)) / length for row in z.tolist()]
        values = [integrand(x, t) for t in points]
        total += sum((a + b) / 2 * 10 / 16 for a, b in itertools.pairwise(values))
    return total / len(directions)


def test_equals_the_loop() -> None:
    z, directions = 1.7 * normal(9, 4) + 0.3, normal(6, 4, seed=1)
    assert sigreg(z, directions).item() == pytest.approx(by_loop(z, directions), abs=1e-10)
    assert sigreg(z, 9 * directions).item() == pytest.approx(sigreg(z, directions).item(), abs=1e-12)
    assert sigreg(z.float(), directions.float()).item() == pytest.approx(by_loop(z, directions), abs=1e-5)


@pytest.mark.parametrize("x", [[0.4], [0.0, 0.0, 0.0], [-1.0, 1.2, 0.3, 0.9], [2.5, 2.6, -0.1]])
def test_is_near_the_integral(x: list[float]) -> None:
    expected, _ = quad(lambda t: integrand(x, t), -np.inf, np.inf)
    assert epps_pulley(torch.tensor(x).double()[:, None]).item() == pytest.approx(expected, rel=1e-3)


def test_all_in_the_middle() -> None:
    # N times the integral of (1 - exp(-t²/2))² exp(-t²/2).
    expected = 10 * math.sqrt(2 * math.pi) * (1 - 2 / math.sqrt(2) + 1 / math.sqrt(3))
    assert epps_pulley(torch.zeros(10, 1)).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("n", [5, 50, 500])
def test_mean_of_gaussian_samples_does_not_depend_on_their_number(n: int) -> None:
    # The integral of (1 - exp(-t²)) exp(-t²/2).
    expected = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
    assert expected == pytest.approx(1.06, abs=0.005)
    assert epps_pulley(normal(n, 4000)).mean().item() == pytest.approx(expected, rel=0.06)


def shapes(n: int = 256, d: int = 8) -> dict[str, Tensor]:
    z = normal(n, d, seed=2)
    sign = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0)[:, None].double()
    return {
        "a point": torch.zeros(n, d),
        "a line": z[:, :1].expand(-1, d) / math.sqrt(d) * math.sqrt(2),
        "shrunk": z / 2,
        "wide": z * 2,
        "moved": z + 0.5,
        "two clusters": torch.cat([3 * sign + 0.1 * z[:, :1], z[:, 1:]], 1),
        "a sphere": torch.nn.functional.normalize(z, dim=1),
        "half": z.relu(),
    }


@pytest.mark.parametrize("shape", shapes())
def test_other_shapes_are_far_from_gaussian(shape: str) -> None:
    directions = normal(256, 8, seed=3)
    usual = max(sigreg(normal(256, 8, seed=seed), directions).item() for seed in range(10, 20))
    assert usual < 2
    assert sigreg(shapes()[shape], directions).item() > 2 * usual


def test_gradients() -> None:
    z, directions = (2 * normal(5, 3)).requires_grad_(), normal(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda z: sigreg(z, directions), z)
    same = torch.ones(6, 3, requires_grad=True)
    assert all(g.isfinite().all() for g in torch.autograd.grad(sigreg(same, directions), same))


def test_order_of_rows_and_directions_is_nothing() -> None:
    z, directions = normal(7, 3), normal(5, 3, seed=1)
    mixed = sigreg(z[torch.tensor([3, 0, 6, 1, 5, 2, 4])], directions.flip(0))
    assert mixed.item() == pytest.approx(sigreg(z, directions).item(), abs=1e-12)


def test_half_precision_stays_full_inside() -> None:
    z, directions = 3 * normal(64, 16).float(), normal(32, 16, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sigreg(z, directions)
    assert inside.dtype == torch.float32
    assert inside.item() == sigreg(z, directions).item()
    for kind in (torch.float16, torch.bfloat16):
        half = (100 * z).to(kind).requires_grad_()
        value = sigreg(half, directions)
        value.backward()
        assert value.isfinite()
        assert half.grad is not None
        assert half.grad.isfinite().all()


def test_following_it_makes_a_line_round() -> None:
    z = (normal(128, 1) * torch.tensor([1.0, 0.5, 0.0]) + 0.01 * normal(128, 3, seed=1)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    spread = [torch.linalg.eigvalsh(torch.cov(z.detach().T))]
    for step in range(200):
        optimizer.zero_grad()
        sigreg(z, normal(64, 3, seed=2 + step)).backward()
        optimizer.step()
    spread.append(torch.linalg.eigvalsh(torch.cov(z.detach().T)))
    assert spread[0][:2].max() < 0.01
    assert torch.allclose(spread[1], torch.ones(3).double(), atol=0.25)
