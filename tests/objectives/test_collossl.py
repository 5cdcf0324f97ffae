"""Contrast of devices of one moment: the numbers of V-19, slow loops, who is chosen, and what is absent."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import collossl as O
from tests.objectives.circle import at


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.253501), (0.1, 0.000014)])
def test_v19(temperature: float, expected: float) -> None:
    given = (at(0), at(20, 60)[None], at(100, 170)[None], ones(1, 2), ones(1, 2))
    assert O.group_contrast(*given, temperature=temperature).item() == pytest.approx(expected, abs=1e-6)
    # The sign of the cosine turned, as the public code has it, would be this.
    turned = {1.0: 1.584630, 0.1: 14.836138}[temperature]
    away = O.group_contrast(-at(0), *given[1:], temperature=temperature)
    assert away.item() == pytest.approx(turned, abs=1e-6)


def drawn(seed: int = 0, dim: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(*shape, dim, dtype=torch.float64, generator=generator) for shape in ((4,), (4, 2), (4, 3))]
    pull, push = (torch.rand(4, k, dtype=torch.float64, generator=generator) for k in (2, 3))
    pull[1, 0], push[2, 1:] = 0, 0
    anchor, positives, negatives = (normalize(x, dim=-1) for x in rows)
    return anchor, positives, negatives, pull, push


def test_equals_the_loop() -> None:
    anchor, positives, negatives, pull, push = drawn()
    pull[3] = 0  # nobody to be like
    push[0] = 0  # nobody to be told apart from
    terms = []
    for i in (1, 2):
        p = sum(float(pull[i, k]) * math.exp(float(anchor[i] @ positives[i, k]) / 0.2) for k in range(2))
        q = sum(float(push[i, k]) * math.exp(float(anchor[i] @ negatives[i, k]) / 0.2) for k in range(3))
        terms.append(-math.log(p / (p + q)))
    loss = O.group_contrast(anchor, positives, negatives, pull, push, temperature=0.2)
    assert loss.item() == pytest.approx(sum(terms) / 2, abs=1e-9)


def test_gradient_and_invariances() -> None:
    anchor, positives, negatives, pull, push = drawn()
    leaves = [x.requires_grad_() for x in (anchor, positives, negatives)]

    def loss(*x: Tensor, pull: Tensor = pull, push: Tensor = push) -> Tensor:
        return O.group_contrast(*x, pull, push, temperature=0.5)  # type: ignore[call-arg, arg-type]

    assert torch.autograd.gradcheck(loss, leaves)
    order = torch.tensor([2, 0, 3, 1])
    value = loss(*leaves).item()
    assert loss(*(x[order] for x in leaves), pull=pull[order], push=push[order]).item() == pytest.approx(value)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    assert loss(*(x @ turn for x in leaves)).item() == pytest.approx(value)
    assert loss(*leaves, pull=7 * pull, push=7 * push).item() == pytest.approx(value)
    assert loss(*leaves, push=2 * push).item() > value


def test_half_precision_duplicates_and_nobody() -> None:
    anchor, positives, negatives, pull, push = drawn()
    exact = O.group_contrast(anchor, positives, negatives, pull, push, temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = O.group_contrast(*(x.half() for x in (anchor, positives, negatives)), pull, push, temperature=0.05)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=1e-2)
    same = at(0, 0, 0, 0).requires_grad_()
    loss = O.group_contrast(same, same[:, None], -same[:, None], ones(4, 1), ones(4, 1), temperature=0.01)
    (gradient,) = torch.autograd.grad(loss, same)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    for none in ((ones(4, 1) * 0, ones(4, 1)), (ones(4, 1), ones(4, 1) * 0)):
        loss = O.group_contrast(same, same[:, None], same[:, None], *none, temperature=0.1)
        (gradient,) = torch.autograd.grad(loss, same)
        assert loss.item() == 0
        assert not gradient.any()


def test_mmd_equals_the_loop_and_knows_the_absent() -> None:
    generator = torch.Generator().manual_seed(0)
    windows = torch.randn(5, 4, 6, dtype=torch.float64, generator=generator)
    windows[:, 1] = windows[:, 0] + 0.05 * windows[:, 1]
    present = torch.ones(5, 4, dtype=torch.bool)
    present[2, 1] = present[4, 2] = present[1, 0] = False
    present[:, 3] = False
    windows[~present] = torch.nan

    def kernel(x: Tensor, y: Tensor) -> float:
        return sum(math.exp(-float((x - y).square().mean()) / (2 * s)) for s in O.WIDTHS)

    def mean(a: int, b: int) -> float:
        pairs = [(i, j) for i in range(5) for j in range(5) if present[i, a] and present[j, b]]
        return sum(kernel(windows[i, a], windows[j, b]) for i, j in pairs) / len(pairs)

    found = O.mmd(windows, present)
    for a in range(3):
        for b in range(3):
            expected = max(O.NEAREST, mean(a, a) + mean(b, b) - 2 * mean(a, b))
            assert found[a, b].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert found[0, 1] < found[0, 2]
    assert found[3].isinf().all()
    assert found[:, 3].isinf().all()


def test_gains_are_no_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, 50, generator=generator)
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    seen = torch.eye(3, dtype=torch.bool).expand(20, 3, 3)
    present = torch.ones(20, 3, dtype=torch.bool)
    near = O.distances(O.magnitudes(x, seen), present)
    assert near[0, 1] < near[0, 2]
    scaled = O.distances(O.magnitudes(x * torch.tensor([[[1.0], [40.0], [0.2]]]), seen), present)
    assert torch.allclose(scaled, near, atol=1e-4)


def test_magnitudes_are_of_the_channels_seen() -> None:
    x = torch.tensor([[[3.0, 0.0], [4.0, 1.0], [torch.nan, 9.0]]])
    seen = torch.tensor([[[True, True, False], [False, False, True], [False, False, False]]])
    root = math.sqrt(0.5)
    assert torch.allclose(O.magnitudes(x, seen), torch.tensor([[[5 * root, root], [0.0, 9.0], [0.0, 0.0]]]))
    assert O.magnitudes(torch.randn(2, 3, 500), seen.expand(2, 3, 3)).shape == (2, 3, O.STEPS)
    assert O.magnitudes(torch.randn(2, 3, 8, 4), seen.expand(2, 3, 3)).shape == (2, 3, 32)


def test_other_moments_are_drawn_evenly_among_the_allowed() -> None:
    allowed = torch.tensor([[0, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]]).bool()
    present = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1]]).bool()
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(4, 2, 4)
    for _ in range(600):
        moment, some = O.elsewhere(torch.rand(4, 2, generator=generator), allowed, present)
        counts += torch.nn.functional.one_hot(moment, 4) * some[..., None]
    for i in range(4):
        for d in range(2):
            fair = (allowed[i] & present[:, d]).float()
            expected = fair / fair.sum().clamp_min(1)
            assert torch.allclose(counts[i, d] / 600, expected, atol=0.08)
    assert some.tolist() == [[True, True], [True, True], [False, False], [True, True]]
    last, _ = O.elsewhere(torch.full((4, 2), 1 - 2**-24), allowed, present)
    assert last[0].tolist() == [3, 3]


def test_who_is_chosen() -> None:
    near = torch.tensor([[0.0, 4, 2, 1], [4, 0, 3, 3], [2, 3, 0, 5], [1, 3, 5, 0]])
    present = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 0]]).bool()
    uniform = torch.rand(4, 2, 4, generator=torch.Generator().manual_seed(0))
    expected = {
        "all": [[0, 1 / 4, 1 / 2, 1], [0, 1 / 4, 1 / 2, 0], [0] * 4, [0] * 4],
        "closest": [[0, 0, 0, 1], [0, 0, 1 / 2, 0], [0] * 4, [0] * 4],
        "hard": [[0, 1 / 4, 1 / 2, 0], [0, 1 / 4, 0, 0], [0] * 4, [0] * 4],
    }
    for selection, push in expected.items():
        positive, negative = O.chosen(near, present, 0, selection, uniform)
        # Where the nearest is absent the next one stands in; without the anchor, or alone, there is nobody.
        assert positive.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0], [0] * 4, [0] * 4]
        assert torch.allclose(negative, torch.tensor(push))
    everybody = torch.ones(900, 4, dtype=torch.bool)
    uniform = torch.rand(900, 2, 4, generator=torch.Generator().manual_seed(1))
    for found in O.chosen(near, everybody, 0, "random", uniform):
        assert found.sum(1).eq(1).all()
        assert torch.allclose(found.mean(0), torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]), atol=0.06)


def test_a_device_of_late_rows_is_found() -> None:
    windows, present = torch.randn(300, 2, 16), torch.ones(300, 2, dtype=torch.bool)
    present[:200, 1] = False  # such as those of a second site, in a store in which sites follow each other
    near = O.distances(windows, present)
    assert near.isfinite().all()
    never = torch.tensor([[O.NEAREST, torch.inf], [torch.inf, O.NEAREST]])
    pull, push = O.chosen(never, torch.ones(3, 2, dtype=torch.bool), 0, "all", torch.rand(3, 2, 2))
    assert pull[:, 1].all()
    assert (push[:, 1] > 0).all()
