"""What share of real recordings each deduplication method keeps at each threshold, and pages to look at the pairs.

    python studies/keep_ratios.py DATA [--sets mri ct ecg] [--out pages]

``DATA`` (or the environment variable MEDSSL_REAL_DATA) holds ``ecg/ mri/ ct/``. Slices of MRI and CT are compared
within a volume and, as a second table, within everything; ECG windows within a patient and within everything. With
``--out`` a page for each set and method shows what is removed at the default threshold, 30 pairs nearest to it.
The last line is JSON: the share kept at each method's default threshold.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.timing import last_line, measured
from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.curate import dedup, methods
from medssl.ingest.build import build as ingest
from medssl.report import redundancy
from medssl.store import Store, open_store

LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
SHARES = (0.5, 1, 1.5, 2)  # of a method's default threshold
# Distances that cost a comparison of whole images take a sample of the patients.
SLOW = ("ssim", "mutual_information")
PATIENTS = 60


class Set(NamedTuple):
    """A published set: source and folder, how it is cut, the narrow scope, and the methods that are for it."""

    source: str
    folder: str
    ingest: SignalIngest | VolumeIngest
    scope: str
    methods: tuple[str, ...]


SETS = {
    "mri": Set(
        "msd_hippocampus",
        "mri/msd_hippocampus",
        VolumeIngest(samples="slices", size=(48, 48), spacing_mm=(1, 1)),
        "volume",
        ("dhash", "ahash", "phash", *SLOW),
    ),
    "ct": Set(
        "luna16_slices",
        "ct/luna16_slices224",
        VolumeIngest(samples="slices", size=(96, 96)),
        "patient",
        ("dhash", "ahash", "phash", *SLOW),
    ),
    "ecg": Set(
        "ptbxl",
        "ecg/ptbxl_500",
        SignalIngest(rate_hz=100, channels=LEADS, unit="mV", window_s=2.5, band_hz=(0.5, 40)),
        "patient",
        ("beats", "overlap"),
    ),
}


def shares(store: Store, name: str, scope: str) -> tuple[dict[float, float], int]:
    """Return the share kept by threshold, and of how many samples."""
    method, table = methods.METHODS[name], store.table
    rows = np.flatnonzero(dedup.originals(table))
    if name in SLOW:
        few = table["patient"].drop_duplicates().iloc[:PATIENTS]
        rows = rows[table["patient"].isin(few).to_numpy()[rows]]
    groups, order = dedup.arrange(table.iloc[rows], scope=scope)
    values = methods.signatures(name, store)[rows]
    keep = functools.partial(methods.choose, name, values, groups=groups, order=order)
    return {s * method.threshold: float(keep(threshold=s * method.threshold).kept.mean()) for s in SHARES}, len(rows)


def page(key: str, store: Store, name: str, scope: str) -> str:
    """Return the page of what the method removes at its default threshold."""
    method, values = methods.METHODS[name], methods.signatures(name, store)
    receipts = dedup.receipts(
        store.table,
        lambda rows, groups, order: methods.choose(
            name, values[rows], threshold=method.threshold, groups=groups, order=order
        ),
        method=name,
        scope=scope,
    )
    rows = np.flatnonzero(dedup.originals(store.table))
    groups, order = dedup.arrange(store.table.iloc[rows], scope=scope)
    sweep = methods.sweep(
        name,
        method.threshold,
        lambda t: methods.choose(name, values[rows], threshold=t, groups=groups, order=order),
    )
    return redundancy.render(
        key, store, receipts, sweep=sweep, method=name, threshold=method.threshold, unit=method.unit
    )


def main() -> None:
    """Ingest each set, compare by each method, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("MEDSSL_REAL_DATA"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--out", type=Path, help="write pages there")
    args = parser.parse_args()
    if args.data is None:
        parser.error("DATA or MEDSSL_REAL_DATA: the folder of real recordings")
    kept: dict[str, float] = {}
    for key in args.sets:
        wanted = SETS[key]
        with tempfile.TemporaryDirectory() as folder:
            ingest(
                sources.list_records(wanted.source, Path(args.data) / wanted.folder),
                Path(folder) / "store",
                key=key,
                params=wanted.ingest,
                secret=os.urandom(32),
            )
            store = open_store(Path(folder) / "store")
            exact = 1 - dedup.originals(store.table).mean()
            patients = store.table["patient"].nunique()
            print(f"\n{wanted.source}: {len(store)} samples, {patients} patients, exact copies {exact:.4f}")
            for name in wanted.methods:
                for scope in (wanted.scope, "global"):
                    if scope == "global" and name in (*SLOW, "overlap"):
                        continue
                    (found, n), seconds, *_ = measured(functools.partial(shares, store, name, scope))
                    cells = "  ".join(f"{t:g}: {share:.3f}" for t, share in found.items())
                    print(f"  {name:19}{scope:8}n={n:<6} {cells}   ({methods.METHODS[name].unit}; {seconds:.1f} s)")
                    kept[f"{key}_{name}_{scope}"] = found[methods.METHODS[name].threshold]
                if args.out and name not in SLOW and name != "overlap":
                    args.out.mkdir(parents=True, exist_ok=True)
                    (args.out / f"{key}-{name}.html").write_text(page(key, store, name, wanted.scope))
    last_line(kept)


if __name__ == "__main__":
    main()
