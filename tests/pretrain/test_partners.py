"""Positives that are other samples: who is drawn, what the views are of, and what each recipe makes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from medssl import objectives as O
from medssl.config import OPTIONS, Batch, Positives, Pretrain
from medssl.pretrain.callbacks import validation_batch
from medssl.pretrain.data import Samples, collate, training_rows
from medssl.pretrain.fit import fit, make_sampler
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES
from medssl.pretrain.sampler import HierarchicalBatches
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, run_of, weights
from tests.pretrain.test_gather import batch_of as pairs_of
from tests.pretrain.test_gather import module_of
from tests.pretrain.test_module import batch_of, loss_of, training_of
from tests.pretrain.test_sampler import EVEN, batches, cohort, two_sites

SHARES = {"view": 0.5, "trial": 0.3, "patient": 0.2}
MIXED = Positives(**SHARES)
TAKEN = [name for name, recipe in RECIPES.items() if not recipe.partners]


def level_of(table: pd.DataFrame, row: int, partner: int) -> str:
    one, other = table.iloc[row], table.iloc[partner]
    assert one["patient"] == other["patient"]
    if one["trial"] != other["trial"]:
        return "patient"
    return "view" if row == partner else "trial"


def expected(table: pd.DataFrame, row: int, shares: dict[str, float]) -> dict[str, float]:
    """Return the chance of each level, the slow way: what a level has not goes to the next finer one."""
    one = table.iloc[row]
    other_trial = ((table["patient"] == one["patient"]) & (table["trial"] != one["trial"])).any()
    other_sample = (table["trial"] == one["trial"]).sum() > 1
    chance = dict(shares)
    if not other_trial:
        chance["trial"] += chance.pop("patient")
    if not other_sample:
        chance["view"] += chance.pop("trial")
    return chance


UNEVEN = cohort([[1], [3], [1, 1], [4, 2], [1, 5, 2], [2, 2]])


def test_partners_are_of_the_levels_asked_for_or_of_finer_ones() -> None:
    sampler = batches(UNEVEN, patients=6, trials=2, samples=2, steps=400, positives=MIXED, seed=3)
    seen: Counter[str] = Counter()
    mean = dict.fromkeys(SHARES, 0.0)
    spread = dict.fromkeys(SHARES, 0.0)
    for batch in sampler:
        for row, _, partner in batch:
            seen[level_of(UNEVEN, row, partner)] += 1
            chances = expected(UNEVEN, row, SHARES)
            for level in SHARES:
                p = chances.get(level, 0.0)
                mean[level] += p
                spread[level] += p * (1 - p)
    assert sum(seen.values()) == 400 * 24
    for level in SHARES:
        assert abs(seen[level] - mean[level]) < 4 * spread[level] ** 0.5, level
    # Where all levels exist, the shares themselves.
    even = Counter(
        level_of(EVEN, row, partner)
        for batch in batches(EVEN, patients=12, trials=2, samples=2, steps=150, positives=MIXED)
        for row, _, partner in batch
    )
    for level, share in SHARES.items():
        assert abs(even[level] / 7200 - share) < 4 * (share * (1 - share) / 7200) ** 0.5, level


@pytest.mark.parametrize(
    ("level", "kinds"),
    [
        ("view", ["view"] * 6),
        ("trial", ["view", "trial", "view", "trial", None, "trial"]),
        ("patient", ["view", "trial", "patient", "patient", "patient", "patient"]),
    ],
)
def test_where_a_level_has_none_a_finer_one_is_taken(level: str, kinds: list[str | None]) -> None:
    asked = Positives(**{level: 1.0})
    for batch in batches(UNEVEN, patients=6, trials=2, samples=2, steps=40, positives=asked):
        for row, _, partner in batch:
            kind = kinds[int(UNEVEN["patient"].iloc[row]) - 500]
            if kind is None:  # a trial of one sample, among larger ones
                kind = "trial" if (UNEVEN["trial"] == UNEVEN["trial"].iloc[row]).sum() > 1 else "view"
            assert level_of(UNEVEN, row, partner) == kind


@pytest.mark.parametrize("level", ["trial", "patient"])
def test_all_others_of_a_level_are_equally_likely(level: str) -> None:
    table = cohort([[3, 2, 4]] * 2)
    shares = Positives(**{level: 1.0})
    pairs = Counter(
        (row, partner)
        for batch in batches(table, patients=2, trials=3, samples=2, steps=3000, positives=shares)
        for row, _, partner in batch
    )
    for row in range(len(table)):
        one = table.iloc[row]
        inside = table["trial"] == one["trial"]
        mates = inside if level == "trial" else (table["patient"] == one["patient"]) & ~inside
        others = set(np.flatnonzero(mates)) - {row}
        counts = {partner: count for (first, partner), count in pairs.items() if first == row}
        assert counts.keys() == others
        share = sum(counts.values()) / len(others)
        assert all(abs(count - share) < 5 * share**0.5 for count in counts.values())


def test_partners_change_nothing_else_and_are_joined_from_ranks() -> None:
    options: dict[str, Any] = {"patients": 8, "trials": 2, "samples": 2, "steps": 5, "seed": 4}
    plain, whole = list(batches(EVEN, **options)), list(batches(EVEN, positives=MIXED, **options))
    assert [[item[:2] for item in batch] for batch in whole] == plain
    ranks = [list(batches(EVEN, rank=r, world_size=4, positives=MIXED, **options)) for r in range(4)]
    assert [[item for part in parts for item in part] for parts in zip(*ranks, strict=True)] == whole
    other = list(batches(EVEN, positives=MIXED, **options | {"seed": 5}))
    assert whole != other
    # Batches of an epoch, and epochs, have partners of their own.
    drawn = [tuple(partner == row for row, _, partner in batch) for batch in whole]
    assert len(set(drawn)) == 5
    codes = np.random.default_rng(5).permutation(10**6)
    renamed = EVEN.assign(patient=codes[EVEN["patient"]], trial=codes[EVEN["trial"]])
    assert list(batches(renamed, positives=MIXED, **options)) == whole


def test_partners_are_positions_in_the_store_and_of_the_same_site() -> None:
    part = EVEN.iloc[48:]
    sampler = HierarchicalBatches(part, np.arange(48, 144), patients=4, trials=1, samples=2, positives=MIXED)
    for batch in sampler:
        for row, _, partner in batch:
            level_of(EVEN, row, partner)
    table = two_sites()
    shares = Positives(patient=0.5, trial=0.5)
    site = table["site"].to_numpy()
    found = [
        (row, partner)
        for batch in batches(table, patients=6, trials=2, samples=1, within="site", steps=60, positives=shares)
        for row, _, partner in batch
    ]
    assert all(site[row] == site[partner] for row, partner in found)
    # Of a trial of two sites each has one sample, which has no other there.
    assert {level_of(table, *pair) for pair in found if pair[0] >= 108} == {"view", "patient"}


def test_report_of_samples_without_a_partner() -> None:
    one = batches(UNEVEN, patients=6, trials=2, samples=2, positives=MIXED)
    anchors = [row for batch in one for row, *_ in batch]
    chances = [expected(UNEVEN, row, {"view": 0.0, "trial": 1.0, "patient": 0.0}) for row in anchors]
    lone = np.mean([chance["view"] == 1 for chance in chances])
    single = np.isin(UNEVEN["patient"].iloc[anchors] - 500, [0, 1]).mean()
    plain = batches(UNEVEN, patients=6, trials=2, samples=2).report()
    assert one.report() == pytest.approx(plain | {"partner_trial": lone, "partner_patient": single})


def test_what_may_be_asked_for() -> None:
    assert Pretrain().positives is None
    assert Pretrain(positives=None).positives is None
    assert Pretrain(positives=Positives(view=1)).positives is None
    assert Pretrain.model_validate({"positives": SHARES}).positives == MIXED
    thirds = {level: 0.3333333 for level in SHARES}
    next(iter(batches(EVEN, patients=4, trials=1, samples=1, positives=Positives(**thirds))))
    with pytest.raises(ValidationError, match=r"\{view: 0.5, trial: 0, patient: 0.4\} sum to 0.9; expected 1"):
        Positives(view=0.5, patient=0.4)
    for wrong in ({"view": 1.5, "trial": -0.5}, {"view": 0.5, "segment": 0.5}):
        with pytest.raises(ValidationError):
            Positives(**wrong)


def test_only_samples_trained_on_are_partners(redundant: Store) -> None:
    table = redundant.table
    for cure in ("remove", "mask"):
        run = run_of("simclr", positives={"patient": 0.5, "trial": 0.5}, duplicates=cure, steps_per_epoch=20)
        rows = training_rows(table, cure)
        sampler = make_sampler(table.iloc[rows], rows, run, 0, unreduced=len(rows))
        partners = {partner for batch in sampler for *_, partner in batch}
        assert partners <= set(rows)
        assert len(partners) > 10
    batch = validation_batch(Samples(redundant), Batch(patients=4), within=None, positives=Positives(patient=1))
    assert batch is not None
    assert batch.partner is not None
    seen = table.iloc[batch.partner.row]
    assert set(seen["split"]) == {"val"}
    assert torch.equal(batch.partner.patient, batch.patient)
    assert (batch.partner.trial != batch.trial).all()


def test_a_batch_of_pairs(signal_store: Store) -> None:
    n = len(signal_store)
    samples = Samples(signal_store, np.arange(n, dtype=np.float32)[:, None])
    batch = collate([samples[key] for key in ((3, 70, 4), (9, 71, 9))])
    plain = collate([samples[key] for key in ((3, 70), (9, 71))])
    assert plain.partner is None
    assert plain.second is plain
    assert batch.partner is not None
    assert batch.second is batch.partner
    assert batch.partner.row.tolist() == [4, 9]
    assert batch.partner.draw.tolist() == [70, 71]
    assert batch.partner.anatomy.tolist() == [[4], [9]]
    assert np.array_equal(batch.partner.x[0], signal_store[4])
    for name, value in vars(plain).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(batch, name), value), name
    moved = batch.to("meta").partner
    assert moved is not None
    assert {v.device.type for v in vars(moved).values() if isinstance(v, torch.Tensor)} == {"meta"}


@pytest.mark.parametrize(("shape", "modality"), [((2, 32), "ecg"), ((1, 16, 16), "ct"), ((1, 8, 8, 8), "ct")])
def test_every_second_view_is_of_the_partner(shape: tuple[int, ...], modality: str) -> None:
    module = training_of("swav", prototypes=4, crops=3)
    module = Training(module.net, module.recipe, steps=1, seed=1, modality=modality)
    x, other = torch.rand(2, 8, *shape, generator=torch.Generator().manual_seed(2))
    own = replace(batch_of(), x=x)
    batch = replace(own, partner=replace(own, x=other))
    got, of_own, of_other = (module.on_after_batch_transfer(one, 0) for one in (batch, own, replace(own, x=other)))
    assert len(got.views) == 5
    # Two whole views and three crops.
    for k, (source, another) in enumerate([(of_own, of_other), (of_other, of_own)] * 2 + [(of_own, of_other)]):
        assert torch.equal(got.views[k], source.views[k])
        assert not torch.equal(got.views[k], another.views[k])


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_partner_s_class_counts_in_view_two(decoupled: bool) -> None:
    module = training_of("simclr", duplicates="mask", decoupled=decoupled, projection_norm="layer", temperature=0.5)
    module.eval()
    first, second = torch.tensor([3, 1, 2, 5, 4, 6, 3, 8]), torch.tensor([9, 1, 3, 7, 1, 6, 10, 2])
    own = replace(batch_of(), duplicate=first)
    batch = module.on_after_batch_transfer(replace(own, partner=replace(own, x=own.x + 1, duplicate=second)), 0)
    z, ids, patient = torch.cat([module.net.project(v) for v in batch.views]), torch.cat([first, second]), own.patient
    terms = []
    for i in range(16):
        mate = (i + 8) % 16
        apart = (patient.repeat(2) != patient[i % 8]) & (ids != ids[i])
        push = z[apart] if decoupled else torch.cat([z[apart], z[mate][None]])
        terms.append((push @ z[i] / 0.5).logsumexp(0) - z[i] @ z[mate] / 0.5)
    assert loss_of(module, batch) == pytest.approx(torch.stack(terms).mean().item(), abs=1e-5)


@pytest.mark.parametrize("loss", ["y_aware", "exp_weighted"])
def test_the_partner_s_measures_weight_view_two(loss: str) -> None:
    options = OPTIONS["anatomy"].examples[0] | {"loss": loss}
    module = module_of("anatomy", options=options).eval()
    batch = pairs_of(slice(None), paired=True)
    batch = module.on_after_batch_transfer(batch, 0)
    assert batch.partner is not None
    assert not torch.equal(batch.partner.anatomy.nan_to_num(), batch.anatomy.nan_to_num())
    likeness: Any = module.net.heads["likeness"]
    measures = torch.cat([batch.anatomy, batch.partner.anatomy])
    n, z = len(batch.x), torch.cat([module.net.project(view) for view in batch.views])
    weights = torch.eye(2 * n).roll(n, 0)  # a sample and its partner are a pair whatever is known of them
    for i in range(2 * n):
        for j in range(2 * n):
            if j != (i + n) % (2 * n):
                weights[i, j] = likeness(measures[i : i + 1], measures[j : j + 1])
    expected = getattr(O.anatomy, loss)(z, weights, temperature=0.2)
    assert loss_of(module, batch) == pytest.approx(expected.item(), abs=1e-5)


def test_a_key_in_memory_is_the_partner_s() -> None:
    module = module_of("mochi", options={"queue": 40, "hardest": 8}).train()
    batch = module.on_after_batch_transfer(pairs_of(slice(None), paired=True), 0)
    loss_of(module, batch)
    assert batch.partner is not None
    assert module.net.memory.row[:12].tolist() == batch.partner.row.tolist() != batch.row.tolist()
    assert torch.allclose(module.net.memory.z[:12], module.net.teach(batch.views[1]), atol=1e-6)


def test_recipes_that_take_partners_or_say_why_not(stores: dict[str, Store], tmp_path: Path) -> None:
    without = {"comet", "comet_code", "wearable", "cmim", "selfie", "hpm", "collossl", "gsimclr"}
    assert RECIPES.keys() - set(TAKEN) == without
    assert all(recipe.partners for recipe in RECIPES.values() if recipe.dense or not recipe.place)
    for name in RECIPES.keys() - set(TAKEN):
        with pytest.raises(
            ValueError, match=r"pretrain\.positives: \{view: 0.5, trial: 0.3, patient: 0.2\} is not"
        ) as e:
            fit(stores[name], run_of(name, positives=SHARES), seed=0, compute=COMPUTE, checkpoints=tmp_path)
        assert str(e.value).endswith(f"for recipe {name}: {RECIPES[name].partners}; take null")
        fit(
            stores[name],
            run_of(name, positives={"view": 1}, epochs=1, steps_per_epoch=1),
            seed=0,
            compute=COMPUTE,
            checkpoints=tmp_path,
        )


@pytest.mark.parametrize("recipe", TAKEN)
def test_views_alone_are_what_null_trains_and_partners_are_not(
    recipe: str, stores: dict[str, Store], tmp_path: Path
) -> None:
    def fitted(positives: Positives | None) -> Any:
        run = run_of(recipe, epochs=1, steps_per_epoch=3, monitor_steps=1)
        pretrain = run.pretrain.model_copy(update={"positives": positives})  # {view: 1} would be made null
        run = run.model_copy(update={"pretrain": pretrain})
        return fit(stores[recipe], run, seed=0, compute=COMPUTE, checkpoints=tmp_path)

    null, views, others = fitted(None), fitted(Positives(view=1)), fitted(Positives(trial=1))
    assert null.history == views.history
    assert all(torch.equal(a, b) for a, b in zip(weights(null).values(), weights(views).values(), strict=True))
    assert others.unpaired.keys() == {"patient", "trial", "partner_trial", "partner_patient"}
    assert others.unpaired["partner_trial"] == 0
    assert others.unpaired["partner_patient"] == (1 if recipe == "anatomy" else 0)
    assert len(others.history) == 3
    assert all(np.isfinite(list(row.values())).all() for row in others.history)
    for name in ("train/loss", "val/loss", "val/alignment"):  # validation has partners too
        assert null.history[-1][name] != others.history[-1][name], name
