"""Greedy exemplars against golden values, a slow loop and their promises; receipts by scope."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.curate.dedup import Choice, arrange, greedy, of_pairs, receipts, select


def hashes(values: list[int]) -> np.ndarray:
    return np.array([list(v.to_bytes(8, "big")) for v in values], dtype=np.uint8).reshape(len(values), 8)


def kept(values: list[int], radius: int, order: list[int] | None = None) -> list[int]:
    result = greedy(hashes(values), radius=radius, order=None if order is None else np.array(order))
    return np.flatnonzero(result.kept).tolist()


def slow(packed: np.ndarray, radius: int, sequence: list[int]) -> tuple[list[int], dict[int, tuple[int, int]]]:
    """Return the kept items and, for each dropped one, the first kept one within the radius and its distance."""
    exemplars: list[int] = []
    dropped: dict[int, tuple[int, int]] = {}
    for i in sequence:
        for e in exemplars:
            distance = sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(packed[i], packed[e], strict=True))
            if distance <= radius:
                dropped[i] = (e, distance)
                break
        else:
            exemplars.append(i)
    return exemplars, dropped


def clustered(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return hashes of which about half lie within a few bits of another one."""
    values = rng.integers(0, 256, (n, 8), dtype=np.uint8)
    for i in range(1, n):
        if rng.random() < 0.5:
            values[i] = values[rng.integers(i)]
            for bit in rng.integers(0, 64, rng.integers(0, 8)):
                values[i, bit // 8] ^= 1 << (bit % 8)
    return values


def test_l2_boundary() -> None:
    assert kept([0, 2**6 - 1], 6) == [0]
    assert kept([0, 2**7 - 1], 6) == [0, 1]


CHAIN = [0b0000, 0b0001, 0b0011, 0b0111, 0b1111]


def test_l3_chain() -> None:
    assert kept(CHAIN, 1) == [0, 2, 4]
    assert kept(CHAIN, 1, order=[4, 3, 2, 1, 0]) == [0, 2, 4]
    # Visited as 1, 3, 0, 2, 4: the keys say at which place each item stands.
    assert kept(CHAIN, 1, order=[2, 0, 3, 1, 4]) == [1, 3]


def test_l3_receipts_name_the_exemplar_of_the_given_order() -> None:
    forward = greedy(hashes(CHAIN), radius=1)
    assert forward.representative.tolist() == [0, 0, 2, 2, 4]
    assert forward.distance.tolist() == [0, 1, 0, 1, 0]
    backward = greedy(hashes(CHAIN), radius=1, order=np.array([4, 3, 2, 1, 0]))
    assert backward.representative.tolist() == [0, 2, 2, 4, 4]


@pytest.mark.parametrize(("radius", "count"), [(0, 64), (3, 16), (6, 10), (9, 7), (12, 5)])
def test_l4_ramp(radius: int, count: int) -> None:
    ramp = [2**k - 1 for k in range(64)]
    assert len(kept(ramp, radius)) == count
    if radius == 6:
        assert kept(ramp, 6) == list(range(0, 64, 7))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 60),
    radius=st.integers(0, 12),
    n_groups=st.integers(1, 4),
    ordered=st.booleans(),
)
def test_l5_properties(seed: int, n: int, radius: int, n_groups: int, ordered: bool) -> None:
    rng = np.random.default_rng(seed)
    packed = clustered(rng, n)
    groups = rng.integers(0, n_groups, n)
    order = rng.permutation(n) if ordered else None
    result = greedy(packed, radius=radius, groups=groups, order=order)

    def bits(i: int, j: int) -> int:
        return int(np.bitwise_count(packed[i] ^ packed[j]).sum())

    for g in range(n_groups):
        mine = [int(i) for i in np.flatnonzero(groups == g)]
        sequence = sorted(mine, key=lambda i: i if order is None else int(order[i]))
        exemplars, dropped = slow(packed, radius, sequence)
        assert {i for i in mine if result.kept[i]} == set(exemplars)
        for i, (exemplar, distance) in dropped.items():
            assert (result.representative[i], result.distance[i]) == (exemplar, distance)
        assert all(bits(a, b) > radius for a in exemplars for b in exemplars if a < b)
    for i in range(n):
        e = int(result.representative[i])
        assert result.kept[e]
        assert groups[e] == groups[i]
        assert bits(i, e) == result.distance[i] <= radius
        assert (e == i) == bool(result.kept[i])
    left = result.kept
    again = greedy(packed[left], radius=radius, groups=groups[left], order=None if order is None else order[left])
    assert again.kept.all()
    # Which bit is which does not matter.
    mask = rng.integers(0, 256, 8, dtype=np.uint8)
    shuffled = np.packbits(np.unpackbits(packed ^ mask, axis=1)[:, rng.permutation(64)], axis=1)
    other = greedy(shuffled, radius=radius, groups=groups, order=order)
    assert np.array_equal(other.kept, result.kept)
    assert np.array_equal(other.representative, result.representative)


