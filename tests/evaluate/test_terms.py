"""Terms of fine-tuning on embeddings: published values, slow loops, and training with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize

from medssl.evaluate import terms
from medssl.evaluate.finetune import finetune
from medssl.evaluate.tasks import Task
from medssl.models import build
from medssl.objectives import pairs, rows
from medssl.objectives.conr import conr
from medssl.store import Store
from tests.objectives.circle import A, B, at

CLASSES = torch.tensor([0, 1, 0, 2, 1, 0, 2])
ORDER = torch.tensor([3, 1, 6, 0, 5, 2, 4])


def some(n: int = 7, d: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, dtype=torch.float64, generator=generator)


def test_v24_in_any_order() -> None:
    z, classes = at(0, 20, 90, 140, 250), torch.tensor([0, 0, 1, 1, 2])
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        found = terms.focal_contrast(z[order], classes[order], temperature=0.5)
        assert found.item() == pytest.approx(0.123924, abs=1e-6)


def test_mixtures_are_of_the_hardest() -> None:
    f, target = some(), functional.one_hot(CLASSES).double()
    shares = (torch.tensor(0.85), torch.tensor(0.3))
    mixed, soft = terms.harder(f, target, shares, ORDER)
    unit = normalize(f, dim=1)
    for i in range(7):
        like = {j: float(unit[i] @ unit[j]) for j in range(7) if j != i}
        p = min((j for j in like if CLASSES[j] == CLASSES[i]), key=lambda j: like[j])
        n = max((j for j in like if CLASSES[j] != CLASSES[i]), key=lambda j: like[j])
        for found, x in ((mixed, f), (soft, target)):
            assert torch.allclose(found[i], 0.15 * x[i] + 0.85 * x[ORDER[i]], atol=1e-6)
            assert torch.allclose(found[7 + i], 0.3 * x[p] + 0.7 * x[n], atol=1e-6)
    # All positives have a cosine above 0, where a matrix filled with zeros would offer others.
    f, target = at(0, 10, 40, 200), torch.eye(2).double()[[0, 0, 0, 1]]
    mixed, _ = terms.harder(f, target, (torch.tensor(0.8), torch.tensor(1.0)), torch.arange(4))
    assert torch.allclose(mixed[4:], f[[2, 2, 0, 3]])


def test_core_tuning_is_both_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "beta", lambda concentration: torch.tensor(0.9))
    monkeypatch.setattr(torch, "randperm", lambda n, device: ORDER)
    loss, head, f = terms.CoreTuning(7, 4).double(), nn.Linear(4, 3).double(), some()
    target = functional.one_hot(CLASSES).double()
    mixed, soft = terms.harder(f, target, (torch.tensor(0.9), torch.tensor(0.9)), ORDER)
    every, targets = torch.cat([f, mixed]), torch.cat([target, soft])
    entropy = -(targets * head(every).log_softmax(1)).sum(1).mean()
    z = normalize(loss.projection(every), dim=1).detach()
    contrast = []
    for i in range(21):
        e = {j: float((z[i] @ z[j] / 0.07).exp()) for j in range(21) if j != i}
        same = [j for j in e if torch.allclose(targets[i], targets[j], atol=1e-4)]
        share = [e[j] / sum(e.values()) for j in same]
        if same:
            contrast.append(-sum((1 - p) * math.log(p) for p in share) / len(same))
    found = loss.of_embeddings(head, f, CLASSES, torch.arange(7))
    assert found.item() == pytest.approx(entropy.item() + sum(contrast) / len(contrast), abs=1e-6)


@pytest.mark.parametrize("classes", [CLASSES, torch.arange(7)])
def test_mixed_contrast_is_its_loop(classes: Tensor) -> None:
    z, share = normalize(some(), dim=1), torch.linspace(0.1, 0.9, 7, dtype=torch.float64)
    found = []
    for i in range(7):
        k = int(ORDER[i])
        m = normalize(share[i] * z[i] + (1 - share[i]) * z[k], dim=0)
        others = [j for j in range(7) if j not in (i, k)]
        w = [float(share[i] * (classes[j] == classes[i]) + (1 - share[i]) * (classes[j] == classes[k])) for j in others]
        if not sum(w) or all(w):
            continue
        log = torch.stack([m @ z[j] / 0.3 for j in others]).log_softmax(0)
        found.append(-float(sum(a * b for a, b in zip(w, log, strict=True))) / sum(w))
    expected = sum(found) / max(1, len(found))
    result = terms.mixed_contrast(z, classes, share=share, order=ORDER, temperature=0.3)
    assert result.item() == pytest.approx(expected, abs=1e-9)


def test_v15_soft_targets_of_mixtures() -> None:
    """The reduction of `mixed_contrast` against another view, where each sample is a class."""
    share, order = torch.tensor([0.7, 1, 0.6, 0.9], dtype=torch.float64), torch.tensor([1, 2, 3, 0])
    mixed = normalize(share[:, None] * A + (1 - share[:, None]) * A[order], dim=1)
    target = torch.diag(share)
    target[torch.arange(4), order] += 1 - share
    there = rows.contrast(mixed, B, pairs.given(target, mixed), rows.softmax, temperature=0.1)
    # The targets of the other direction sum to less or more than 1, which a mean over positives would undo.
    back = -(target.T * (B @ mixed.T / 0.1).log_softmax(1)).sum(1).mean()
    assert ((there + back) / 2).item() == pytest.approx(1.341546, abs=1e-6)


def test_gradients_rotation_half_precision_and_nobody_to_be_told_apart_from() -> None:
    z, share = normalize(some(4, 3), dim=1), torch.linspace(0.1, 0.9, 4, dtype=torch.float64)
    classes, order = torch.tensor([0, 1, 0, 1]), torch.tensor([1, 2, 3, 0])
    turn = torch.linalg.qr(some(3, 3))[0]

    def mixed(v: Tensor, of: Tensor = classes) -> Tensor:
        return terms.mixed_contrast(v, of, share=share, order=order, temperature=0.3)

    def focal(v: Tensor, of: Tensor = classes) -> Tensor:
        return terms.focal_contrast(v, of, temperature=0.3)

    for term in (mixed, focal):
        assert torch.autograd.gradcheck(term, z.clone().requires_grad_())
        assert term(z @ turn).item() == pytest.approx(term(z).item(), abs=1e-12)
        assert term(z.half()).item() == pytest.approx(term(z).item(), abs=1e-2)
        for rows_, of in ((at(0, 0, 180, 180), classes), (at(0, 0, 0, 0), classes), (z, torch.zeros(4))):
            leaf = rows_.clone().requires_grad_()
            value = term(leaf, of)
            (gradient,) = torch.autograd.grad(value, leaf)
            assert value.isfinite()
            assert gradient.isfinite().all()
    leaf = z.clone().requires_grad_()
    alone = mixed(leaf, torch.zeros(4))
    assert alone == 0
    assert not torch.autograd.grad(alone, leaf)[0].any()


def test_conr_is_beside_huber() -> None:
    f, y, head = some(), torch.tensor([-1, -1.02, 0, 0.03, 1, 1.01, 3])[:, None].double(), nn.Linear(4, 1).double()
    nn.init.zeros_(head.weight)
    loss = terms.build("conr", kind="number", samples=7, dim=4)
    apart = conr(normalize(f, dim=1), y[:, 0], head(f)[:, 0], temperature=0.2, omega=1 / 16, eta=0.16)
    assert apart > 0
    expected = functional.huber_loss(head(f), y) + 0.25 * apart
    assert loss.of_embeddings(head, f, y, torch.arange(7)).item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("loss", "label", "depth"),
    [
        ("core_tuning", "disease", "full"),
        ("core_tuning", "disease", "head"),
        ("metric_mixup", "disease", "full"),
        ("conr", "age", "full"),
    ],
)
def test_networks_are_trained_with_it_and_always_alike(loss: str, label: str, depth: str, signal_store: Store) -> None:
    torch.manual_seed(0)
    encoder = build("resnet1d", in_channels=2, widths=(4, 4, 8, 8), depth=1)
    task = Task.of(signal_store.table, label)
    made = [
        finetune(encoder, signal_store, task, task.part("train"), depth=depth, max_steps=12, batch=8, loss=loss, seed=1)  # type: ignore[arg-type]
        for _ in range(2)
    ]
    (first, kept), (second, _) = made
    assert np.array_equal(first, second)
    assert np.isfinite(first).all()
    assert kept > 0
    usual, _ = finetune(encoder, signal_store, task, task.part("train"), depth=depth, max_steps=12, batch=8, seed=1)  # type: ignore[arg-type]
    assert not np.array_equal(first, usual)


def test_a_sure_class_needs_its_contrast() -> None:
    """Embeddings that start mixed up are pulled into classes by either term alone, without the cross-entropy."""
    for name in ("core_tuning", "metric_mixup"):
        torch.manual_seed(0)
        loss = terms.build(name, kind="class", samples=30, dim=4)
        head = nn.Linear(4, 3).requires_grad_(False)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        classes, f = torch.arange(30) % 3, torch.randn(30, 4).requires_grad_()
        optimizer = torch.optim.Adam([f], lr=0.1)
        for _ in range(60):
            optimizer.zero_grad()
            loss.of_embeddings(head, f, classes, torch.arange(30)).backward()
            optimizer.step()
        likeness = normalize(f.detach(), dim=1) @ normalize(f.detach(), dim=1).T
        same = classes[:, None] == classes
        assert likeness[same].mean() > likeness[~same].mean() + 0.3, name


def test_looking_a_loss_up_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    terms.build(None, kind="class", samples=1)
    assert torch.equal(torch.rand(1), expected)
