"""Latent positives: when prototypes come, and that without them it is the memory's InfoNCE."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from medssl.config.recipes.latent import Halp
from medssl.objectives.latent import hallucinated, pull, spherical_kmeans
from medssl.objectives.memory import memory_contrast
from tests.pretrain.test_gather import batch_of, module_of

OPTIONS = {"queue": 40, "momentum": 0.9, "prototypes": 4, "newest": 20, "refresh": 2, "made": 8}


def test_steps_until_prototypes_are_there() -> None:
    module = module_of("halp", options=OPTIONS).train()
    net, made_of = module.net, []
    for number in range(4):
        batch = module.on_after_batch_transfer(batch_of(slice(None), number), 0)
        keys, ignore = (x.clone() for x in net.memory.columns(batch.patient))
        losses = module.recipe.step(net, batch)
        with torch.no_grad():
            q, k = net.project(batch.views[0]), net.teach(batch.views[1])
        expected = memory_contrast(q, k, keys, temperature=0.2, ignore=ignore)
        draws, prototypes = net.draws.fork(10), net.state["prototypes"]
        if prototypes.any():
            made, kept = hallucinated(k, prototypes, draws.integers(3, 8), 1 - 0.8 * draws.uniform(8))
            expected = expected + pull(q, made, kept, temperature=0.2)
            assert losses["kept"] > 0.5
        assert losses["loss"].item() == pytest.approx(expected.item(), abs=1e-5)
        made_of.append(bool(prototypes.any()))
        module.after_step()
    # After the second step there are 24 keys, and a step divisible by `refresh`.
    assert made_of == [False, False, True, True]
    newest = torch.arange(48 - 20, 48) % 40
    assert torch.equal(net.state["prototypes"], spherical_kmeans(net.memory.z[newest], 4))


def test_what_may_be_asked_for() -> None:
    with pytest.raises(ValidationError, match=r"prototypes 20, newest 256, queue 100; expected no more"):
        Halp(queue=100)
