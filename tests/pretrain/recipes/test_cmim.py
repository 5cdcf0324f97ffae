"""What cMIM's step reads, and what it trains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.pretrain.test_gather import batch_of, module_of


def test_a_step_reads_samples_as_they_are_in_any_unit() -> None:
    module = module_of("cmim", options={"width": 4, "weight": 0.5}).train()
    net, batch = module.net, module.on_after_batch_transfer(batch_of(slice(None)), 0)
    assert batch.views == ()
    losses = module.recipe.step(net, batch)
    assert losses["loss"].item() == pytest.approx((losses["information"] + 0.5 * losses["apart"]).item())
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters() if p.requires_grad)
    # In another unit the encoder sees other numbers, and what it is to make of the code stays the same.
    embedding = net.encoder(batch.x)
    net.encoder.forward = lambda x: embedding  # type: ignore[method-assign]
    before, after = (module.recipe.step(net, b) for b in (batch, replace(batch, x=300 + 50 * batch.x)))
    assert after["loss"].item() == pytest.approx(before["loss"].item(), abs=1e-4)


def test_a_constant_batch_is_finite() -> None:
    module = module_of("cmim", options={"width": 4}).train()
    batch = module.on_after_batch_transfer(batch_of(slice(None)), 0)
    losses = module.recipe.step(module.net, replace(batch, x=torch.full_like(batch.x, 3.0)))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.net.parameters())
