"""How many planted copies of real recordings `medssl.curate.copies` finds, and what else it calls a copy.

    python studies/copies.py DATA [--sets ecg ppg] [--half calibrate] [--store 10000]

``DATA`` (or the environment variable MEDSSL_REAL_DATA) holds ``ecg/ ppg/ eeg/ mri/ ct/``. Of every set, one store
holds the recordings as published. For each kind of copy a second store is made: the raw recording is changed first
and then goes through the project's own preparation. Thresholds were chosen on every other patient
(``--half calibrate``); the table is of the other half.

Recall: planted copies found. Precision: 1 - false pairs / pairs reported, over pairs of different recordings, of one
patient's different stretches of time or slices, and of everything else. The last line is JSON.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from benchmarks.timing import last_line, measured, table
from medssl.config import SignalIngest
from medssl.curate import copies
from studies.planted import plant_images, plant_signals
from studies.sets import SETS, Held, Set, hold, load

# Of the shorter window shown by both makes a planted copy; anything between this and nothing is not counted.
SURE = 0.66


def overlap(wanted: Set, base: Held, planted: Held) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pair (planted, base) the share of the shorter that both show, and whether one patient's."""
    q, o = planted.origin, base.origin
    record = q["record"].to_numpy()[:, None] == o["record"].to_numpy()
    patient = q["patient"].to_numpy()[:, None] == o["patient"].to_numpy()
    if not isinstance(wanted.ingest, SignalIngest):
        return record.astype(float), patient
    long, short = (h.facts["params"]["window_s"] for h in (base, planted))
    start, other = q["start"].to_numpy()[:, None], o["start"].to_numpy()
    both = np.minimum(start + short, other + long) - np.maximum(start, other)
    return np.where(record, both.clip(0), 0) / min(long, short), patient


def published_twice(base: Held, found: pd.DataFrame) -> set[tuple[int, int]]:
    """Return recordings that their publisher holds twice: the same samples at the same time, bit for bit or nearly.

    Independent of what is under test: plain correlation of the prepared samples above 0.99999, without a shift.
    """
    twice = set()
    record, start = base.origin["record"].to_numpy(), base.origin["start"].to_numpy()
    for i, j in zip(found["row_a"], found["row_b"], strict=True):
        if record[i] != record[j] and start[i] == start[j]:
            x, y = base.samples[i].ravel(), base.samples[j].ravel()
            if np.corrcoef(x, y)[0, 1] > 0.99999:
                twice |= {(record[i], record[j]), (record[j], record[i])}
    return twice


def judge(data: Path, name: str, half: str, exhaustive: int | None, show: Callable[..., None]) -> list[dict[str, Any]]:
    """Plant copies into one set, look for them, count, and show a row a kind."""
    wanted, rng = SETS[name], np.random.default_rng(0)
    raws = load(data, wanted, half)
    base = hold(raws, wanted, wanted.ingest)
    is_signal = isinstance(wanted.ingest, SignalIngest)
    plants = plant_signals(raws, wanted, base, rng) if is_signal else plant_images(raws, wanted, rng)
    twice = published_twice(base, copies.pairs(base, exhaustive=exhaustive))
    if twice:
        who = sorted(
            base.origin.loc[base.origin["record"].isin([r for pair in twice for r in pair]), "patient"].unique()
        )
        print(f"{name}: {len(twice) // 2} pairs of recordings published twice, left out; patients {', '.join(who)}")
    rows = []
    for kind, planted in plants.items():
        found, seconds, *_ = measured(functools.partial(copies.pairs, base, planted, exhaustive=exhaustive))
        share, patient = overlap(wanted, base, planted)
        q, o = planted.origin["record"].to_numpy(), base.origin["record"].to_numpy()
        counted = np.array([[(a, b) not in twice for b in o] for a in q]) if twice else np.ones(share.shape, bool)
        got = np.zeros(share.shape, dtype=bool)
        got[found["row_b"], found["row_a"]] = True
        # A shift that leaves little more than the least overlap may fall on either side of it.
        copy, apart = share >= SURE, (share == 0) & counted
        right, hard, far = (int((got & x).sum()) for x in (copy, apart & patient, apart & ~patient))
        recall, precision = right / max(1, int(copy.sum())), right / max(1, right + hard + far)
        of_patient, of_others = int((apart & patient).sum()), int((apart & ~patient).sum())
        show(
            f"{name} {kind}", int(copy.sum()), recall, precision, f"{hard}/{of_patient}", f"{far}/{of_others}", seconds
        )
        rows.append({"set": name, "n": int(copy.sum()), "recall": recall, "precision": precision, "false": hard + far})
    return rows


def search(size: int) -> dict[str, float]:
    """Time a search within a store of ``size`` made-up signals and slices, 1 % of them copies; and the shares found."""
    rng, out = np.random.default_rng(0), {}
    for name, shape, smooth in (("signals", (3, 250), 1.5), ("slices", (1, 64, 64), 2.0)):
        samples = rng.standard_normal((size, *shape)).astype(np.float32)
        samples = ndimage.gaussian_filter(samples, [0, 0, *(smooth for _ in shape[1:])])
        kept = size // 100
        by = shape[-1] // 10
        samples[size - kept :, ..., by:] = 3 * samples[:kept, ..., :-by] + 1
        modality, params = ("ecg", {"channels": ["I", "II", "V2"], "rate_hz": 100}) if name == "signals" else ("ct", {})
        facts = {"modality": modality, "shape": list(shape), "params": params}
        held = Held(facts, samples, pd.DataFrame())
        found, out[f"search_{name}_s"], *_ = measured(functools.partial(copies.pairs, held, exhaustive=0))
        right = int((found["row_b"] - found["row_a"] == size - kept).sum())
        out[f"search_{name}_recall"] = right / kept
        print(f"store of {size} {name}: {out[f'search_{name}_s']:.1f} s, {right} of {kept} copies, {found.attrs}")
    return out


def main() -> None:
    """Run everything and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="?", type=Path, default=os.environ.get("MEDSSL_REAL_DATA"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--half", choices=["report", "calibrate"], default="report")
    parser.add_argument("--exhaustive", type=int, help="compare all pairs up to this many; 0: always by hashes")
    parser.add_argument("--store", type=int, default=0, help="also time a search within a store of this size")
    args = parser.parse_args()
    if args.data is None:
        parser.error("name the folder of the real sets, or set MEDSSL_REAL_DATA")
    show = table("copies", "n", "recall", "precision", "same patient", "other patient", "seconds")
    rows = [row for name in args.sets for row in judge(Path(args.data), name, args.half, args.exhaustive, show)]
    out: dict[str, float] = {}
    for name, mine in pd.DataFrame(rows).groupby("set", sort=False):
        right, wrong = (mine["recall"] * mine["n"]).sum(), mine["false"].sum()
        out[f"{name}_recall"] = right / mine["n"].sum()
        out[f"{name}_precision"] = right / max(1.0, right + wrong)
        out[f"{name}_worst_recall"] = mine["recall"].min()
        out[f"{name}_worst_precision"] = mine["precision"].min()
    if args.store:
        out |= search(args.store)
    for what in ("recall", "precision"):
        out[f"least_{what}"] = min(out[f"{name}_{what}"] for name in args.sets)
    last_line(out)


if __name__ == "__main__":
    main()
