"""cMIM: densities by torch's distributions, the contrast by a loop, and that its value stays as the batch grows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import normalize

from medssl.objectives.cmim import mutual_information, told_apart
from tests.objectives.circle import A
from tests.objectives.test_latent import rows, turn


def test_information_equals_the_densities() -> None:
    generator = torch.Generator().manual_seed(0)
    x, decoded = torch.randn(2, 4, 2, 7, dtype=torch.float64, generator=generator)
    z, mean, raw = torch.randn(3, 4, 3, dtype=torch.float64, generator=generator)
    variance = raw.exp()
    given = Normal(decoded, 1).log_prob(x).mean()
    code = Normal(mean, variance.sqrt()).log_prob(z).mean() + Normal(0, 1).log_prob(z).mean()
    found = mutual_information(x, decoded, z, mean, variance)
    assert found.item() == pytest.approx(-(given + code / 2).item())
    halves = mutual_information(*(v.half() for v in (x, decoded, z, mean, variance)))
    assert halves.item() == pytest.approx(found.item(), abs=1e-2)


def test_the_contrast_equals_the_loop() -> None:
    z, group = rows(6) * torch.arange(1, 7)[:, None], torch.tensor([0, 0, 1, 2, 1, 3])
    terms = []
    for i in range(6):
        cosines = [float(normalize(z, dim=1)[i] @ normalize(z, dim=1)[j]) for j in range(6) if group[i] != group[j]]
        terms.append(math.log1p(sum(math.exp((s - 1) / 0.5) for s in cosines) / len(cosines)))
    loss = told_apart(z, temperature=0.5, group=group)
    assert loss.item() == pytest.approx(sum(terms) / 6)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    assert told_apart(z[order], temperature=0.5, group=group[order]).item() == pytest.approx(loss.item())
    assert told_apart(z @ turn(), temperature=0.5, group=group).item() == pytest.approx(loss.item())
    assert told_apart(2 * z, temperature=0.5, group=group).item() == pytest.approx(loss.item())
    assert told_apart(z.half(), temperature=0.5, group=group).item() == pytest.approx(loss.item(), abs=1e-2)


def test_its_value_does_not_grow_with_the_batch_and_is_log_2_at_collapse() -> None:
    small, large = (told_apart(rows(n, 16, seed=3), temperature=0.5).item() for n in (40, 400))
    assert small == pytest.approx(large, abs=0.02)
    assert told_apart(A[:1].expand(5, 2), temperature=0.1).item() == pytest.approx(math.log(2))


def test_gradients() -> None:
    z = rows(4).requires_grad_()

    def of(z: Tensor) -> Tensor:
        return told_apart(z, temperature=0.5)

    assert torch.autograd.gradcheck(of, (z,))
    for same, group in ((rows(1).repeat(3, 1), None), (rows(3), torch.zeros(3))):
        z = same.requires_grad_()
        loss = told_apart(z, temperature=0.1, group=group)
        loss.backward()
        assert z.grad is not None
        assert z.grad.isfinite().all()
    assert loss.item() == 0  # all of one group
    assert not z.grad.any()
