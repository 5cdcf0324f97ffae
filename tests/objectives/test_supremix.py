"""SupReMix: the numbers of V-8, a slow loop that makes every mixture, and what a label can do to it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, softmax
from medssl.objectives.supremix import between, supremix
from tests.objectives.circle import at

Y = torch.arange(4.0, dtype=torch.float64)
FIXED: dict[str, Any] = {
    "temperature": 0.5,
    "window": 2,
    "share": torch.full((4, 4), 0.2),
    "uniform": torch.zeros(4, 9),
}
PLAIN: dict[str, Any] = {"share": None, "uniform": None, "magnify": "none"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 2.375044),
        ({"magnify": "none"}, 1.775058),
        ({"magnify": "squared"}, 2.409337),
        ({"window": 5}, 2.700425),
        ({"share": None}, 1.738921),
    ],
)
def test_v8(changed: dict[str, Any], expected: float) -> None:
    assert supremix(at(0, 40, 90, 150), Y, **(FIXED | changed)).item() == pytest.approx(expected, abs=1e-6)


def test_v8_of_two_views_and_without_mixtures_it_is_supcon() -> None:
    z, y = torch.cat([at(0, 40, 90, 150), at(5, 35, 100, 140)]), torch.cat([Y, Y])
    both = FIXED | {"share": torch.full((8, 8), 0.2), "uniform": torch.zeros(8, 9)}
    assert supremix(z, y, **both).item() == pytest.approx(2.583838, abs=1e-6)
    plain = supremix(z, y, **(both | PLAIN)).item()
    assert plain == pytest.approx(1.035401, abs=1e-6)
    same = (y[:, None] == y).to(z.dtype)
    other = ~torch.eye(8, dtype=torch.bool)
    supcon = contrast(z, None, lambda block: Cells((same * other)[block], other[block]), softmax, temperature=0.5)
    assert plain == pytest.approx(supcon.item(), abs=1e-12)


def some(n: int = 9, d: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return rows, labels of which some are equal and one is unknown, and the rest."""
    generator = torch.Generator().manual_seed(seed)
    z = normalize(torch.randn(n, d, dtype=torch.float64, generator=generator), dim=1)
    y = torch.tensor([3.0, 1, 2, 2, 0, 5, 1, 4, 3] * 4, dtype=torch.float64)[:n]
    y[2] = torch.nan
    share = torch.rand(n, n, dtype=torch.float64, generator=generator)
    uniform = torch.rand(n, 64, dtype=torch.float64, generator=generator)
    return z, y, {"temperature": 0.4, "window": 3, "share": share, "uniform": uniform}


def loop(z: Tensor, y: Tensor, given: dict[str, Any], power: int) -> float:
    """The loss by its definition, of mixtures that are made."""
    known, terms = [i for i in range(len(z)) if not math.isnan(y[i])], []
    for i in known:
        columns, positives = [], []
        for k in known:
            if k == i:
                continue
            if y[k] == y[i]:
                positives.append(z[k])
                continue
            columns.append((z[k], y[k]))
            a = given["share"][i, k]
            columns.append((a * z[i] + (1 - a) * z[k], a * y[i] + (1 - a) * y[k]))
        for j in known:
            for k in known:
                if y[i] - given["window"] < y[j] < y[i] < y[k] < y[i] + given["window"]:
                    a = (y[k] - y[i]) / (y[k] - y[j])
                    positives.append(a * z[j] + (1 - a) * z[k])
        if not positives or not columns:
            continue
        t = given["temperature"]
        total = sum(math.exp(z[i] @ p / t) for p in positives)
        total += sum((abs(y[i] - label) ** power + 1) * math.exp(z[i] @ c / t) for c, label in columns)
        terms.append(sum(math.log(total) - z[i] @ p / t for p in positives) / len(positives))
    return float(sum(terms) / len(terms))


