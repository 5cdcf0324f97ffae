"""Exact Hamming neighbours at scale: all hashes within reach of a query, or the first of them.

Two hashes within ``radius`` bits agree, up to a few bits, in at least one of several words that they are cut into
(multi-index hashing). Each word has a table from its value to the rows that hold it; a query looks up its own value
and those a few bits away, and compares whole hashes only there. No neighbour is missed.

Letters: N hashes of W 64-bit words, Q queries, T tables.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from medssl import parallel

# What a look-up and a comparison cost, in nanoseconds on one core of a server of 2024; only their ratio matters.
PROBE_NS, COMPARE_NS, SCAN_NS = 4.0, 0.5, 0.2
WIDEST = 24  # bits of a word: its table of values takes 64 MB
BLOCK = 8  # candidates compared at once
NONE = np.int64(2**62)


class Neighbours(NamedTuple):
    """Pairs (P,) within reach: ``query`` and ``item`` rows, ``distance`` in bits; sorted by query, then item."""

    query: np.ndarray
    item: np.ndarray
    distance: np.ndarray


class Words(NamedTuple):
    """How hashes are cut: ``start`` and ``width`` of each word in bits, and the ``reach`` of its look-ups.

    One word of width 0 has one value, which all hashes hold: everything is compared.
    """

    start: tuple[int, ...]
    width: tuple[int, ...]
    reach: tuple[int, ...]


def pack(hashes: np.ndarray) -> np.ndarray:
    """Return hashes uint8 (N, bytes) as uint64 (N, W), zero-padded.

    Raises:
        ValueError: another type or shape.
    """
    hashes = np.asarray(hashes)
    if hashes.ndim != 2 or hashes.dtype != np.uint8 or not hashes.shape[1]:
        raise ValueError(f"hashes: {hashes.dtype} of shape {hashes.shape}; expected uint8 (N, bytes)")
    pad = -hashes.shape[1] % 8
    return np.ascontiguousarray(np.pad(hashes, ((0, 0), (0, pad)))).view(np.uint64)


def cut(bits: int, radius: int, held: int) -> Words:
    """Choose the words for an index of ``held`` hashes.

    With T words, the distances to a neighbour's words sum to at most ``radius``, so one word's is at most its reach
    as long as the reaches sum to ``radius - T + 1`` (general pigeonhole principle). Wide words have short lists of
    candidates but many values in reach: the best width follows the number of hashes held.
    """
    best, cheapest = Words((0,), (0,), (0,)), held * SCAN_NS
    widest = min(WIDEST, held.bit_length() + 2)  # a wider word would leave most of its table empty
    for count in range(1, min(bits, radius + 1) + 1):
        # Words need not cover the whole hash.
        width = [min(widest, bits // count + (i < bits % count)) for i in range(count)]
        spare = radius - count + 1
        reach = [spare // count + (i >= count - spare % count) for i in range(count)]  # narrow words reach further
        cost = 0.0
        for w, r in zip(width, reach, strict=True):
            probes = sum(math.comb(w, k) for k in range(r + 1))
            cost += probes * (PROBE_NS + COMPARE_NS * held / 2**w)
        if cost < cheapest:
            start = tuple(itertools.accumulate(width[:-1], initial=0))
            best, cheapest = Words(start, tuple(width), tuple(reach)), cost
    return best


def _keys(packed: np.ndarray, words: Words) -> np.ndarray:
    """Return the value of each word, uint32 (T, N)."""
    keys = np.empty((len(words.start), len(packed)), np.uint32)
    for t, (start, width) in enumerate(zip(words.start, words.width, strict=True)):
        at, shift = divmod(start, 64)
        value = packed[:, at] >> np.uint64(shift)
        if shift + width > 64:
            value |= packed[:, at + 1] << np.uint64(64 - shift)
        keys[t] = value & np.uint64(2**width - 1)
    return keys


def _flips(words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Return the bits to flip at each look-up, nearest first, uint32 (probes,), and where each table's begin (T+1,)."""
    flips = []
    for width, reach in zip(words.width, words.reach, strict=True):
        some = itertools.chain(*(itertools.combinations(range(width), k) for k in range(reach + 1)))
        flips.append([sum(1 << b for b in bits) for bits in some])
    return np.array(list(itertools.chain(*flips)), np.uint32), np.cumsum([0, *map(len, flips)])


