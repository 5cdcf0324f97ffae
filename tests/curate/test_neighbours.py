"""Exact Hamming search against brute force: uniform, clustered and skewed hashes, any radius and width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.curate import neighbours
from medssl.curate.neighbours import cut, within


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


def test_refusals() -> None:
    hashes = np.zeros((3, 8), np.uint8)
    with pytest.raises(ValueError, match="expected uint8"):
        within(hashes.astype(int), hashes, radius=6)
    with pytest.raises(ValueError, match="4 bytes each, the hashes have 8"):
        within(hashes, np.zeros((3, 4), np.uint8), radius=6)
