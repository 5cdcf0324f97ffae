"""Exact greedy deduplication of 64-bit hashes at scale, against the obvious alternatives, in one run on one machine.

    pip install faiss-cpu && pip install --no-deps imagededup   # the alternatives; without them ours is timed alone
    python benchmarks/dedup.py [--sizes 1e5 1e6 1e7] [--against 1e4]

1. Time, memory and growth of `medssl.curate.exemplars.Stream` at radius 6 in one group, hashes arriving in batches of
   a million. They are skewed like those of CT slices: 70 % in clusters of ten within 4 bits, 30 % within 6 of constant.
2. The same result through the pairs that FAISS (flat, and multi-index hashing) and imagededup (tree, and compiled brute
   force) find, and through brute force in NumPy, at a size they can bear.
3. All pairs within the radius, without the near-constant part, whose pairs alone are quadratic in number.

Each measurement runs in a process of its own, so that peak memory means something. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import Failed, apart, last_line, measured, table
from medssl.curate import exemplars, neighbours

RADIUS = 6


def flipped(rng: np.random.Generator, n: int, most: int) -> np.ndarray:
    """Return n words of 0 to ``most`` random bits."""
    words, count = np.zeros(n, np.uint64), rng.integers(0, most + 1, n)
    for k in range(most):
        bit = np.uint64(1) << rng.integers(0, 64, n).astype(np.uint64)
        words = np.where(count > k, words ^ bit, words)
    return words


def skewed(n: int, *, constant: float = 0.3, copies: int = 10, seed: int = 0) -> np.ndarray:
    """Return uint64 (n, 1): clusters of ``copies`` within 4 bits of a base, and a share that is nearly constant."""
    rng = np.random.default_rng(seed)
    clustered = n - int(constant * n)
    bases = rng.integers(0, 2**64, clustered // copies, dtype=np.uint64)
    near = bases[rng.integers(0, len(bases), clustered)] ^ flipped(rng, clustered, 4)
    hashes = np.concatenate([near, flipped(rng, n - clustered, RADIUS)])
    rng.shuffle(hashes)
    return hashes[:, None]


def resolve(n: int, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return which items greedy keeps, given all pairs sorted by query: one that no earlier kept one is near."""
    kept = np.ones(n, bool)
    earlier = item < query
    bounds = np.searchsorted(query[earlier], np.arange(n + 1))
    item = item[earlier]
    for i in range(n):
        kept[i] = not kept[item[bounds[i] : bounds[i + 1]]].any()
    return kept