@intrinsic  # type: ignore[misc]
def _ones(context, x):  # type: ignore[no-untyped-def]
    """Count the bits of a uint64 that are set, by the processor's own instruction."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), code


@njit(nogil=True, cache=True)  # type: ignore[misc]
def bits_apart(a, i, b, j, words):  # type: ignore[no-untyped-def]
    """Return the bits between hash i of ``a`` and hash j of ``b``, flat arrays (N * words,)."""
    bits = np.int64(0)
    for w in range(words):
        bits += np.int64(_ones(a[i * words + w] ^ b[j * words + w]))  # type: ignore[call-arg]
    return bits


@njit(nogil=True, cache=True)  # type: ignore[misc]
def first_within(held, low, high, queries, q, words, radius):  # type: ignore[no-untyped-def]
    """Return the first row of held[low:high] within the radius of query q, or ``high``.

    Blocks are compared at once where a hash is one word; the last one reads past ``high``, so BLOCK rows must follow.
    """
    query = queries[q * words]
    while low < high:
        end = min(low + BLOCK, high)
        least = np.int64(0)
        if words == 1:
            least = np.int64(64)
            for j in range(BLOCK):
                least = min(least, np.int64(_ones(held[low + j] ^ query)))  # type: ignore[call-arg]
        if least <= radius:
            for j in range(low, end):
                if bits_apart(held, j, queries, q, words) <= radius:
                    return j
        low = end
    return high


@njit(nogil=True, cache=True)  # type: ignore[misc]
def _bucket(keys, begin, rows):  # type: ignore[no-untyped-def]
    """Sort rows by key: ``begin`` (values + 1,) zeros becomes where each value's rows begin; rows stay ascending."""
    for key in keys:
        begin[key + 1] += 1
    for value in range(len(begin) - 1):
        begin[value + 1] += begin[value]
    for i in range(len(keys)):
        key = keys[i]
        rows[begin[key]] = i
        begin[key] += 1
    for value in range(len(begin) - 1, 0, -1):
        begin[value] = begin[value - 1]
    begin[0] = 0


@njit(nogil=True, cache=True)  # type: ignore[misc]
def _look_up(queries, words, keys, radius, flips, begin, rows, held, first, bits, low, high):  # type: ignore[no-untyped-def]
    """Lower ``first`` of queries[low:high], sorted by key, to the first row of one table within the radius."""
    while low < high:
        same = low + 1
        while same < high and keys[same] == keys[low]:
            same += 1
        for flip in flips:
            value = keys[low] ^ flip
            start, stop = begin[value], begin[value + 1]
            if start < stop:
                for q in range(low, same):
                    if rows[start] < first[q]:
                        found = first_within(held, start, stop, queries, q, words, radius)
                        if found < stop and rows[found] < first[q]:
                            first[q] = rows[found]
                            bits[q] = bits_apart(held, found, queries, q, words)
        low = same


@njit(nogil=True, cache=True)  # type: ignore[misc]
def _collect(queries, words, keys, radius, flips, parts, begin, offset, rows, held, low, high, own, reach, out):  # type: ignore[no-untyped-def]
    """Write (query, row, bits) of every pair; return the pairs written and the first query not finished.

    A pair that several tables hold counts in the first of them: ``own`` are the keys of the held rows.
    """
    n = 0
    for q in range(low, high):
        mark = n
        for t in range(len(parts) - 1):
            for p in range(parts[t], parts[t + 1]):
                value = offset[t] + (keys[t, q] ^ flips[p])
                for j in range(begin[value], begin[value + 1]):
                    d = bits_apart(held[t], j, queries, q, words)
                    if d > radius:
                        continue
                    row = rows[t, j]
                    seen = False
                    for s in range(t):
                        seen |= _ones(np.uint64(own[s, row] ^ keys[s, q])) <= reach[s]  # type: ignore[call-arg]
                    if not seen:
                        if n == len(out):
                            return mark, q
                        out[n, 0], out[n, 1], out[n, 2] = q, row, d
                        n += 1
    return n, high