def test_planted_copies() -> None:
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 256, (100, 8), dtype=np.uint8)
    gap = np.bitwise_count(bases[:, None] ^ bases[None]).sum(-1) + 64 * np.eye(100, dtype=int)
    assert gap.min() >= 10
    copies = np.repeat(bases, 5, axis=0)
    for i in range(len(copies)):
        if i % 5:
            for bit in rng.choice(64, 2, replace=False):
                copies[i, bit // 8] ^= 1 << (bit % 8)
    assert greedy(copies[rng.permutation(500)], radius=4).kept.sum() == 100


def test_long_hashes_and_nothing() -> None:
    three = np.zeros((3, 24), np.uint8)
    three[1, 23] = 0b111
    three[2, 0] = 0b1111
    assert greedy(three, radius=3).kept.tolist() == [True, False, True]
    assert len(greedy(np.zeros((0, 8), np.uint8), radius=3).kept) == 0


def near(values: np.ndarray, radius: int) -> Choice:
    return lambda rows, groups, order: greedy(values[rows], radius=radius, groups=groups, order=order)


def table(rows: list[tuple[int, int, int, str]]) -> pd.DataFrame:
    """Return a table of (patient, trial, index, content)."""
    out = pd.DataFrame(rows, columns=["patient", "trial", "index_in_trial", "content"])
    out["sample_id"] = [f"s{i}" for i in range(len(out))]
    return out


def test_exact_copies_go_across_patients() -> None:
    made = receipts(table([(1, 10, 0, "x"), (1, 10, 1, "y"), (2, 20, 0, "x"), (3, 5, 0, "x")]))
    # The first row stands for the others, whatever the codes are.
    assert made["kept"].tolist() == [True, True, False, False]
    assert made["duplicate_of"].tolist() == [None, None, "s0", "s0"]
    assert made["method"].tolist() == ["", "", "exact", "exact"]
    assert made["distance"].tolist() == [0, 0, 0, 0]
    assert list(made.columns) == ["sample_id", "kept", "duplicate_of", "distance", "method"]


def test_exact_receipts_do_not_depend_on_the_hash_key() -> None:
    rows = table([(1, 10, 0, "x"), (1, 10, 1, "y"), (2, 20, 0, "x"), (3, 30, 0, "y")])
    other = rows.assign(trial=[9, 9, 5, 1], patient=[8, 8, 4, 2])
    pd.testing.assert_frame_equal(receipts(other), receipts(rows))


NEAR = table([(1, 10, 0, "a"), (1, 10, 1, "b"), (1, 11, 0, "c"), (2, 20, 0, "d")])


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("volume", [True, False, True, True]),
        ("patient", [True, False, False, True]),
        ("global", [True, False, False, False]),
    ],
)
def test_scope(scope: str, expected: list[bool]) -> None:
    made = receipts(NEAR, near(hashes([0, 1, 3, 7]), 3), method="dhash", scope=scope)
    assert made["kept"].tolist() == expected
    gone = made[~made["kept"]]
    assert (gone["duplicate_of"] == "s0").all()
    assert (gone["method"] == "dhash").all()
    assert gone["distance"].tolist() == [1, 2, 3][: len(gone)]


