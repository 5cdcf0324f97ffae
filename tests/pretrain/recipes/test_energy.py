"""Alignment, uniformity and gap: the numbers of V-25, a slow loop, what the loss is made of and when."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.config import OPTIONS
from medssl.objectives import rows
from medssl.objectives.energy import alignment, gap, uniformity
from medssl.pretrain import monitor
from tests.objectives.circle import A, B, at
from tests.pretrain.test_module import batch_of, training_of


def views(n: int = 6, d: int = 4) -> list[Tensor]:
    z = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return list(normalize(z, dim=2))


def loop(x: Tensor, y: Tensor, t: float, group: list[int]) -> float:
    pairs = [(i, j) for i in range(len(x)) for j in range(len(y)) if group[i] != group[j]]
    close = [math.exp(-t * float((x[i] - y[j]).square().sum())) for i, j in pairs]
    return math.log(sum(close) / len(close)) if close else 0.0


def test_v25() -> None:
    assert alignment(A, B).item() == pytest.approx(0.121774, abs=1e-6)
    assert uniformity(A).item() == pytest.approx(-3.572823, abs=1e-6)
    assert uniformity(B).item() == pytest.approx(-2.405540, abs=1e-6)
    assert uniformity(A, B).item() == pytest.approx(-2.706504, abs=1e-6)
    assert gap(A, B).item() == pytest.approx(0.212576, abs=1e-6)


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 3], [0, 0, 0, 0, 0, 0]])
def test_equal_the_loop_in_any_order_and_direction(group: list[int]) -> None:
    x, y = views()
    ids, order = torch.tensor(group), torch.tensor([3, 0, 4, 1, 5, 2])
    turned = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    for a, b, owner in ((x, y, ids), (x[order] @ turned, y[order] @ turned, ids[order])):
        assert uniformity(a, t=1.3, group=owner).item() == pytest.approx(loop(x, x, 1.3, group), abs=1e-9)
        assert uniformity(a, b, t=1.3, group=owner).item() == pytest.approx(loop(x, y, 1.3, group), abs=1e-9)
        assert alignment(a, b).item() == pytest.approx(monitor.alignment(x.numpy(), y.numpy()), abs=1e-9)
        assert gap(a, b).item() == pytest.approx((x.mean(0) - y.mean(0)).norm().item(), abs=1e-12)
    assert uniformity(x).item() == pytest.approx(monitor.uniformity(x.numpy()), abs=1e-9)


def test_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = views()
    whole = uniformity(x, y).item()
    monkeypatch.setattr(rows, "block_cells", lambda z: 12)
    assert uniformity(x, y).item() == pytest.approx(whole, abs=1e-12)


def test_gradients_duplicates_and_half_precision() -> None:
    z = [one[:4, :3].clone().requires_grad_() for one in views()]
    assert torch.autograd.gradcheck(lambda x, y: alignment(x, y) + uniformity(x) + uniformity(x, y, t=3.0), z)
    alone = uniformity(*z, group=torch.zeros(4))
    assert alone.item() == 0
    assert all(not g.any() for g in torch.autograd.grad(alone, z))
    for same in (at(0, 0, 0), at(0, 0, 180)):
        leaf = same.clone().requires_grad_()
        assert torch.autograd.grad(uniformity(leaf), leaf)[0].isfinite().all()
    assert uniformity(at(0, 0, 0)).item() == pytest.approx(0, abs=1e-12)
    half = [one.half() for one in views()]
    assert uniformity(*half).item() == pytest.approx(uniformity(*views()).item(), abs=1e-2)


@pytest.mark.parametrize("steps", [0, 5])
def test_the_loss_is_the_weighted_sum_after_warm_up(steps: int) -> None:
    options = {"contrast": 2.0, "alignment": 3.0, "uniformity": 4.0, "cross": 5.0}
    module = training_of("energy", warmup_steps=steps, temperature=0.5, **options).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    losses = module.recipe.step(module.net, batch)
    x, y = (module.net.project(view) for view in batch.views)
    spread = [uniformity(*z, group=batch.patient) for z in ((x,), (y,), (x, y))]
    terms = {
        "contrast": O.nt_xent(x, y, temperature=0.5, group=batch.patient),
        "alignment": alignment(x, y),
        "uniformity": (spread[0] + spread[1]) / 2,
        "cross": spread[2],
    }
    for name, term in terms.items():
        assert losses[name].item() == pytest.approx(term.item(), abs=1e-5)
    counted = {name: term for name, term in terms.items() if steps == 0 or name == "contrast"}
    expected = sum(options[name] * term.item() for name, term in counted.items())
    assert losses["loss"].item() == pytest.approx(expected, abs=1e-4)
    assert losses["gap"].item() == pytest.approx(gap(x, y).item(), abs=1e-5)


def test_one_patient_alone_has_no_loss() -> None:
    module = training_of("energy", contrast=1.0, cross=1.0).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    batch.patient.zero_()
    losses = module.recipe.step(module.net, batch)
    losses["loss"].backward()
    assert losses["loss"].item() == 0
    assert not any(p.grad is not None and p.grad.any() for p in module.net.parameters())


@pytest.mark.parametrize(
    ("options", "why"),
    [({"warmup_steps": 3}, "of contrast alone, whose weight is 0"), ({"alignment": 0, "uniformity": 0}, "are all 0")],
)
def test_options_that_leave_no_term(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        OPTIONS["energy"].model_validate(options)