def spread(n: int, run: Callable[[int, int], Any], *, least: int = 1024) -> list[Any]:
    """Run ``run(low, high)`` over parts of ``range(n)`` on all cores; the compiled loops release the lock."""
    cores = parallel.cores()
    size = max(least, min(16384, -(-n // cores)))
    spans = [(low, min(low + size, n)) for low in range(0, n, size)]
    if cores == 1 or len(spans) == 1:
        return [run(*span) for span in spans]
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(lambda span: run(*span), spans))


class Index:
    """Hashes held for look-up, cut into `Words`; built anew when hashes are added, since that costs less than a search.

    Args:
        held: uint64 (N, W), see `pack`.
        radius: bits, inclusive.
        bits: of a hash; the last word may be padded.
    """

    def __init__(self, held: np.ndarray, *, radius: int, bits: int) -> None:
        self.radius, self.words = np.int64(radius), cut(bits, radius, len(held))
        self.flips, self.parts = _flips(self.words)
        self.keys, self.reach = _keys(held, self.words), np.array(self.words.reach, np.uint64)
        self.offset = np.cumsum([0, *(2**w + 1 for w in self.words.width)])
        self.begin = np.zeros(self.offset[-1], np.uint32)
        self.rows = np.empty(self.keys.shape, np.uint32)
        self.held = np.empty((len(self.keys), held.size + BLOCK * held.shape[1]), np.uint64)
        for t, keys in enumerate(self.keys):
            _bucket(keys, self.begin[self.offset[t] : self.offset[t + 1]], self.rows[t])
            np.take(held, self.rows[t], axis=0, out=self.held[t, : held.size].reshape(held.shape))

    def first(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for each query (Q, W) the lowest held row within the radius, or ``NONE``, and its distance."""
        first, bits = np.full(len(queries), NONE), np.zeros(len(queries), np.int64)
        for t, keys in enumerate(_keys(queries, self.words)):
            # In the order of their keys, queries after one another read the same part of the table.
            order = np.argsort(keys)
            flips = self.flips[self.parts[t] : self.parts[t + 1]]
            given = queries[order].ravel(), queries.shape[1], keys[order], self.radius, flips
            table = self.begin[self.offset[t] :], self.rows[t], self.held[t]
            found = first[order], bits[order]
            spread(len(queries), functools.partial(_look_up, *given, *table, *found))
            first[order], bits[order] = found
        return first, bits

    def all(self, queries: np.ndarray) -> Neighbours:
        """Return every held row within the radius of each query."""
        given = queries.ravel(), queries.shape[1], _keys(queries, self.words), self.radius, self.flips, self.parts
        table = self.begin, self.offset, self.rows, self.held

        def collect(low: int, high: int) -> np.ndarray:
            parts, size = [], 4 * (high - low) + 1024
            while low < high:
                out = np.empty((size, 3), np.int64)
                n, done = _collect(*given, *table, low, high, self.keys, self.reach, out)
                parts.append(out[:n])
                size = 2 * size if done == low else size
                low = done
            pairs = np.concatenate(parts)
            return pairs[np.argsort(pairs[:, 0] << 32 | pairs[:, 1], kind="stable")]

        pairs = np.concatenate([np.empty((0, 3), np.int64), *spread(len(queries), collect)])
        return Neighbours(*pairs.T)


def within(hashes: np.ndarray, queries: np.ndarray, *, radius: int) -> Neighbours:
    """Return all pairs of a query and a hash at most ``radius`` bits apart; none is missed.

    Hashes and queries are uint8 (N, bytes) and (Q, bytes).

    Source: Norouzi et al. 2014 (multi-index hashing); reaches by Qin et al. 2018 (general pigeonhole principle).
    """
    held, asked = pack(hashes), pack(queries)
    if hashes.shape[1] != queries.shape[1]:
        raise ValueError(
            f"queries: {queries.shape[1]} bytes each, the hashes have {hashes.shape[1]}; expected the same"
        )
    return Index(held, radius=radius, bits=8 * hashes.shape[1]).all(asked)
