"""The averages beside the trained weights, and what reaches the losses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from medssl.config import OPTIONS, Pretrain
from medssl.models import build
from medssl.pretrain.data import Batch
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes


def training_of(recipe: str, *, channels: int = 2, **given: Any) -> Training:
    """Return a recipe on a tiny encoder; keywords that are options of the recipe go there."""
    section = OPTIONS[recipe]
    options = {name: given.pop(name) for name in list(given) if name in section.model_fields}
    params = Pretrain(**{"projection_dim": 4} | given, options=section.model_validate(options))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build("dilated1d", in_channels=channels, widths=(4, 4), depth=2)
        net = RECIPES[recipe].net(encoder, params, Sizes(4, 40, (channels, 32)))
        return Training(net, RECIPES[recipe], steps=100, seed=1)


def batch_of(n: int = 8) -> Batch:
    x = torch.randn(n, 2, 32, generator=torch.Generator().manual_seed(0))
    ids, number = torch.arange(n) // 2, torch.arange(n)
    return Batch(x, ids, ids, number, number, number, torch.randn(n, 1), x.new_zeros(n, 0), x.new_ones(n))


def loss_of(module: Training, batch: Batch, name: str = "loss") -> float:
    return module.recipe.step(module.net, batch)[name].item()


def test_w5_momentum_branch() -> None:
    module = training_of("wearable", momentum=0.99)
    net: Any = module.net
    pairs = [(net.encoder.inputs.weight, net.teacher["encoder"].inputs.weight)]
    heads = (net.heads, net.teacher["heads"])
    pairs.append(tuple(which["projection"].layers[0].weight for which in heads))
    for online, target in pairs:
        assert torch.equal(online, target)
        with torch.no_grad():
            online.copy_(target + 1)
    start = [(online - target).mean().item() for online, target in pairs]
    for _ in range(100):
        module.after_step()
    for (online, target), gap in zip(pairs, start, strict=True):
        assert (online - target).mean().item() / gap == pytest.approx(0.366032, abs=1e-4)


def test_average_of_all_iterates_counts_the_initial_weights() -> None:
    module = training_of("comet")
    weight: Any = module.net.encoder.inputs.weight  # type: ignore[union-attr]
    seen = [weight.detach().clone()]
    for step in range(4):
        with torch.no_grad():
            weight.add_(step + 1.0)
        seen.append(weight.detach().clone())
        module.after_step()
    exported: Any = module.exported()
    assert torch.allclose(exported.inputs.weight, torch.stack(seen).mean(0), atol=1e-5)
    assert exported is not module.net.encoder
    plain = training_of("simclr")
    assert plain.exported() is plain.net.encoder


def test_momentum_keys_are_crossed_and_carry_no_gradient() -> None:
    module = training_of("wearable")
    losses = module.recipe.step(module.net, module.on_after_batch_transfer(batch_of(), 0))
    losses["loss"].backward()
    assert module.net.teacher is not None
    assert all(p.grad is None for p in module.net.teacher.parameters())
    assert any(p.grad is not None and p.grad.any() for p in module.net.encoder.parameters())
    assert losses["loss"].item() == pytest.approx((losses["contrast"] + 0.1 * losses["koleo"]).item(), abs=1e-5)


def test_wearable_keys_come_from_the_other_view() -> None:
    module = training_of("wearable", temperature=0.5)
    net: Any = module.net
    net.encoder.dropout.p = net.teacher["encoder"].dropout.p = 0.0
    with torch.no_grad():
        net.encoder.inputs.weight.mul_(1.3)
    batch = module.on_after_batch_transfer(batch_of(), 0)
    first, second = batch.views[0][0::2], batch.views[0][1::2]
    (q1, q2), (k1, k2) = ([f(x) for x in (first, second)] for f in (net.project, net.teach))
    own = torch.arange(len(q1))

    def contrast(*ways: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.nn.functional.cross_entropy(q @ k.T / 0.5, own) for q, k in ways]).mean()

    expected, same_view = contrast((q1, k2), (q2, k1)), contrast((q1, k1), (q2, k2))
    got = loss_of(module, batch, "contrast")
    assert got == pytest.approx(expected.item(), abs=1e-5)
    assert got != pytest.approx(same_view.item(), abs=1e-4)


def test_segment_pairs_are_two_views_of_one_segment() -> None:
    module = training_of("wearable", participant_pairs=0.0, momentum=None, views="leads")
    net: Any = module.net
    assert net.teacher is None
    seen: list[torch.Tensor] = []
    project = net.project
    net.project = lambda x: seen.append(x) or project(x)
    batch = module.on_after_batch_transfer(batch_of(), 0)
    loss_of(module, batch)
    assert torch.equal(seen[0], batch.views[0][0::2])
    assert torch.equal(seen[1], batch.views[1][0::2])


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_masked_step_is_one_with_the_columns_taken_out_by_hand(decoupled: bool) -> None:
    module = training_of("simclr", duplicates="mask", decoupled=decoupled, projection_norm="layer", temperature=0.5)
    module.eval()
    ids = torch.tensor([3, 1, 3, 5, 1, 6, 3, 8])
    batch = module.on_after_batch_transfer(replace(batch_of(), duplicate=ids), 0)
    z = torch.cat([module.net.project(view) for view in batch.views])
    terms = []
    for i in range(16):
        partner = (i + 8) % 16
        apart = (batch.patient != batch.patient[i % 8]) & (ids != ids[i % 8])
        push = z[apart.repeat(2)] if decoupled else torch.cat([z[apart.repeat(2)], z[partner][None]])
        terms.append((push @ z[i] / 0.5).logsumexp(0) - z[i] @ z[partner] / 0.5)
    expected = torch.stack(terms).mean()
    assert loss_of(module, batch) == pytest.approx(expected.item(), abs=1e-5)
    plain = loss_of(module, replace(batch, duplicate=torch.arange(8)))
    assert plain != pytest.approx(expected.item(), abs=1e-3)


@pytest.mark.parametrize("options", [{}, {"momentum": None}])
@pytest.mark.parametrize("cure", ["mask", "weight"])
def test_a_second_view_of_a_segment_has_its_class(options: dict[str, Any], cure: str) -> None:
    def loss(ids: list[int], share: float) -> float:
        module = training_of("wearable", duplicates=cure, participant_pairs=share, temperature=0.5, **options).eval()
        batch = module.on_after_batch_transfer(replace(batch_of(), duplicate=torch.tensor(ids)), 0)
        return loss_of(module, batch, "contrast")

    # First segments all different, second ones of a class with the first segment of another participant.
    ids = [0, 1, 2, 0, 4, 0, 6, 2]
    assert loss(ids, 0.0) == pytest.approx(loss(list(range(8)), 0.0), abs=1e-6)
    assert loss(ids, 1.0) != pytest.approx(loss(list(range(8)), 1.0), abs=1e-4)
    # Two segments of a participant stay a positive pair.
    assert loss([0, 0, 2, 2, 4, 4, 6, 6], 1.0) == pytest.approx(loss(list(range(8)), 1.0), abs=1e-6)


def trained(module: Training, steps: int = 1, lr: float | None = None) -> Any:
    """Take optimiser steps as a trainer would, and return the optimiser."""
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    for step in range(steps):
        shown = replace(batch_of(), draw=torch.arange(8) + 8 * step)
        batch = module.on_after_batch_transfer(module.on_before_batch_transfer(shown, 0), 0)
        optimizer.zero_grad()
        module.training_step(batch, step).backward()
        optimizer.step()
        module.after_step()
        schedule.step()
    return optimizer


def test_prototypes_are_held_for_the_first_steps_and_stay_on_the_sphere() -> None:
    module = training_of("swav", prototypes=4, crops=2, freeze_steps=2)
    weight = module.net.heads["prototypes"].weight
    assert isinstance(weight, torch.Tensor)
    first = weight.detach().clone()
    trained(module, steps=2)
    assert torch.allclose(weight, first, atol=1e-6)
    trained(module, steps=3)
    assert not torch.allclose(weight, first, atol=1e-4)
    assert torch.allclose(weight.norm(dim=1), torch.ones(4), atol=1e-6)


def test_norms_biases_and_prototypes_do_not_decay() -> None:
    module = training_of("swav", prototypes=4, weight_decay=0.5)
    decays = {id(p) for g in trained(module, steps=0).param_groups if g["weight_decay"] for p in g["params"]}
    for name, parameter in module.named_parameters():
        rigid = name.endswith("bias") or "prototypes" in name or parameter.ndim < 2
        assert (id(parameter) in decays) != rigid, name


def test_views_follow_the_draw_numbers() -> None:
    module, batch = training_of("simclr"), batch_of()
    with torch.random.fork_rng():
        one = module.on_after_batch_transfer(batch, 0)
        two = module.on_after_batch_transfer(batch, 3)
        later = module.on_after_batch_transfer(replace(batch, draw=batch.draw + 8), 0)
    assert torch.equal(one.views[0], two.views[0])
    assert not torch.equal(one.views[0], one.views[1])
    assert not torch.equal(one.views[0], later.views[0])
    assert torch.equal(one.x, batch.x)


def test_how_many_views_a_recipe_reads() -> None:
    for recipe, options, shapes in (
        ("simclr", {}, [32, 32]),
        ("comet_code", {}, []),
        ("multiview", {"views": 3}, [32] * 3),
        ("swav", {"prototypes": 4, "crops": 3}, [32, 32, 14, 14, 14]),
    ):
        module = training_of(recipe, **options)
        assert [view.shape[2] for view in module.on_after_batch_transfer(batch_of(), 0).views] == shapes
        measured = module.eval().on_after_batch_transfer(batch_of(), 0).views
        assert len(measured) == max(2, len(shapes))  # alignment is of two


def test_places_of_still_views_correspond() -> None:
    module = training_of("simclr")
    moved = module.on_after_batch_transfer(batch_of(), 0)
    assert moved.place is not None
    assert moved.place.shape == (8, 2, 1, 2)
    assert moved.place.isnan().any()
    still = Training(module.net, replace(RECIPES["simclr"], place=False), steps=1, seed=1)
    batch = still.on_after_batch_transfer(batch_of(), 0)
    assert batch.place is not None
    assert batch.place.tolist() == [[[[1.0, 0.0]]] * 2] * 8
    names = {operation.__name__ for _, operation in still.augmentation.plan}
    assert names == {"soft_warp", "gain", "drift", "noise", "cut_out"}


def test_learning_rate_warms_up_and_decays() -> None:
    module = training_of("simclr", epochs=10, warmup_epochs=1, lr=1.0)
    made = module.configure_optimizers()
    factor = made["lr_scheduler"]["scheduler"].lr_lambdas[0]
    rates = [factor(step) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert all(a < b for a, b in itertools.pairwise(rates[:11]))
    assert rates[10] == 1
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0)
    every = [id(p) for group in made["optimizer"].param_groups for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in module.net.parameters())


def test_the_wearable_recipe_asks_for_two_segments() -> None:
    compose = RECIPES["wearable"].batch
    assert compose is not None
    batch = compose(Pretrain().batch)
    assert (batch.patients, batch.trials, batch.samples) == (16, 2, 1)
    assert RECIPES["comet"].batch is None
