"""Embeddings made from embeddings: the numbers of V-16, distributions, loops, and what turns with the rows."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import latent
from tests.objectives.circle import at


def rows(n: int, d: int = 3, seed: int = 0) -> Tensor:
    return normalize(torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1)


def turn(d: int = 3) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(9)))[0]


@pytest.mark.parametrize("alpha", [0.8, 1.0, 1.6, 2.0, 5.0])
def test_symmetric_beta(alpha: float) -> None:
    drawn = latent.symmetric_beta(torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)), alpha)
    assert stats.kstest(drawn.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert latent.symmetric_beta(torch.zeros(1, 2), alpha).item() == 0.5


def test_symmetric_beta_refuses() -> None:
    with pytest.raises(ValueError, match=r"alpha is 0.5; expected more than 0.5"):
        latent.symmetric_beta(torch.zeros(1, 2), 0.5)


def test_v16_extrapolation() -> None:
    q, k = at(0), at(40)
    assert (q * k).sum().item() == pytest.approx(0.766044, abs=1e-6)
    a, b = latent.extrapolated(q, k, torch.tensor([1.5], dtype=torch.float64))
    assert (a * b).sum().item() == pytest.approx(0.415111, abs=1e-6)


def test_extrapolation_follows_its_formula_and_only_queries_have_a_gradient() -> None:
    q, k, factor = rows(4).requires_grad_(), rows(4, seed=1).requires_grad_(), 1 + torch.rand(4, dtype=torch.float64)
    a, b = latent.extrapolated(q, k, factor)
    s = (q * k).sum(1).detach()
    assert torch.allclose((a * b).sum(1), 2 * factor * (1 - factor) * (1 - s) + s)
    assert ((a * b).sum(1) <= s + 1e-12).all()
    (a * b).sum().backward()
    assert k.grad is None
    # Along the sphere the score is (l² + (1 - l)²) s and a constant.
    assert q.grad is not None
    along = (factor**2 + (1 - factor) ** 2)[:, None] * k.detach()
    for got, expected, at_point in zip(q.grad, along, q.detach(), strict=True):
        tangent = torch.eye(3, dtype=torch.float64) - at_point[:, None] * at_point
        assert torch.allclose(tangent @ got, tangent @ expected)


def test_interpolation_equals_the_loop() -> None:
    z, share, order = rows(5), torch.rand(5, dtype=torch.float64), torch.tensor([3, 1, 0, 4, 2])
    made = latent.interpolated(z, share, order)
    for i in range(5):
        assert torch.allclose(made[i], share[i] * z[i] + (1 - share[i]) * z[order[i]])
    assert torch.allclose(latent.interpolated(z @ turn(), share, order), made @ turn())


def test_kmeans_finds_bundles_and_keeps_empty_centres() -> None:
    z = at(1, 2, 3, 119, 120, 121, 239, 240, 241)
    centres = latent.spherical_kmeans(z, 3)
    assert torch.allclose(centres, at(2, 120, 240))
    assert torch.allclose(latent.spherical_kmeans(z @ turn(2), 3), centres @ turn(2))
    double = latent.spherical_kmeans(at(7, 7, 7, 90), 4)  # the second and third are nearest to nobody
    assert torch.allclose(double, at(7, 7, 7, 90))
    with pytest.raises(ValueError, match="5 centres of 4 rows; expected 1 to 4"):
        latent.spherical_kmeans(at(0, 1, 2, 3), 5)


def test_kmeans_does_no_worse_each_round() -> None:
    z = rows(60)
    near = [(z @ latent.spherical_kmeans(z, 6, rounds=r).T).amax(1).sum().item() for r in (0, 1, 2, 5, 20)]
    assert near == sorted(near)
    assert near[-1] > near[0] + 1


def test_v16_halp() -> None:
    limit, omega = latent.farthest(at(10), at(0), at(80))
    assert (limit / omega).item() == pytest.approx(3 / 7, abs=1e-9)
    made, kept = latent.hallucinated(at(10), at(0, 80), torch.tensor([[0, 0]]), torch.tensor([[1.0, 0.99]]))
    assert math.degrees(math.atan2(made[0, 0, 1], made[0, 0, 0])) == pytest.approx(40)
    assert (made[0, 0] @ at(0, 80).T).tolist() == pytest.approx([0.766044] * 2, abs=1e-6)
    assert kept[0, 1]


def test_made_positives_equal_the_published_steps_along_the_circle() -> None:
    k, prototypes = rows(6), rows(5, seed=1)
    generator = torch.Generator().manual_seed(2)
    towards, share = torch.randint(0, 4, (6, 30), generator=generator), torch.rand(6, 30, generator=generator).double()
    made, kept = latent.hallucinated(k, prototypes, towards, share)
    seen = 0
    for i in range(6):
        p0 = int((prototypes @ k[i]).argmax())
        for j in range(30):
            other = prototypes[(p0 + 1 + int(towards[i, j])) % 5]
            omega = torch.arccos(other @ k[i])
            ratio = (1 - other @ prototypes[p0]) / (k[i] @ (prototypes[p0] - other))
            if ratio + omega.cos() <= 0:  # the published arctangent is of the other branch there
                continue
            t = share[i, j] * torch.atan(omega.sin() / (ratio + omega.cos())) / omega
            point = (((1 - t) * omega).sin() * k[i] + (t * omega).sin() * other) / omega.sin()
            assert torch.allclose(made[i, j], point, atol=1e-9)
            assert kept[i, j] == (int((prototypes @ point).argmax()) == p0)
            seen += 1
    assert seen > 150
    assert 20 < kept.sum() < 180
    turned, same = latent.hallucinated(k @ turn(), prototypes @ turn(), towards, share)
    assert torch.allclose(turned, made @ turn())
    assert torch.equal(same, kept)


def test_made_positives_are_finite_at_duplicates_and_antipodes() -> None:
    k, prototypes = at(0, 0, 180, 90), at(0, 0, 180, 90)
    towards = torch.arange(3).expand(4, 3)
    for dtype in (torch.float64, torch.float16):
        made, _ = latent.hallucinated(k.to(dtype), prototypes.to(dtype), towards, torch.full((4, 3), 0.7))
        assert made.isfinite().all()
        assert torch.allclose(made.norm(dim=2).double(), torch.ones(4, 3, dtype=torch.float64), atol=1e-3)


def test_pull_equals_the_loop_and_its_gradient_the_differences() -> None:
    q, made = rows(4).requires_grad_(), rows(20, seed=1).view(4, 5, 3)
    kept = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) < 0.6
    loss = latent.pull(q, made, kept, temperature=0.2)
    away = [(1 - float(q[i].detach() @ made[i, j])) / 0.2 for i in range(4) for j in range(5) if kept[i, j]]
    assert loss.item() == pytest.approx(sum(away) / len(away))

    def of(q: Tensor) -> Tensor:
        return latent.pull(q, made, kept, temperature=0.2)

    assert torch.autograd.gradcheck(of, (q,))
    order = torch.tensor([2, 0, 3, 1])
    assert latent.pull(q[order], made[order], kept[order], temperature=0.2).item() == pytest.approx(loss.item())
    assert latent.pull(q @ turn(), made @ turn(), kept, temperature=0.2).item() == pytest.approx(loss.item())
    assert latent.pull(q.half(), made.half(), kept, temperature=0.2).item() == pytest.approx(loss.item(), abs=1e-2)


def test_nothing_kept_is_a_zero_without_gradient() -> None:
    q = rows(4).requires_grad_()
    loss = latent.pull(q, rows(8).view(4, 2, 3), torch.zeros(4, 2, dtype=torch.bool), temperature=0.2)
    loss.backward()
    assert loss.item() == 0
    assert q.grad is not None
    assert not q.grad.any()
