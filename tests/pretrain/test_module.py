"""The averages beside the trained weights, and what reaches the losses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from medssl.config import Pretrain
from medssl.models import build
from medssl.pretrain.data import Batch
from medssl.pretrain.module import Contrast
from medssl.pretrain.recipes import RECIPES


def net_of(recipe: str, **options: Any) -> Contrast:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build("dilated1d", in_channels=2, widths=(4, 4), depth=2)
        return Contrast(encoder, RECIPES[recipe], Pretrain(projection_dim=4, **options), steps=100, seed=1)


def batch_of(n: int = 8) -> Batch:
    x = torch.randn(n, 2, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(n) // 2
    return Batch(x, x, x, x[:, None, :0], ids, ids, torch.randn(n, 1), torch.arange(n), torch.arange(n))


def test_w5_momentum_branch() -> None:
    net = net_of("wearable", momentum=0.99)
    assert net.target is not None
    pairs: Any = [(net.encoder.inputs.weight, net.target.module["encoder"].inputs.weight)]  # type: ignore[index, union-attr]
    pairs.append((net.head.layers[0].weight, net.target.module["head"].layers[0].weight))  # type: ignore[index]
    for online, target in pairs:
        assert torch.equal(online, target)
        with torch.no_grad():
            online.copy_(target + 1)
    start = [(online - target).mean().item() for online, target in pairs]
    for _ in range(100):
        net.after_step()
    for (online, target), gap in zip(pairs, start, strict=True):
        assert (online - target).mean().item() / gap == pytest.approx(0.366032, abs=1e-4)


def test_average_of_all_iterates_counts_the_initial_weights() -> None:
    net = net_of("comet")
    weight: Any = net.encoder.inputs.weight  # type: ignore[union-attr]
    seen = [weight.detach().clone()]
    net.on_train_start()
    for step in range(4):
        with torch.no_grad():
            weight.add_(step + 1.0)
        seen.append(weight.detach().clone())
        net.after_step()
    exported: Any = net.exported()
    assert torch.allclose(exported.inputs.weight, torch.stack(seen).mean(0), atol=1e-5)
    assert exported is not net.encoder
    assert net_of("simclr").exported() is not None


def test_momentum_keys_are_crossed_and_carry_no_gradient() -> None:
    net = net_of("wearable")
    batch = net.on_after_batch_transfer(batch_of(), 0)
    losses = RECIPES["wearable"].step(net, batch)
    losses["loss"].backward()
    assert net.target is not None
    assert all(p.grad is None for p in net.target.parameters())
    assert any(p.grad is not None and p.grad.any() for p in net.encoder.parameters())
    assert losses["loss"].item() == pytest.approx((losses["contrast"] + 0.1 * losses["koleo"]).item(), abs=1e-5)


def test_wearable_keys_come_from_the_other_view() -> None:
    net = net_of("wearable", temperature=0.5)
    net.encoder.dropout.p = net.target.module["encoder"].dropout.p = 0.0  # type: ignore[union-attr, index, assignment]
    with torch.no_grad():
        net.encoder.inputs.weight.mul_(1.3)  # type: ignore[union-attr, operator]
    batch = net.on_after_batch_transfer(batch_of(), 0)
    first, second = batch.v1[0::2], batch.v1[1::2]
    (q1, q2), (k1, k2) = ([f(x) for x in (first, second)] for f in (net.project, net.project_target))
    own = torch.arange(len(q1))

    def contrast(*ways: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.nn.functional.cross_entropy(q @ k.T / 0.5, own) for q, k in ways]).mean()

    expected, same_view = contrast((q1, k2), (q2, k1)), contrast((q1, k1), (q2, k2))
    got = net.recipe.step(net, batch)["contrast"].item()
    assert got == pytest.approx(expected.item(), abs=1e-5)
    assert got != pytest.approx(same_view.item(), abs=1e-4)


def test_segment_pairs_are_two_views_of_one_segment() -> None:
    net = net_of("wearable", participant_pairs=0.0, momentum=None, views="leads")
    assert net.target is None
    seen: list[torch.Tensor] = []
    project = net.project
    net.project = lambda x: seen.append(x) or project(x)  # type: ignore[method-assign, func-returns-value]
    batch = net.on_after_batch_transfer(batch_of(), 0)
    net.recipe.step(net, batch)
    assert torch.equal(seen[0], batch.v1[0::2])
    assert torch.equal(seen[1], batch.v2[0::2])


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_masked_step_is_one_with_the_columns_taken_out_by_hand(decoupled: bool) -> None:
    net = net_of("simclr", duplicates="mask", decoupled=decoupled, projection_norm="layer", temperature=0.5).eval()
    ids = torch.tensor([3, 1, 3, 5, 1, 6, 3, 8])
    batch = net.on_after_batch_transfer(replace(batch_of(), duplicate=ids), 0)
    z = torch.cat([net.project(batch.v1), net.project(batch.v2)])
    terms = []
    for i in range(16):
        partner = (i + 8) % 16
        apart = (batch.patient != batch.patient[i % 8]) & (ids != ids[i % 8])
        push = z[apart.repeat(2)] if decoupled else torch.cat([z[apart.repeat(2)], z[partner][None]])
        terms.append((push @ z[i] / 0.5).logsumexp(0) - z[i] @ z[partner] / 0.5)
    expected = torch.stack(terms).mean()
    assert net.recipe.step(net, batch)["loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    plain = net.recipe.step(net, replace(batch, duplicate=torch.arange(8)))["loss"].item()
    assert plain != pytest.approx(expected.item(), abs=1e-3)


@pytest.mark.parametrize("options", [{}, {"momentum": None}])
@pytest.mark.parametrize("cure", ["mask", "weight"])
def test_a_second_view_of_a_segment_has_its_class(options: dict[str, Any], cure: str) -> None:
    def loss(ids: list[int], share: float) -> float:
        net = net_of("wearable", duplicates=cure, participant_pairs=share, temperature=0.5, **options).eval()
        batch = net.on_after_batch_transfer(replace(batch_of(), duplicate=torch.tensor(ids)), 0)
        return net.recipe.step(net, batch)["contrast"].item()

    # First segments all different, second ones of a class with the first segment of another participant.
    ids = [0, 1, 2, 0, 4, 0, 6, 2]
    assert loss(ids, 0.0) == pytest.approx(loss(list(range(8)), 0.0), abs=1e-6)
    assert loss(ids, 1.0) != pytest.approx(loss(list(range(8)), 1.0), abs=1e-4)
    # Two segments of a participant stay a positive pair.
    assert loss([0, 0, 2, 2, 4, 4, 6, 6], 1.0) == pytest.approx(loss(list(range(8)), 1.0), abs=1e-6)


def test_prototypes_are_held_for_the_first_steps() -> None:
    net = net_of("swav", swav={"prototypes": 4, "freeze_steps": 5})
    assert net.prototypes is not None
    net.prototypes.weight.grad = torch.ones_like(net.prototypes.weight)
    net.on_before_optimizer_step(None)
    assert net.prototypes.weight.grad is None


def test_views_follow_the_draw_numbers() -> None:
    net, batch = net_of("simclr"), batch_of()
    with torch.random.fork_rng():
        one = net.on_after_batch_transfer(batch, 0)
        two = net.on_after_batch_transfer(batch, 3)
        later = net.on_after_batch_transfer(Batch(**{**batch.__dict__, "draw": batch.draw + 8}), 0)
    assert torch.equal(one.v1, two.v1)
    assert not torch.equal(one.v1, one.v2)
    assert not torch.equal(one.v1, later.v1)
    assert torch.equal(one.x, batch.x)


def test_learning_rate_warms_up_and_decays() -> None:
    net = net_of("simclr", epochs=10, warmup_epochs=1, lr=1.0)
    made = net.configure_optimizers()
    factor = made["lr_scheduler"]["scheduler"].lr_lambdas[0]
    rates = [factor(step) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert all(a < b for a, b in itertools.pairwise(rates[:11]))
    assert rates[10] == 1
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0)
    trained = {id(p) for group in made["optimizer"].param_groups for p in group["params"]}
    assert trained == {id(p) for p in [*net.encoder.parameters(), *net.head.parameters()]}


def test_pairs_recipe_asks_for_two_segments() -> None:
    batch = RECIPES["wearable"].batch(Pretrain().batch)
    assert (batch.patients, batch.trials, batch.samples) == (16, 2, 1)
    assert RECIPES["comet"].batch(Pretrain().batch) == Pretrain().batch
