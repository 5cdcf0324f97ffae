"""Reliable pairs: samples are linked though nobody says which is which."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from medssl import objectives as O
from medssl.objectives.matching import matched, reliable
from tests.pretrain.test_gather import batch_of, module_of


@pytest.mark.parametrize("warm_up", [0, 1])
def test_a_step_matches_the_partners_of_a_patient(warm_up: int) -> None:
    module = module_of("isr", options={"warmup_steps": warm_up}, duplicates="mask").train()
    own = batch_of(slice(None), paired=True)
    assert own.partner is not None
    # Second views are of the same samples, in another order within each patient.
    order = torch.arange(12) ^ 3
    shuffled = replace(own, **{k: v[order] for k, v in vars(own).items() if isinstance(v, Tensor)}, partner=None)
    batch = replace(own, partner=shuffled)
    batch = replace(batch, views=(batch.x, shuffled.x))
    losses = module.recipe.step(module.net, batch)
    z1, z2 = module.net.project_all(batch.views)
    if warm_up:
        assert losses["as_drawn"] == 1
        assert losses["reliability"] == 1
        match, reliability = torch.arange(12), torch.ones(12)
    else:
        assert losses["as_drawn"] == 0
        match, reliability = matched(z1, z2, batch.patient, trust=0.1)
        assert torch.equal(order[match], torch.arange(12))  # each is found again
        assert losses["reliability"].item() == pytest.approx(reliability.mean().item())
    duplicates = O.pairs.Duplicates(own.duplicate, shuffled.duplicate[match])
    expected = reliable(z1, z2[match], reliability, temperature=0.2, group=batch.patient, duplicates=duplicates)
    assert losses["loss"].item() == pytest.approx(expected.item(), abs=1e-6)
