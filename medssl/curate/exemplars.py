"""Exemplars of hashes: a hash is kept unless one kept before it lies within the radius; the first such stands for it.

Large groups are streamed in batches, whose hashes are looked up among those kept (`medssl.curate.neighbours.Index`);
small ones are compared with all that they keep. Letters: N hashes of W 64-bit words.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit

from medssl.curate.neighbours import BLOCK, NONE, Index, bits_apart, first_within, spread

SMALLEST, LARGEST = 4096, 2**20  # hashes in a batch of a stream


@njit(nogil=True, cache=True)  # type: ignore[misc]
def _scan(hashes, words, radius, bounds, most, representative, distance, low, high):  # type: ignore[no-untyped-def]
    """Choose exemplars of groups hashes[bounds[g]:bounds[g + 1]] of up to ``most``, comparing with all they keep."""
    for g in range(low, high):
        start, stop = bounds[g], bounds[g + 1]
        if stop - start > most:
            continue
        held = np.empty((stop - start + BLOCK) * words, np.uint64)
        rows = np.empty(stop - start, np.int64)
        n = 0
        for i in range(start, stop):
            j = first_within(held, 0, n, hashes, i, words, radius)
            if j < n:
                representative[i], distance[i] = rows[j], bits_apart(held, j, hashes, i, words)
            else:
                held[n * words : (n + 1) * words], rows[n] = hashes[i * words : (i + 1) * words], i
                representative[i] = i
                n += 1


class Stream:
    """Exemplars of hashes that arrive in batches: the same as of all at once, in memory of those kept.

    Hashes have so many ``bits``, ``radius`` is inclusive, and a batch has at most ``largest`` of them.
    """

    def __init__(self, *, radius: int, bits: int = 64, largest: int = LARGEST) -> None:
        self.radius, self.bits, self.largest = radius, bits, largest
        self.seen = 0  # hashes so far
        self.rows = np.empty(0, np.int64)  # the number each exemplar had when it arrived
        self.held = np.empty((0, -(-bits // 64)), np.uint64)  # the exemplars

    def add(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take uint64 (n, W); return for each the number of the exemplar that stands for it, and its distance."""
        representative, distance = np.empty(len(packed), np.int64), np.empty(len(packed), np.int64)
        low = 0
        while low < len(packed):
            # Early batches are small: what they keep spares the later ones the search among themselves.
            high = min(len(packed), low + max(SMALLEST, min(self.seen, self.largest)))
            representative[low:high], distance[low:high] = self._batch(packed[low:high])
            low = high
        return representative, distance

    def _batch(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, distance = Index(self.held, radius=self.radius, bits=self.bits).first(packed)
        old, new = np.flatnonzero(first != NONE), np.flatnonzero(first == NONE)
        representative = np.empty(len(packed), np.int64)
        representative[old] = self.rows[first[old]]
        if len(new) > SMALLEST:
            inner = Stream(radius=self.radius, bits=self.bits, largest=len(new) // 16)
            among, distance[new] = inner.add(packed[new])
        else:
            whole = np.array([0, len(new)])
            among, distance[new] = exemplars(packed[new], radius=self.radius, bits=self.bits, bounds=whole)
        representative[new] = self.seen + new[among]
        admitted = new[among == np.arange(len(new))]
        self.rows = np.concatenate([self.rows, self.seen + admitted])
        self.held = np.concatenate([self.held, packed[admitted]])
        self.seen += len(packed)
        return representative, distance


def exemplars(packed: np.ndarray, *, radius: int, bits: int, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the exemplar of each row, the first earlier row kept within the radius or itself, and the distance.

    Args:
        packed: uint64 (N, W).
        radius: bits, inclusive.
        bits: of a hash.
        bounds: (groups + 1,), where each group of rows begins; rows of different groups never meet.
    """
    first, distance = np.empty(len(packed), np.int64), np.zeros(len(packed), np.int64)
    for g in np.flatnonzero(np.diff(bounds) > SMALLEST):
        low, high = bounds[g], bounds[g + 1]
        first[low:high], distance[low:high] = Stream(radius=radius, bits=bits).add(packed[low:high])
        first[low:high] += low
    scan = functools.partial(_scan, packed.ravel(), packed.shape[1], radius, bounds, SMALLEST, first, distance)
    spread(len(bounds) - 1, scan, least=16)
    return first, distance
