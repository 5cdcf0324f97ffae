"""AdaInf: the step by hand, what mixes with what, and a batch of one patient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from medssl import objectives as O
from medssl.objectives.adainf import amount, mixed_contrast, quality
from tests.pretrain.test_module import batch_of, training_of


@pytest.mark.parametrize("paired", [False, True])
def test_a_step_by_hand(paired: bool) -> None:
    module = training_of("adainf", reach=0.4, repeat=3.0, gamma=2.0, temperature=0.5).eval()
    own = batch_of()
    # Of the first patient are two trials of two samples, of the second two of one, of the last two nothing else.
    trial, patient = torch.tensor([[0, 0, 1, 1, 2, 3, 4, 5], [0, 0, 0, 0, 1, 1, 2, 3]])
    own = replace(own, trial=trial, patient=patient)
    swap = torch.tensor([1, 0, 3, 2, 5, 4, 6, 7])
    parts: dict[str, Any] = {name: value[swap] for name, value in vars(own).items() if isinstance(value, torch.Tensor)}
    shown = replace(own, partner=replace(own, **parts | {"draw": own.draw})) if paired else own
    batch = module.on_after_batch_transfer(shown, 0)
    got = module.recipe.step(module.net, batch)
    z1, z2 = (module.net.project(view) for view in batch.views)
    cosines = z2 @ z2.T
    mate = [1, 0, 3, 2, 5, 4]
    for lonely in (6, 7):
        others = cosines[lonely].clone()
        others[lonely] = -2
        mate.append(int(others.argmax()))
    share = torch.stack([0.4 * amount(cosines[i, j]) for i, j in enumerate(mate)])
    assert share.any()
    second = batch.views[1]
    mixed = torch.stack([(1 - s) * second[i] + s * second[j] for i, (s, j) in enumerate(zip(share, mate, strict=True))])
    g = module.net.project(mixed)
    real = O.nt_xent(z1, z2, temperature=0.5, group=patient)
    weight = quality(g, z1, z2[mate], 2.0)
    made = mixed_contrast(z1, g, temperature=0.5, weight=weight, patient=patient, other=patient[mate])
    assert got["real"].item() == pytest.approx(real.item(), abs=1e-5)
    assert got["generated"].item() == pytest.approx(made.item(), abs=1e-5)
    assert got["loss"].item() == pytest.approx((3 * real.item() + made.item()) / 4, abs=1e-5)
    assert got["mixed"].item() == pytest.approx(share.mean().item(), abs=1e-6)


def test_one_patient_has_no_loss_and_copies_have_a_finite_gradient() -> None:
    module = training_of("adainf", projection_norm="layer")
    batch = batch_of()
    batch.x.copy_(batch.x[:1].clone().expand_as(batch.x))
    batch.draw.zero_()
    module.training_step(module.on_after_batch_transfer(batch, 0), 0).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.net.parameters())
    module.zero_grad()
    batch.patient.zero_()
    loss = module.training_step(module.on_after_batch_transfer(batch, 0), 0)
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad is not None and p.grad.any() for p in module.net.parameters())
