"""A learned positive: where it is made, what a step returns by a slow loop, and what has a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from medssl.pretrain.recipes.hallucinator import beyond
from tests.objectives.circle import at
from tests.objectives.test_latent import rows
from tests.pretrain.test_gather import batch_of, module_of


def test_where_it_is_made() -> None:
    q, k = at(0, 90, 30), at(90, 0, 30)
    made = beyond(q, k, torch.tensor([0.5, 0.0, 2.0]))
    # From (1, 0) over (0, 1) on to (-1/2, 3/2), whose negative part is cut.
    assert torch.allclose(made, torch.stack([torch.tensor([0, 1.5]), *at(0, 30).float()]).double())
    q, k = rows(4).requires_grad_(), rows(4, seed=1).requires_grad_()
    assert not beyond(q, k, torch.ones(4)).requires_grad
    assert beyond(at(0, 0).half(), at(180, 0).half(), torch.ones(2)).isfinite().all()


def test_a_step_equals_the_loop_and_trains_the_map() -> None:
    module = module_of("hallucinator", options={"queue": 18, "momentum": 0.9, "weight": 0.7}).train()
    net = module.net
    for number in range(3):
        batch = module.on_after_batch_transfer(batch_of(slice(None), number), 0)
        memory, owner = net.memory.z.clone(), net.memory.patient.clone()
        known = min(net.memory.pushed, 18)
        net.zero_grad()
        losses = module.recipe.step(net, batch)
        losses["loss"].backward()
        with torch.no_grad():
            q, k = net.project(batch.views[0]), net.teach(batch.views[1])
            far = net.draws.fork(10).uniform()
            h = normalize((k + far[:, None] * (k - q)).clamp_min(0) @ net.heads["hallucinator"].weight.T, dim=1)  # type: ignore[operator]
        terms: list[list[float]] = [[], []]
        for i in range(12):
            scores = [float(q[i] @ memory[j]) / 0.2 for j in range(known) if owner[j] != batch.patient[i]]
            for way, pulled_to in zip(terms, (k, h), strict=True):
                own = float(q[i] @ pulled_to[i]) / 0.2
                if scores:
                    way.append(math.log(sum(map(math.exp, [own, *scores]))) - own)
        means = [sum(way) / len(way) if way else 0.0 for way in terms]
        assert losses["loss"].item() == pytest.approx(means[0] + 0.7 * means[1], abs=1e-4)
        assert losses["hallucinated"].item() == pytest.approx(means[1], abs=1e-4)
        gradients = [p.grad for name, p in net.named_parameters() if p.requires_grad and p.grad is not None]
        assert all(g.isfinite().all() for g in gradients)
        # The first batch has nobody to be told apart from.
        assert any(g.any() for g in gradients) == (number > 0)
        weight = net.heads["hallucinator"].weight.grad  # type: ignore[union-attr]
        assert bool(weight.any()) == (number > 0)  # type: ignore[union-attr, operator]
