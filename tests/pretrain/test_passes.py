"""Passes over the samples: their length, where a resumed run goes on, frozen batches, anchors without a positive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.config import Positives
from medssl.pretrain.sampler import Batches, FixedBatches
from tests.pretrain.test_sampler import EVEN, batches, cohort, two_sites


def hierarchical(**options: Any) -> Batches:
    return batches(EVEN, patients=4, trials=2, samples=2, steps=6, **options)


def by_site(**options: Any) -> Batches:
    return batches(two_sites(), patients=4, trials=2, samples=2, within="site", steps=6, **options)


def fixed(**options: Any) -> Batches:
    return FixedBatches(EVEN, np.arange(len(EVEN)), size=24, **options)


def paired(**options: Any) -> Batches:
    return hierarchical(positives=Positives(view=0.2, trial=0.3, patient=0.5), **options)


KINDS = pytest.mark.parametrize("make", [hierarchical, by_site, paired, fixed])


def epochs(sampler: Batches, count: int) -> list[list[tuple[int, ...]]]:
    made = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        made += list(sampler)
    return made


def test_an_epoch_counted_on_more_samples_goes_round_again() -> None:
    options: dict[str, Any] = {"patients": 4, "trials": 2, "samples": 2}
    whole = batches(EVEN, **options)
    part = EVEN[np.arange(len(EVEN)) % 4 == 0].reset_index(drop=True)  # one of each trial of four
    few, many = batches(part, **options), batches(part, counted=len(EVEN), **options)
    assert (len(whole), len(few), len(many)) == (9, 2, 9)
    assert few.count(len(EVEN)) == many.count(len(EVEN)) == whole.count(len(EVEN)) == 9
    counts = Counter(row for batch in many for row, _ in batch)
    assert sum(counts.values()) == 4 * len(part)
    assert len(counts) > 0.9 * len(part)
    given = batches(part, steps=5, **options)
    assert len(given) == given.count(len(EVEN)) == 5
    assert fixed().count(len(EVEN) * 9) == 9 * len(fixed())


@KINDS
def test_a_pass_goes_on_where_the_run_stands(make: Callable[..., Batches]) -> None:
    whole = epochs(make(), 3)
    consumed = {"now": 0}
    sampler = make(start=lambda: consumed["now"])
    assert len(sampler) == 6
    assert len(whole) == 18
    for n in (0, 4, 6, 11, 17):
        consumed["now"] = n
        assert list(sampler) == whole[n : n - n % 6 + 6]
    # A pass of a resumed run is followed by whole ones.
    consumed["now"] = 12
    assert list(sampler) == whole[12:]


@KINDS
def test_ranks_resume_alike(make: Callable[..., Batches]) -> None:
    whole = epochs(make(), 2)
    parts = [list(make(rank=r, world_size=2, start=lambda: 8)) for r in range(2)]
    assert [left + right for left, right in zip(*parts, strict=True)] == whole[8:]


def test_fixed_batches_are_frozen_and_reordered() -> None:
    sampler = fixed(seed=3)
    one, two = list(sampler), epochs(sampler, 2)[6:]
    for before, after in zip(one, two, strict=True):
        rows = [[row for row, _ in batch] for batch in (before, after)]
        assert rows[0] != rows[1]
        assert set(rows[0]) == set(rows[1])
        # Trials of 4 stay together, in 6 a batch.
        assert Counter(EVEN["trial"].iloc[rows[0]]).most_common()[-1][1] == 4
        assert rows[0] != sorted(rows[0])
    assert sorted(row for batch in one for row, _ in batch) == list(range(len(EVEN)))
    assert one == list(fixed(seed=3))
    members = [[frozenset(row for row, _ in batch) for batch in made] for made in (one, list(fixed(seed=4)))]
    assert members[0] == members[1]
    other = [frozenset(row for row, _ in batch) for batch in fixed(seed=3, frozen_seed=1)]
    assert set(members[0]) != set(other)


def test_fixed_batches_leave_out_the_last_part() -> None:
    table = cohort([[5], [9], [3], [6]])
    sampler = FixedBatches(table, np.arange(100, 123), size=10, world_size=4, rank=1)
    assert (sampler.size, len(sampler)) == (8, 2)
    assert [len(batch) for batch in sampler] == [2, 2]
    assert all(100 <= row < 123 for batch in sampler for row, _ in batch)
    whole = FixedBatches(table, np.arange(23), size=8)
    order = whole._blocks.ravel()
    assert sum(np.diff(table["trial"].to_numpy()[order]) != 0) <= 3  # a trial is one run
    assert (np.diff(order) < 0).sum() > 5  # in random order, so that chance decides which samples a block cuts off
    assert len(FixedBatches(table, np.arange(23), size=500)) == 1
    with pytest.raises(ValueError, match=r"23 samples .* 3 asked for; contrast needs at least 2 per process"):
        FixedBatches(table, np.arange(23), size=3, world_size=2)


def test_fixed_batches_do_not_depend_on_the_codes() -> None:
    codes = np.random.default_rng(5).permutation(10**6)
    renamed = EVEN.assign(patient=codes[EVEN["patient"]], trial=codes[EVEN["trial"]])
    assert list(FixedBatches(renamed, np.arange(len(EVEN)), size=24)) == list(fixed())


def slow_report(table: pd.DataFrame, sampler: Batches) -> dict[str, float]:
    alone, anchors = {"patient": 0, "trial": 0}, 0
    for batch in sampler:
        rows = [row for row, _ in batch]
        anchors += len(rows)
        for level in alone:
            ids = table[level].to_numpy()
            alone[level] += sum(not any(ids[i] == ids[j] and i != j for j in rows) for i in rows)
    return {level: count / anchors for level, count in alone.items()}


def test_report_of_anchors_without_a_positive() -> None:
    assert batches(EVEN, patients=4, trials=2, samples=2).report() == {"patient": 0.0, "trial": 0.0}
    assert batches(EVEN, patients=4, trials=2, samples=1).report() == {"patient": 0.0, "trial": 1.0}
    # One patient of four has one sample only: both its elements are that sample.
    lonely = cohort([[1], [3], [3], [3]])
    assert batches(lonely, patients=4, trials=2, samples=1).report() == {"patient": 0.25, "trial": 0.25}
    uneven = cohort([[1], [2, 1], [3, 1, 1], [5], [1, 1]] * 4)
    mixed = two_sites()
    for table, sampler in (
        (uneven, batches(uneven, patients=6, trials=2, samples=2)),
        (uneven, FixedBatches(uneven, np.arange(len(uneven)), size=9)),
        (mixed, batches(mixed, patients=6, trials=2, samples=2, within="site")),
    ):
        assert sampler.report() == pytest.approx(slow_report(table, sampler))
    # Neither where a run stands nor the rank changes it.
    ranks = [batches(uneven, patients=6, trials=2, samples=2, rank=r, world_size=2, start=lambda: 1) for r in (0, 1)]
    assert ranks[0].report() == ranks[1].report() == batches(uneven, patients=6, trials=2, samples=2).report()
