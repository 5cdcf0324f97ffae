"""Feature transformation: what a step contrasts with what, by a slow loop, and what the memory keeps."""

from __future__ import annotations

import math

import pytest
import torch

from medssl.objectives import latent
from tests.pretrain.test_gather import batch_of, module_of

ALL = slice(None)


def stepped(**options: float | None) -> tuple[list[float], list[float]]:
    """Return losses of three steps, and the same by a loop."""
    module = module_of("transform", options={"queue": 18, "momentum": 0.9} | options).train()
    net, got, expected = module.net, [], []
    for number in range(3):
        batch = module.on_after_batch_transfer(batch_of(ALL, number), 0)
        memory, known, owner = net.memory.z.clone(), min(net.memory.pushed, 18), net.memory.patient.clone()
        losses = module.recipe.step(net, batch)
        got.append(losses["loss"].item())
        with torch.no_grad():
            q, k = net.project(batch.views[0]), net.teach(batch.views[1])
        if net.options.extrapolate:
            factor = 1 + latent.symmetric_beta(net.draws.fork(10).normal(2), net.options.extrapolate)
        else:
            factor = torch.ones(12)
        if net.options.interpolate:
            normal = net.directions(3, known)
            order, share = normal[2].argsort(), latent.symmetric_beta(normal[:2].T, net.options.interpolate)
        else:
            order, share = torch.arange(known), torch.ones(known)
        terms = []
        for i in range(12):
            up, down = factor[i] * q[i] + (1 - factor[i]) * k[i], factor[i] * k[i] + (1 - factor[i]) * q[i]
            negatives = [
                share[j] * memory[j] + (1 - share[j]) * memory[order[j]]
                for j in range(known)
                if batch.patient[i] not in (owner[j], owner[order[j]])
            ]
            if negatives:
                scores = [float(up @ n) / 0.2 for n in negatives]
                own = float(up @ down) / 0.2
                terms.append(math.log(sum(map(math.exp, [own, *scores]))) - own)
        expected.append(sum(terms) / len(terms) if terms else 0.0)
        assert torch.allclose(net.memory.z[(torch.arange(12) + 12 * number) % 18], k, atol=1e-6)  # as they are
    return got, expected


@pytest.mark.parametrize("options", [{}, {"extrapolate": None}, {"interpolate": None}])
def test_a_step_equals_the_loop(options: dict[str, None]) -> None:
    got, expected = stepped(**options)
    assert got == pytest.approx(expected, abs=1e-4)
    assert got[0] == 0  # the first batch has nobody to be told apart from
    assert got[1] > 0.5


def test_each_part_changes_the_loss() -> None:
    losses = [stepped(**options)[0][2] for options in ({}, {"extrapolate": None}, {"interpolate": None})]
    losses.append(stepped(extrapolate=None, interpolate=None)[0][2])
    assert len({round(loss, 3) for loss in losses}) == 4
    assert losses[0] > losses[1]  # a positive that was pushed apart is harder