def test_min_per_patient_takes_back_the_least_alike() -> None:
    rows = table([(1, 10, k, f"c{k}") for k in range(4)] + [(2, 20, 0, "d")])
    made = receipts(rows, near(hashes([0, 1, 7, 3, 0]), 3), method="dhash", scope="patient", min_per_patient=2)
    assert made["kept"].tolist() == [True, False, True, False, True]
    assert made["duplicate_of"].tolist() == [None, "s0", None, "s0", None]
    assert made["method"].tolist() == ["", "dhash", "", "dhash", ""]
    assert made["distance"].tolist() == [0, 1, 0, 2, 0]
    every = receipts(rows, near(hashes([0, 1, 7, 3, 0]), 3), method="dhash", scope="patient", min_per_patient=9)
    assert every["kept"].all()


def test_exact_copies_never_come_back() -> None:
    rows = table([(1, 10, 0, "a"), (1, 10, 1, "a"), (1, 10, 2, "b")])
    made = receipts(rows, near(hashes([0, 0, 1]), 3), method="dhash", min_per_patient=3)
    assert made["kept"].tolist() == [True, False, True]
    assert made["method"].tolist() == ["", "exact", ""]


def test_volumes_are_walked_in_slice_order() -> None:
    rows = table([(1, 10, 2, "a"), (1, 10, 1, "b"), (1, 10, 0, "c")])
    made = receipts(rows, near(hashes([0, 1, 3]), 1), method="dhash")
    assert made["kept"].tolist() == [True, False, True]
    assert made["duplicate_of"].tolist() == [None, "s2", None]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 50), radius=st.integers(0, 12), ordered=st.booleans())
def test_any_distance_and_known_pairs_choose_as_hashes_do(seed: int, n: int, radius: int, ordered: bool) -> None:
    rng = np.random.default_rng(seed)
    packed = clustered(rng, n) if n else np.zeros((0, 8), np.uint8)
    groups, order = rng.integers(0, 3, n), rng.permutation(n) if ordered else None
    bits = np.bitwise_count(packed[:, None] ^ packed[None]).sum(-1, dtype=int)
    expected = greedy(packed, radius=radius, groups=groups, order=order)
    a, b = np.nonzero(bits <= radius)
    pairs = pd.DataFrame({"row_a": a, "row_b": b, "distance": bits[a, b]})
    for result in (
        select(n, lambda i, rows: bits[i, rows], threshold=radius, groups=groups, order=order),
        of_pairs(n, pairs, groups=groups, order=order),
    ):
        np.testing.assert_array_equal(result.kept, expected.kept)
        np.testing.assert_array_equal(result.representative, expected.representative)
        np.testing.assert_array_equal(result.distance, expected.distance)


def test_published_order_keeps_nine_of_the_ramp() -> None:
    ramp = hashes([2**k - 1 for k in range(64)])
    rows = table([(1, 10, k, str(k)) for k in range(64)])
    made = receipts(rows, near(ramp, 6), method="dhash", published=True)
    assert np.flatnonzero(made["kept"]).tolist() == [0, 10, 17, 24, 31, 38, 45, 52, 59]
    assert receipts(rows, near(ramp, 6), method="dhash")["kept"].sum() == 10


def test_every_n_counts_within_the_group_and_nothing_stands_for_the_rest() -> None:
    rows = table([(1, 10 + k // 7, k % 7, str(k)) for k in range(14)])
    made = receipts(rows, method="every_n", every=3)
    assert np.flatnonzero(made["kept"]).tolist() == [0, 3, 6, 7, 10, 13]
    assert made["duplicate_of"].isna().all()
    assert set(made.loc[~made["kept"], "method"]) == {"every_n"}


def test_the_keeper_may_be_the_best_one() -> None:
    rows = table([(1, 10, k, c) for k, c in enumerate("dcba")]).assign(quality=[0.5, 0.9, 0.9, 1.0])
    groups, order = arrange(rows, keeper="quality")
    assert groups is not None
    assert np.argsort(order).tolist() == [3, 2, 1, 0]  # b before c: equal quality, by content
    made = receipts(rows, near(hashes([0, 1, 3, 1 << 60]), 2), method="dhash", keeper="quality")
    assert made["kept"].tolist() == [False, False, True, True]
    # Whatever the order of the rows, the same ones stay.
    turned = rows.iloc[::-1].reset_index(drop=True)
    again = receipts(turned, near(hashes([1 << 60, 3, 1, 0]), 2), method="dhash", keeper="quality")
    assert set(again.loc[again["kept"], "sample_id"]) == set(made.loc[made["kept"], "sample_id"])
