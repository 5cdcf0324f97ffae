"""When BECLR's memory is divided, what a step is pulled to then, and that partitions follow the keys."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from medssl.config.recipes.latent import Beclr
from medssl.objectives import beclr, sinkhorn
from tests.pretrain.test_gather import batch_of, module_of

OPTIONS = {"queue": 32, "partitions": 4, "neighbours": 3, "momentum": 0.9}


def test_steps_before_and_after_the_memory_is_full() -> None:
    module = module_of("beclr", options=OPTIONS | {"warmup_steps": 3}).train()
    net, seen = module.net, []
    for number in range(5):
        batch = module.on_after_batch_transfer(batch_of(slice(None), number), 0)
        memory, prototypes, place = (
            net.memory.z.clone(),
            net.state["prototypes"].clone(),
            net.state["partition"].clone(),
        )
        full = net.memory.full
        losses = module.recipe.step(net, batch)
        with torch.no_grad():
            z = net.project_all(batch.views)
            keys = [net.teach(view) for view in batch.views]
            p = [net.heads["predictor"](one) for one in z]
        own = sinkhorn(torch.cat(keys) @ prototypes.T, eps=0.05, iterations=10).argmax(1)
        ways = []
        for mine, other, where in ((p[0], keys[1], own[12:]), (p[1], keys[0], own[:12])):
            for i in range(12):
                inside = [j for j in range(32) if full and number >= 3 and place[j] == where[i]]
                inside.sort(key=lambda j: -float(memory[j] @ other[i]))
                targets = [other[i], *(memory[j] for j in inside[:3])]
                ways.append(sum(1 - float(torch.cosine_similarity(mine[i], t, dim=0)) for t in targets) / len(targets))
        assert losses["pull"].item() == pytest.approx(sum(ways) / 24, abs=1e-5)
        push = beclr.repulsion(*z, group=batch.patient)
        assert losses["loss"].item() == pytest.approx(losses["pull"].item() + 0.1 * push.item(), abs=1e-5)
        seen.append(losses["neighbours"].item() > 0.5)
        if full:  # the newest keys lie where the matching put them, the others where they lay
            newest = torch.arange(net.memory.pushed - 24, net.memory.pushed) % 32
            assert torch.equal(net.state["partition"][newest], own)
            kept = torch.ones(32, dtype=torch.bool).index_fill(0, newest, False)
            assert torch.equal(net.state["partition"][kept], place[kept])
            moved = beclr.recentred(prototypes, net.memory.z, net.state["partition"], inertia=0.9)
            assert torch.allclose(net.state["prototypes"], moved)
        elif net.memory.full:
            assert torch.equal(net.state["partition"], (net.memory.z @ net.state["prototypes"].T).argmax(1))
        else:
            assert not net.state["prototypes"].any()
        module.after_step()
    assert seen == [False, False, False, True, True]


def test_what_may_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="partitions 200 of a queue of 100; take fewer"):
        Beclr(queue=100)
