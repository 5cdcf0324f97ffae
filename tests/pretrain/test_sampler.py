"""Hierarchical batches: composition, fairness, reproducibility, ranks, sites."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.pretrain.sampler import HierarchicalBatches, _shuffled


def cohort(segments: list[list[int]]) -> pd.DataFrame:
    """Return a table: for each patient the number of samples of each of its trials."""
    rows = []
    for patient, trials in enumerate(segments):
        for trial, count in enumerate(trials):
            rows += [{"patient": 500 + patient, "trial": 1000 * patient + trial}] * count
    return pd.DataFrame(rows)


def batches(table: pd.DataFrame, **options: Any) -> HierarchicalBatches:
    return HierarchicalBatches(table, np.arange(len(table)), **options)


EVEN = cohort([[4, 4, 4]] * 12)


def test_w10_pairs_of_segments() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 21, 200)
    table = cohort([[int(n)] for n in counts])
    owner = table["patient"].to_numpy()
    sampler = batches(table, patients=64, trials=2, samples=1, steps=1000, seed=3)
    chosen: Counter[int] = Counter()
    for batch in sampler:
        rows = np.array([row for row, _ in batch]).reshape(64, 2)
        patients = owner[rows]
        assert (patients[:, 0] == patients[:, 1]).all()
        assert len(set(patients[:, 0])) == 64
        several = counts[patients[:, 0] - 500] >= 2
        assert (rows[several, 0] != rows[several, 1]).all()
        chosen.update(patients[:, 0].tolist())
    assert len(chosen) == 200
    assert min(chosen.values()) >= 0.95 * 320
    assert max(chosen.values()) <= 1.05 * 320


def test_every_segment_of_a_patient_is_used_equally() -> None:
    table = cohort([[6]] * 4)
    counts: Counter[int] = Counter()
    for batch in batches(table, patients=4, trials=2, samples=1, steps=1500):
        counts.update(row for row, _ in batch)
    expected = 1500 * 4 * 2 / 24
    assert all(0.85 * expected < counts[row] < 1.15 * expected for row in range(24))


def test_composition() -> None:
    sampler = batches(EVEN, patients=5, trials=2, samples=3)
    assert len(sampler) == round(len(EVEN) / 30)
    made = list(sampler)
    assert len(made) == len(sampler)
    for batch in made:
        rows = EVEN.iloc[[row for row, _ in batch]]
        assert len({row for row, _ in batch}) == 30
        assert rows["patient"].nunique() == 5
        assert (rows.groupby("patient")["trial"].nunique() == 2).all()
        assert (rows.groupby("trial").size() == 3).all()
        # Patient-major, and trial-major inside.
        assert rows["patient"].to_numpy().reshape(5, 6).std(1).max() == 0
        assert rows["trial"].to_numpy().reshape(10, 3).std(1).max() == 0


def test_positions_in_the_store_are_returned() -> None:
    part = EVEN.iloc[48:]
    sampler = HierarchicalBatches(part, np.arange(48, len(EVEN)), patients=4, trials=1, samples=2)
    drawn = {row for batch in sampler for row, _ in batch}
    assert min(drawn) >= 48
    assert max(drawn) < len(EVEN)


def test_few_trials_and_samples_are_given_again() -> None:
    table = cohort([[1], [2], [3, 1], [5, 5, 5]])
    for batch in batches(table, patients=4, trials=2, samples=2, steps=20):
        rows = np.array([row for row, _ in batch]).reshape(4, 4)
        owner = table["patient"].to_numpy()[rows]
        assert (owner == owner[:, :1]).all()
        distinct = {int(owner[k, 0]) - 500: len(set(rows[k])) for k in range(4)}
        assert distinct[0] == 1
        assert distinct[1] == 2
        assert distinct[2] == 3
        assert distinct[3] == 4


def test_same_seed_same_batches_and_every_epoch_a_new_composition() -> None:
    options = {"patients": 4, "trials": 2, "samples": 2, "steps": 6}
    one, two = batches(EVEN, seed=1, **options), batches(EVEN, seed=1, **options)
    first = list(one)
    assert first == list(two)
    assert first == list(one)
    assert first != list(batches(EVEN, seed=2, **options))
    two.set_epoch(1)
    second = list(two)
    members = [[{row for row, _ in batch} for batch in epoch] for epoch in (first, second)]
    assert not any(a == b for a in members[0] for b in members[1])
    together = [[frozenset(EVEN["patient"].iloc[list(b)]) for b in epoch] for epoch in members]
    assert together[0] != together[1]


def test_joined_ranks_are_the_batch_of_one() -> None:
    options = {"patients": 8, "trials": 2, "samples": 2, "steps": 5, "seed": 4}
    whole = list(batches(EVEN, **options))
    for world_size in (2, 4):
        ranks = [list(batches(EVEN, rank=r, world_size=world_size, **options)) for r in range(world_size)]
        for step, batch in enumerate(whole):
            assert [item for r in ranks for item in r[step]] == batch
            assert {len(r[step]) for r in ranks} == {32 // world_size}
            owners = [{int(EVEN["patient"].iloc[row]) for row, _ in r[step]} for r in ranks]
            assert sum(map(len, owners)) == len(set().union(*owners)) == 8


def test_uneven_patients_are_cut_to_a_multiple_of_the_ranks() -> None:
    sampler = [batches(EVEN, rank=r, patients=100, trials=1, samples=1, world_size=5, steps=2) for r in range(5)]
    assert {s.patients for s in sampler} == {10}
    assert {len(batch) for s in sampler for batch in s} == {2}


def test_draw_numbers_are_unique_over_epochs_and_ranks() -> None:
    seen: list[int] = []
    for rank in range(2):
        sampler = batches(EVEN, patients=6, trials=2, samples=2, rank=rank, world_size=2, steps=7)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            seen += [draw for batch in sampler for _, draw in batch]
    assert len(seen) == 2 * 3 * 7 * 12
    assert sorted(seen) == list(range(len(seen)))


def test_sampling_stays_fair_when_patients_do_not_divide() -> None:
    table = cohort([[3]] * 7)
    counts: Counter[int] = Counter()
    for batch in batches(table, patients=5, trials=1, samples=1, steps=700):
        patients = [int(table["patient"].iloc[row]) for row, _ in batch]
        assert len(set(patients)) == 5
        counts.update(patients)
    assert max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.parametrize(("patients", "world_size"), [(1, 1), (12, 7), (3, 2)])
def test_too_few_patients(patients: int, world_size: int) -> None:
    with pytest.raises(ValueError, match="contrast needs at least 2 per process"):
        batches(EVEN, patients=patients, trials=1, samples=1, world_size=world_size)


def test_the_codes_themselves_decide_nothing() -> None:
    codes = np.random.default_rng(5).permutation(10**6)
    renamed = EVEN.assign(patient=codes[EVEN["patient"]], trial=codes[EVEN["trial"]])
    options: dict[str, Any] = {"patients": 4, "trials": 2, "samples": 2, "steps": 5, "seed": 2}
    assert list(batches(EVEN, **options)) == list(batches(renamed, **options))


def two_sites() -> pd.DataFrame:
    """Return 30 patients: 9 of site north, 18 of south, 3 with other samples of the same trials in each."""
    table = cohort([[2, 2]] * 30)
    site = np.where(table["patient"] < 509, "north", "south")
    both = (table["patient"] >= 527).to_numpy() & (np.arange(len(table)) % 2 == 0)
    return table.assign(site=np.where(both, "north", site))


def test_batches_within_a_site() -> None:
    table = two_sites()
    sites: Counter[str] = Counter()
    patients: Counter[tuple[int, str]] = Counter()
    for batch in batches(table, patients=6, trials=2, samples=1, within="site", steps=1100, seed=1):
        part = table.iloc[[row for row, _ in batch]]
        (site,) = part["site"].unique()
        sites[site] += 1
        assert part["patient"].nunique() == 6
        assert part["trial"].nunique() == 12
        patients.update((int(p), site) for p in part["patient"].unique())
    # 12 patients under north, 21 under south; each is drawn 200 times.
    assert sites == {"north": 400, "south": 700}
    assert len(patients) == 33
    assert all(abs(count - 200) <= 2 for count in patients.values())


def test_a_trial_of_two_sites_counts_under_each() -> None:
    table = cohort([[6]] * 4).assign(site=["north", "south"] * 12)
    for batch in batches(table, patients=4, trials=2, samples=2, within="site", steps=20):
        part = table.iloc[[row for row, _ in batch]]
        assert part["site"].nunique() == 1
        assert (part.groupby("patient")["site"].size() == 4).all()
        assert len(set(part.index)) == 12  # the 3 samples of each patient there, one of them again


def test_a_rare_site_is_drawn_in_some_epochs_only() -> None:
    sampler = batches(two_sites(), patients=6, trials=1, samples=1, within="site", steps=1)
    site = two_sites()["site"]
    drawn: Counter[str] = Counter()
    for epoch in range(600):
        sampler.set_epoch(epoch)
        drawn.update(site.iloc[batch[0][0]] for batch in sampler)
    assert drawn["north"] / 600 == pytest.approx(12 / 33, abs=0.06)


def test_refused_sites() -> None:
    options: dict[str, Any] = {"patients": 16, "trials": 1, "samples": 1}
    with pytest.raises(ValueError, match=r"site 'north' has 12 patients .* takes 16 of one site; lower"):
        batches(two_sites(), within="site", **options)
    with pytest.raises(ValueError, match="'clinic' is no column; the table has: patient, trial, site"):
        batches(two_sites(), within="clinic", **options)
    unknown = two_sites().assign(site=lambda t: t["site"].where(t.index > 2))
    with pytest.raises(ValueError, match="site is unknown for 3 of 120 samples"):
        batches(unknown, within="site", **options)


def test_first_numbers_of_a_random_order() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([1, 2, 3, 4, 1000])
    many = np.stack([_shuffled(rng, sizes, 5) for _ in range(6000)])
    assert many.shape == (6000, 5, 5)
    for k, size in enumerate(sizes):
        row = many[:, k]
        assert row.min() >= 0
        assert row.max() < size
        taken = min(size, 5)
        assert all(len(set(numbers)) == taken for numbers in row.tolist())
        assert (row == row[:, np.arange(5) % size]).all()
    # All 24 orders of four equally often (250 each, sd 15.5), all of 1000 reached in each place.
    orders = Counter(map(tuple, many[:, 3, :4].tolist()))
    assert len(orders) == 24
    assert max(abs(count - 250) for count in orders.values()) < 65
    assert all(len(np.unique(many[:, 4, place])) > 980 for place in range(5))
