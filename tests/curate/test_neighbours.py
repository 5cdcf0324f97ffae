"""Exact Hamming search against brute force: uniform, clustered and skewed hashes, any radius and width; streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.curate import neighbours
from medssl.curate.dedup import greedy
from medssl.curate.neighbours import Stream, cut, pack, within


def uniform(rng: np.random.Generator, n: int, size: int = 8) -> np.ndarray:
    return rng.integers(0, 256, (n, size), dtype=np.uint8)


def flipped(rng: np.random.Generator, hashes: np.ndarray, most: int) -> np.ndarray:
    """Flip 0 to ``most`` random bits of each hash."""
    bits = np.unpackbits(hashes, axis=1)
    for k in range(most):
        rows = np.flatnonzero(rng.integers(0, most + 1, len(bits)) > k)
        bits[rows, rng.integers(0, bits.shape[1], len(rows))] ^= 1
    return np.packbits(bits, axis=1)


def clustered(rng: np.random.Generator, n: int, size: int = 8) -> np.ndarray:
    return flipped(rng, uniform(rng, max(1, n // 10), size)[rng.integers(0, max(1, n // 10), n)], 7)


def skewed(rng: np.random.Generator, n: int, size: int = 8) -> np.ndarray:
    """A third nearly constant, as slices of air are, the rest in clusters."""
    return rng.permutation(
        np.concatenate([flipped(rng, np.zeros((n // 3, size), np.uint8), 9), clustered(rng, n, size)])
    )[:n]


KINDS = {"uniform": uniform, "clustered": clustered, "skewed": skewed}


def table(hashes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """All distances (Q, N), the slow way."""
    return np.stack([np.bitwise_count(hashes ^ q).sum(1, dtype=np.int64) for q in queries])


@pytest.mark.parametrize("kind", KINDS)
def test_l6_recall_is_one_on_ten_thousand(kind: str) -> None:
    rng = np.random.default_rng(6)
    hashes, queries = KINDS[kind](rng, 10_000), KINDS[kind](rng, 200)
    queries[:100] = flipped(rng, hashes[:100], 6)
    distances = table(hashes, queries)
    query, item = np.nonzero(distances <= 6)
    found = within(hashes, queries, radius=6)
    assert len(query) >= 100
    np.testing.assert_array_equal(found.query, query)
    np.testing.assert_array_equal(found.item, item)
    np.testing.assert_array_equal(found.distance, distances[query, item])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from(sorted(KINDS)), st.integers(0, 400), st.integers(0, 20), st.integers(1, 26)
)
def test_pairs_equal_brute_force(seed: int, kind: str, n: int, radius: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = KINDS[kind](rng, n, size)
    found = within(hashes, hashes[::3], radius=radius)
    query, item = np.nonzero(table(hashes, hashes[::3]) <= radius) if n else ([], [])
    np.testing.assert_array_equal(found.query, query)
    np.testing.assert_array_equal(found.item, item)


def words_for(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    """Cut as for an index of ``held`` hashes, so that small tests go through the words of large ones."""
    monkeypatch.setattr(neighbours, "cut", lambda bits, radius, _: cut(bits, radius, held))


@pytest.mark.parametrize("held", [300, 3000, 10**5, 3 * 10**6])
@pytest.mark.parametrize(("radius", "size"), [(0, 8), (3, 8), (6, 8), (8, 8), (6, 24), (9, 26), (2, 3)])
def test_pairs_whatever_the_words(monkeypatch: pytest.MonkeyPatch, held: int, radius: int, size: int) -> None:
    words_for(monkeypatch, held)
    hashes = skewed(np.random.default_rng(held), 600, size)
    found = within(hashes, hashes, radius=radius)
    query, item = np.nonzero(table(hashes, hashes) <= radius)
    np.testing.assert_array_equal(found.query, query)
    np.testing.assert_array_equal(found.item, item)


def test_words_follow_the_number_held() -> None:
    widths = [max(cut(64, 6, held).width) for held in (10, 10**4, 10**6, 10**7)]
    assert widths == sorted(widths)
    assert widths[0] == 0  # so few are compared with everything
    assert widths[-1] >= 20
    for held in (10**3, 10**5, 10**7):
        for radius in (0, 3, 6, 12):
            words = cut(64, radius, held)
            if max(words.width):
                assert sum(words.reach) == radius - len(words.reach) + 1  # fewer would miss a neighbour
            ends = np.cumsum(words.width)
            assert ends[-1] <= 64
            assert list(words.start) == [0, *ends[:-1]]


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
    monkeypatch.setattr(neighbours, "SMALLEST", smallest)
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
    with pytest.raises(ValueError, match="4 bytes each, the hashes have 8"):
        within(hashes, np.zeros((3, 4), np.uint8), radius=6)