@pytest.mark.parametrize(("magnify", "power"), [("linear", 1), ("squared", 2)])
def test_equals_the_loop_in_any_order_and_any_rotation(magnify: str, power: int) -> None:
    z, y, given = some()
    expected = pytest.approx(loop(z, y, given, power), abs=1e-9)
    assert supremix(z, y, **given, magnify=magnify).item() == expected
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    moved = given | {"share": given["share"][order][:, order], "uniform": given["uniform"][order]}
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))[0]
    assert supremix((z @ turn)[order], y[order], **moved, magnify=magnify).item() == expected


def test_of_many_mixed_positives_some_are_drawn_evenly() -> None:
    y = torch.tensor([4.0, 0, 1, 2, 3, 5, 6, 7, 8, torch.inf], dtype=torch.float64)
    counts = torch.zeros(10, 10)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        j, k, valid = between(y, torch.rand(10, 5, dtype=torch.float64, generator=generator), window=10)
        assert valid.sum(1).tolist() == [5, 0, 5, 5, 5, 5, 5, 5, 0, 0]
        assert (y[j] < y[:, None])[valid].all()
        assert (y[k] > y[:, None])[valid].all()
        counts.index_put_((j[0], k[0]), torch.ones(5), accumulate=True)
    # Row 0 has 4 x 4 pairs, of which each comes equally often.
    assert counts[1:5, 5:9].sum() == 2000
    assert (counts[1:5, 5:9] - 125).abs().max() < 45


def test_mixtures_carry_no_gradient_and_it_is_that_of_finite_differences() -> None:
    """A mixture is a constant: the difference quotient is of fixed columns, which only z_i meets."""
    z, y, given = some(4, 3)
    y = torch.tensor([0.0, 1, 1, 2], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: supremix(v, y, **(given | PLAIN)), z.clone().requires_grad_())
    whole, fixed = (v.clone().requires_grad_() for v in (z, z))
    supremix(whole, y, **given).backward()

    def made(v: Tensor) -> Tensor:
        columns, labels, positive, of = [*v], [*y], [], []
        for i in range(4):
            for k in range(4):
                if y[i] != y[k]:
                    a = given["share"][i, k]
                    columns.append(a * z[i] + (1 - a) * z[k])
                    labels.append(a * y[i] + (1 - a) * y[k])
                    positive.append(False)
                    of.append(i)
                for j in range(4):
                    if y[j] < y[i] < y[k]:
                        a = (y[k] - y[i]) / (y[k] - y[j])
                        columns.append(a * z[j] + (1 - a) * z[k])
                        labels.append(y[i])
                        positive.append(True)
                        of.append(i)
        own = torch.eye(4, dtype=torch.bool)
        mine = torch.tensor(of) == torch.arange(4)[:, None]
        candidate = torch.cat([~own, mine], 1)
        pulled = torch.cat([(y[:, None] == y) & ~own, mine & torch.tensor(positive)], 1)
        cells = Cells(pulled.to(v.dtype), candidate, (y[:, None] - torch.stack(labels)).abs() + 1)
        return contrast(
            v, torch.stack(columns), lambda block: Cells(*(part[block] for part in cells)), softmax, temperature=0.4
        )

    made(fixed).backward()
    assert whole.grad is not None
    assert fixed.grad is not None
    assert torch.allclose(whole.grad, fixed.grad, atol=1e-12)


def test_half_precision_duplicates_and_nobody_to_be_told_apart_from() -> None:
    z, y, given = some()
    exact = supremix(z, y, **given).item()
    assert supremix(z.half(), y, **(given | {"temperature": 0.4})).item() == pytest.approx(exact, abs=1e-2)
    same = at(*[0] * 8, 180).requires_grad_()
    loss = supremix(same, y, **(given | {"temperature": 0.05}))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, same)[0].isfinite().all()
    for labels in (torch.ones(9), torch.full((9,), torch.nan)):
        z = z.clone().requires_grad_()
        loss = supremix(z, labels, **given)
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, z)[0].any()
