"""Exemplars against a loop over all that are kept: batches of any size, groups, adversaries, streams."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.curate import exemplars
from medssl.curate.dedup import greedy
from medssl.curate.exemplars import Stream
from medssl.curate.neighbours import pack
from tests.curate.test_neighbours import KINDS, flipped, skewed, uniform, words_for


def slow_greedy(hashes: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    kept: list[int] = []
    representative, distance = np.arange(len(hashes)), np.zeros(len(hashes), int)
    for i, row in enumerate(hashes):
        bits = np.bitwise_count(hashes[kept] ^ row).sum(1, dtype=int) if kept else np.zeros(0, int)
        near = np.flatnonzero(bits <= radius)
        if len(near):
            representative[i], distance[i] = kept[near[0]], bits[near[0]]
        else:
            kept.append(i)
    return representative, distance


@pytest.mark.parametrize("smallest", [1, 16, 4096])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("radius", [0, 6, 12])
def test_greedy_through_every_path_equals_a_loop(
    monkeypatch: pytest.MonkeyPatch, kind: str, radius: int, smallest: int
) -> None:
    """With a small enough limit, a thousand hashes go through batches, batches of batches and the index."""
    monkeypatch.setattr(exemplars, "SMALLEST", smallest)
    if smallest == 1:
        words_for(monkeypatch, 2000)
    hashes = KINDS[kind](np.random.default_rng(radius), 600 if smallest == 1 else 1500)
    representative, distance = slow_greedy(hashes, radius)
    result = greedy(hashes, radius=radius)
    np.testing.assert_array_equal(result.representative, representative)
    np.testing.assert_array_equal(result.distance, distance)
    np.testing.assert_array_equal(result.kept, representative == np.arange(len(hashes)))


def test_greedy_of_a_hundred_thousand_equals_brute_force() -> None:
    hashes = skewed(np.random.default_rng(1), 100_000)
    packed = pack(hashes)[:, 0]
    held, rows, n = np.empty_like(packed), np.empty(len(packed), int), 0
    expected = np.arange(len(packed))
    for i, word in enumerate(packed):
        near = np.bitwise_count(held[:n] ^ word) <= 6
        if near.any():
            expected[i] = rows[near.argmax()]
        else:
            held[n], rows[n], n = word, i, n + 1
    np.testing.assert_array_equal(greedy(hashes, radius=6).representative, expected)


@pytest.mark.parametrize("kind", ["all equal", "chain", "zero"])
def test_greedy_of_adversaries(kind: str) -> None:
    n = 9000  # more than are compared at once
    if kind == "chain":  # each two bits from the next, on a circle
        bits = np.zeros((n, 64), np.uint8)
        for i in range(n):
            bits[i, [i % 64, (i + 1) % 64]] = 1
        hashes = np.packbits(bits, axis=1)
    else:
        hashes = np.full((n, 8), 0 if kind == "zero" else 0xA5, np.uint8)
    representative, distance = slow_greedy(hashes, 2)
    result = greedy(hashes, radius=2)
    np.testing.assert_array_equal(result.representative, representative)
    np.testing.assert_array_equal(result.distance, distance)


def test_a_stream_equals_all_at_once() -> None:
    hashes = skewed(np.random.default_rng(2), 30_000)
    whole = greedy(hashes, radius=6)
    stream = Stream(radius=6)
    parts = [stream.add(part) for part in np.split(pack(hashes), [1, 10, 5000, 5000, 20_000])]
    np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), whole.representative)
    np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), whole.distance)
    np.testing.assert_array_equal(stream.rows, np.flatnonzero(whole.kept))


def test_l6_planted_set_keeps_the_bases() -> None:
    rng = np.random.default_rng(0)
    bases: list[np.ndarray] = []
    while len(bases) < 1000:
        new = uniform(rng, 1)[0]
        if not bases or (np.bitwise_count(np.stack(bases) ^ new).sum(1) >= 13).all():
            bases.append(new)
    planted = np.concatenate([np.stack(bases), flipped(rng, np.repeat(np.stack(bases), 4, axis=0), 3)])
    assert greedy(rng.permutation(planted), radius=6).kept.sum() == 1000


def test_small_and_large_groups_together() -> None:
    hashes = skewed(np.random.default_rng(3), 12_000)
    groups = np.where(np.arange(12_000) % 3 > 0, 7, np.arange(12_000) % 50)  # one of 8000, fifty of 80
    result = greedy(hashes, radius=6, groups=groups)
    for g in np.unique(groups)[[0, 7, 20]]:
        rows = np.flatnonzero(groups == g)
        representative, distance = slow_greedy(hashes[rows], 6)
        np.testing.assert_array_equal(result.representative[rows], rows[representative])
        np.testing.assert_array_equal(result.distance[rows], distance)


def test_refusals() -> None:
    hashes = np.zeros((3, 8), np.uint8)
    with pytest.raises(ValueError, match="expected uint8"):
        greedy(hashes.astype(int), radius=6)
    with pytest.raises(ValueError, match="radius = -1"):
        greedy(hashes, radius=-1)