def stream(hashes: np.ndarray) -> np.ndarray:
    """Ours, in batches."""
    ours = exemplars.Stream(radius=RADIUS)
    for batch in np.array_split(hashes, max(1, len(hashes) // 1_000_000)):
        ours.add(batch)
    kept = np.zeros(len(hashes), bool)
    kept[ours.rows] = True
    return kept


def brute_force(hashes: np.ndarray) -> np.ndarray:
    """Compare each hash with all kept ones."""
    words, kept = hashes[:, 0], np.zeros(len(hashes), bool)
    held, n = np.empty_like(words), 0
    for i, word in enumerate(words):
        if not (np.bitwise_count(held[:n] ^ word) <= RADIUS).any():
            held[n], kept[i] = word, True
            n += 1
    return kept


def faiss_pairs(hashes: np.ndarray, make: str) -> tuple[np.ndarray, np.ndarray]:
    """All pairs by FAISS; its radius is exclusive."""
    faiss = importlib.import_module("faiss")
    data = hashes.view(np.uint8)
    if make == "flat":
        index = faiss.IndexBinaryFlat(64)
    else:
        index = faiss.IndexBinaryMultiHash(64, 4, 16)
        index.nflip = 1
    index.add(data)
    limits, _, item = index.range_search(data, RADIUS + 1)
    return np.repeat(np.arange(len(data)), np.diff(limits.astype(np.int64))), item


def imagededup_pairs(hashes: np.ndarray, make: str) -> tuple[np.ndarray, np.ndarray]:
    """All pairs by imagededup, whose hashes are hexadecimal strings under a name."""
    names = {str(i): f"{int(word):016x}" for i, word in enumerate(hashes[:, 0])}

    def distance(a: str, b: str) -> int:
        return (int(a, 16) ^ int(b, 16)).bit_count()

    folder = "imagededup.handlers.search"
    if make == "tree":
        tree = importlib.import_module(f"{folder}.bktree").BKTree(names, distance)
        found = {name: tree.search(query=code, tol=RADIUS) for name, code in names.items()}
    else:
        search = importlib.import_module(f"{folder}.brute_force_cython").BruteForceCython(names, distance)
        found = {name: search.search(query=code, tol=RADIUS) for name, code in names.items()}
    pairs = np.array([(int(name), int(other)) for name, others in found.items() for other, _ in others])
    return pairs[:, 0], pairs[:, 1]


def ours_pairs(hashes: np.ndarray, make: str) -> tuple[np.ndarray, np.ndarray]:
    """All pairs by `medssl.curate.neighbours.within`."""
    found = neighbours.within(hashes.view(np.uint8), hashes.view(np.uint8), radius=RADIUS)
    return found.query, found.item


PAIRS: dict[str, tuple[Callable[..., tuple[np.ndarray, np.ndarray]], str]] = {
    "medssl": (ours_pairs, ""),
    "FAISS flat": (faiss_pairs, "flat"),
    "FAISS multi-index": (faiss_pairs, "multi"),
    "imagededup tree": (imagededup_pairs, "tree"),
    "imagededup compiled": (imagededup_pairs, "compiled"),
}


def run(task: str, name: str, size: int) -> dict[str, Any]:
    """Measure one way to a kept set (``task`` greedy) or to all pairs, and what marks its result."""
    stream(skewed(20_000))  # compiled before the clock starts
    hashes = skewed(size, constant=0.0 if task == "pairs" else 0.3)
    if task == "pairs":
        find, make = PAIRS[name]
        pairs, seconds, *_ = measured(lambda: find(hashes, make))
        return {"seconds": seconds, "result": len(pairs[0])}
    kept, seconds, *_ = measured(lambda: greedy(name, hashes))
    # Two kept sets of one size and one sum are the same one.
    return {"seconds": seconds, "result": int(kept.sum()), "mark": int(np.flatnonzero(kept).sum())}


def greedy(name: str, hashes: np.ndarray) -> np.ndarray:
    """Return what is kept, by name of the way."""
    if name in ("medssl", "NumPy"):
        return (stream if name == "medssl" else brute_force)(hashes)
    find, make = PAIRS[name]
    query, item = find(hashes, make)
    order = np.argsort(query, kind="stable")
    return resolve(len(hashes), query[order], item[order])


def main() -> None:
    """Print tables and, last, one JSON line of ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--against", type=float, default=1e4, help="hashes the alternatives are given")
    args = parser.parse_args()
    ratios: dict[str, float] = {}
    print(f"greedy, radius {RADIUS}, skewed like CT")
    show = table("hashes", "kept", "seconds", "peak GB")
    runs, peaks = dict[int, float](), list[float]()
    for size in map(int, args.sizes):
        # The short ones several times: the growth is measured from them.
        tries = [apart(run, "greedy", "medssl", size) for _ in range(3 if size <= 1_000_000 else 1)]
        runs[size] = min(t["seconds"] for t in tries)
        peaks.append(max(t["peak_gb"] for t in tries))
        show(size, tries[0]["result"], runs[size], peaks[-1])
        ratios[f"seconds_{size:.0e}"] = runs[size]
    sizes = sorted(runs)
    if len(sizes) > 1:
        growth = math.log(runs[sizes[-1]] / runs[sizes[0]]) / math.log(sizes[-1] / sizes[0])
        print(f"time grows with exponent {growth:.2f} from {sizes[0]} to {sizes[-1]}")
        ratios["exponent"] = growth
    ratios["peak_gb"] = max(peaks)

    size = int(args.against)
    for task, names in (("greedy", ["medssl", "NumPy", *itertools.islice(PAIRS, 1, None)]), ("pairs", list(PAIRS))):
        what = "the same kept set" if task == "greedy" else "all pairs, without the near-constant part"
        counted = "kept" if task == "greedy" else "pairs"
        print(f"\n{what}, {size} hashes")
        show, base = table("", "seconds", "ratio", counted), None
        for name in names:
            try:
                got = apart(run, task, name, size)
            except Failed as why:
                print(f"{name}: {why}")
                continue
            base = base or got
            same = (got["result"], got.get("mark")) == (base["result"], base.get("mark"))
            show(name, got["seconds"], got["seconds"] / base["seconds"], f"{got['result']}{'' if same else ' DIFFERS'}")
            if name != "medssl":
                ratio = got["seconds"] / base["seconds"]
                ratios[f"{task}_vs_{name.lower().replace(' ', '_').replace('-', '_')}"] = ratio
    last_line(ratios)


if __name__ == "__main__":
    main()
