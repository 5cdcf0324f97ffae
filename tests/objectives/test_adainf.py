"""Generated samples: mates, amounts by fifths, weights by quality, and a slow loop of the contrast."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.objectives.adainf import amount, mates, mixed_contrast, quality
from tests.objectives.circle import A, B, at

PATIENT, OTHER = torch.tensor([0, 0, 1, 2, 3, 4]), torch.tensor([0, 1, 1, 0, 4, 3])
WEIGHT = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.5, 1.0]).double()


def rows(n: int = 6, d: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = normalize(torch.randn(2, n, d, dtype=torch.float64, generator=generator), dim=-1)
    return a, b


def slowly(a: Tensor, b: Tensor, weight: Tensor, patient: Tensor, other: Tensor, t: float = 0.5) -> float:
    n, z = len(a), torch.cat([a, b])
    of = [{int(p)} for p in patient] + [{int(p), int(q)} for p, q in zip(patient, other, strict=True)]
    top = bottom = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        negative = [math.exp(z[i] @ z[j] / t) for j in range(2 * n) if not of[i] & of[j]]
        if negative:
            positive = math.exp(z[i] @ z[partner] / t)
            top -= float(weight[i % n]) * math.log(positive / (positive + sum(negative)))
            bottom += float(weight[i % n])
    return top / bottom


def test_the_nearest_of_the_trial_then_of_the_patient_then_of_all() -> None:
    z = at(0.0, 90, 180, 10, 170)
    sample = torch.arange(5)
    trial, patient = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 0, 0, 1, 2])
    same: dict[str, Tensor] = {
        name: ids[:, None] == ids for name, ids in (("sample", sample), ("trial", trial), ("patient", patient))
    }
    assert mates(z @ z.T, **same).tolist() == [1, 0, 1, 0, 2]
    assert mates(z[3:] @ z.T, **{name: ids[3:] for name, ids in same.items()}).tolist() == [0, 2]
    one: dict[str, Tensor] = dict.fromkeys(same, torch.ones(1, 1, dtype=torch.bool))
    assert mates(torch.ones(1, 1), **one).tolist() == [0]


def test_amounts_are_by_fifths() -> None:
    """The ranges (0, .2], (.2, .4] ... (.8, 1] have the levels 0, 100 ... 400."""
    nearness = torch.tensor([-0.5, 0.1, 0.2, 0.21, 0.4, 0.5, 0.61, 0.79, 0.81, 1.0], dtype=torch.float64)
    assert (400 * amount(nearness)).tolist() == [0, 0, 0, 100, 100, 200, 300, 300, 400, 400]


def test_quality_is_of_own_less_mate_and_has_the_mean_one() -> None:
    own, mate, made = (at(*row) for row in ((0.0, 0, 0), (90.0, 90, 90), (0.0, 45, 90)))
    raw = [math.exp(2 * difference) for difference in (1.0, 0.0, -1.0)]
    expected = torch.tensor([3 * x / sum(raw) for x in raw]).double()
    assert torch.allclose(quality(made, own, mate, 2.0).double(), expected, atol=1e-6)
    assert torch.allclose(quality(made, own, mate, 0.0), torch.ones(3).to(own))
    assert not quality(made.requires_grad_(), own, mate, 1.0).requires_grad


def test_contrast_is_the_loop() -> None:
    a, b = rows()
    got = mixed_contrast(a, b, temperature=0.5, weight=WEIGHT, patient=PATIENT, other=OTHER)
    assert got.item() == pytest.approx(slowly(a, b, WEIGHT, PATIENT, OTHER), abs=1e-9)
    # Mixtures of two patients have no negatives in a batch of the two, and do not count.
    two: dict[str, Any] = {"weight": WEIGHT[:4] + 1, "patient": torch.tensor([0, 0, 1, 1])}
    two["other"] = 1 - two["patient"]
    assert mixed_contrast(A, B, temperature=0.5, **two).item() == pytest.approx(slowly(A, B, **two), abs=1e-9)
    # Nothing of others, all alike: NT-Xent.
    same: dict[str, Any] = {"weight": torch.full((4,), 3.0), "patient": torch.arange(4), "other": torch.arange(4)}
    plain = O.nt_xent(A, B, temperature=0.5)
    assert mixed_contrast(A, B, temperature=0.5, **same).item() == pytest.approx(plain.item(), abs=1e-9)


def test_order_and_rotation_change_nothing() -> None:
    a, b = rows()
    whole = mixed_contrast(a, b, temperature=0.5, weight=WEIGHT, patient=PATIENT, other=OTHER)
    order, turn = torch.tensor([3, 1, 5, 0, 2, 4]), torch.linalg.qr(rows(3)[0])[0]
    moved: dict[str, Any] = {"weight": WEIGHT[order], "patient": PATIENT[order], "other": OTHER[order]}
    again = mixed_contrast((a @ turn)[order], (b @ turn)[order], temperature=0.5, **moved)
    assert again.item() == pytest.approx(whole.item(), abs=1e-12)


def test_gradients_duplicates_and_half_precision() -> None:
    ids: dict[str, Any] = {"weight": WEIGHT[:4], "patient": torch.arange(4), "other": torch.tensor([1, 0, 3, 2])}
    for views in (rows(4), (torch.ones(4, 3).double() / 3**0.5,) * 2):
        leaves = [view.clone().requires_grad_() for view in views]
        assert torch.autograd.gradcheck(lambda *z: mixed_contrast(*z, temperature=0.5, **ids), leaves)
    a, b = rows(4)
    half = mixed_contrast(a.half(), b.half(), temperature=0.05, **ids)
    assert half.item() == pytest.approx(mixed_contrast(a, b, temperature=0.05, **ids).item(), abs=2e-2)


def test_nobody_to_be_told_apart_from() -> None:
    leaves = [view.requires_grad_() for view in rows(4)]
    ids: dict[str, Any] = {"patient": torch.tensor([0, 0, 0, 0]), "other": torch.tensor([1, 0, 1, 0])}
    loss = mixed_contrast(*leaves, temperature=0.5, weight=torch.ones(4), **ids)
    loss.backward()
    assert loss.item() == 0
    assert all(leaf.grad is not None and not leaf.grad.any() for leaf in leaves)
