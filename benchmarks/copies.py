"""How many planted copies of real recordings `medssl.curate.copies` finds, and what else it calls a copy.

    python benchmarks/copies.py DATA [--sets ecg ppg] [--half calibrate] [--store 10000]

``DATA`` (or the environment variable MEDSSL_REAL_DATA) holds ``ecg/ ppg/ eeg/ mri/ ct/``. Of every set, one store
holds the recordings as published. For each kind of copy a second store is made: the raw recording is changed first
and then goes through the project's own preparation. Thresholds were chosen on every other patient
(``--half calibrate``); the table is of the other half.

Recall: planted copies found. Precision: 1 - false pairs / pairs reported, over pairs of different recordings, of one
patient's different stretches of time or slices, and of everything else. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import fft, ndimage

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.curate import copies
from medssl.ingest import signals, volumes
from medssl.ingest.signals import resample
from medssl.sources.record import Signal, Volume

Ingest = SignalIngest | VolumeIngest
SURE = (
    0.66  # of the shorter window shown by both makes a planted copy; anything between this and nothing is not counted
)
LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
SCALP = (
    "Fp1",
    "Fp2",
    "F3",
    "F4",
    "F7",
    "F8",
    "T3",
    "T4",
    "C3",
    "C4",
    "T5",
    "T6",
    "P3",
    "P4",
    "O1",
    "O2",
    "Fz",
    "Cz",
    "Pz",
)


class Set(NamedTuple):
    """A published set: modality, source and folder, how it is cut, what its other filter or window is."""

    modality: str
    source: str
    folder: str
    ingest: Ingest
    other: Any
    slices: int = 0  # this many slices of each volume, from its middle outwards
    repeats: int = 1  # copies of each recording, by kind


SETS = {
    "ecg": Set(
        "ecg", "ptbxl", "ecg/ptbxl_500",
        SignalIngest(rate_hz=100, channels=LEADS, unit="mV", window_s=2.5, band_hz=(0.5, 40)), (1, 25),
    ),
    "ecg-single": Set(
        "ecg", "cinc2017", "ecg/cinc2017_af300",
        SignalIngest(rate_hz=100, channels=("ECG",), unit="mV", window_s=5, band_hz=(0.5, 40)), (1, 25),
    ),
    "ppg": Set(
        "ppg", "ppg_bp", "ppg/ppg_bp",
        SignalIngest(rate_hz=125, channels=("PPG",), unit="1", window_s=2, band_hz=(0.5, 10)), (0.4, 8),
    ),
    "ppg-camera": Set(
        "ppg", "welltory", "ppg/welltory",
        SignalIngest(rate_hz=30, channels=("R",), unit="1", window_s=8, band_hz=(0.5, 8)), (0.4, 6), repeats=8,
    ),
    "eeg": Set(
        "eeg", "eegmat", "eeg/eegmat_125hz",
        SignalIngest(rate_hz=100, channels=SCALP, unit="uV", window_s=4, band_hz=(0.5, 45)), (1, 30), repeats=4,
    ),
    "ct": Set(
        "ct", "tcga_lung", "ct/tcga_lung_ct63",
        VolumeIngest(samples="slices", size=(96, 96), spacing_mm=(4, 4), hu_window=(-1000, 1000), unit="HU"),
        (-160, 240), repeats=4,
    ),
    "ct-slices": Set(
        "ct", "luna16_slices", "ct/luna16_slices224",
        VolumeIngest(samples="slices", size=(96, 96)), (0.15, 0.85),
    ),
    "mri": Set(
        "mri", "msd_hippocampus", "mri/msd_hippocampus",
        VolumeIngest(samples="volume", size=(40, 48, 32), spacing_mm=(1, 1, 1)), (0.1, 0.9),
    ),
    "mri-slices": Set(
        "mri", "msd_hippocampus", "mri/msd_hippocampus",
        VolumeIngest(samples="slices", size=(48, 32), spacing_mm=(1, 1)), (0.1, 0.9), 5,
    ),
}  # fmt: skip


@dataclass
class Held:
    """A store in memory; ``origin`` says of each sample its patient, recording, and start (s) or slice."""

    facts: dict[str, Any]
    samples: np.ndarray
    origin: pd.DataFrame

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return samples by position."""
        return self.samples[rows]


class Raw(NamedTuple):
    """A recording and where its first step lies in the published one (s)."""

    patient: str
    record: int
    values: Signal | Volume
    start: float = 0.0
    draw: int = 0  # which of the recording's copies


def load(data: Path, wanted: Set, half: str) -> list[Raw]:
    """Read the recordings of every other patient."""
    records = sources.list_records(wanted.source, data / wanted.folder)
    patients = {p: i for i, p in enumerate(dict.fromkeys(r.patient for r in records))}
    mine = [(i, r) for i, r in enumerate(records) if patients[r.patient] % 2 == (half == "report")]
    raws = [Raw(r.patient, i, sources.read(r)) for i, r in mine]
    if wanted.source == "welltory":  # the finger covers the lens within seconds; that step is no pulse
        raws = [r._replace(values=replace(r.values, values=r.values.values[:, 90:])) for r in raws]  # type: ignore[union-attr, arg-type]
    if not wanted.slices:
        return raws
    out = []
    for raw in raws:  # neighbours two slices apart are the hard negatives
        assert isinstance(raw.values, Volume)
        low, high = np.percentile(raw.values.values, (1, 99.5))
        middle = len(raw.values.values) // 2
        for step in range(wanted.slices):
            at = middle + 2 * (step - wanted.slices // 2)
            one = ((raw.values.values[at : at + 1] - low) / (high - low)).astype(np.float32)
            out.append(Raw(raw.patient, 1000 * raw.record + at, replace(raw.values, values=one)))
    return out


def hold(raws: list[Raw], wanted: Set, ingest: Ingest, only: dict[tuple[int, int], float] | None = None) -> Held:
    """Prepare recordings as ingest does; ``only`` names the one window to keep of each recording by its start."""
    samples, rows = [], []
    for raw in raws:
        if isinstance(raw.values, Signal):
            assert isinstance(ingest, SignalIngest)
            cut, starts, _ = signals.prepare(
                raw.values, rate_hz=ingest.rate_hz, channels=ingest.channels, unit=ingest.unit,
                window_s=ingest.window_s, band_hz=ingest.band_hz,
            )  # fmt: skip
            flat = signals.flat_share(
                raw.values, ingest.channels, starts, rate_hz=ingest.rate_hz, window_s=ingest.window_s
            )
            cut = signals.scale(cut, ingest.normalise)
            starts = starts + raw.start
            keep = flat <= ingest.max_flat
            if only is not None:
                keep &= np.arange(len(starts)) == np.abs(starts - only[raw.record, raw.draw]).argmin()
        else:
            assert isinstance(ingest, VolumeIngest)
            cut = volumes.prepare(
                raw.values, samples=ingest.samples, size=ingest.size, spacing_mm=ingest.spacing_mm,
                hu_window=ingest.hu_window, unit=ingest.unit,
            )  # fmt: skip
            starts, keep = np.zeros(len(cut)), np.ptp(cut.reshape(len(cut), -1), axis=1) > 0
        samples.append(cut[keep])
        rows += [(raw.patient, raw.record, s) for s in starts[keep]]
    facts = {
        "modality": wanted.modality, "shape": list(samples[0].shape[1:]), "unit": ingest.unit,
        "params": ingest.model_dump(mode="json"),
    }  # fmt: skip
    return Held(facts, np.concatenate(samples), pd.DataFrame(rows, columns=["patient", "record", "start"]))


# --- Copies of signals: each takes values (C, T) and a generator ------------------------------------------------------


def bits(values: np.ndarray, depth: int) -> np.ndarray:
    """Round to ``2**depth`` levels between the extremes of each channel or volume."""
    axis = 1 if values.ndim == 2 else None
    low, high = values.min(axis=axis, keepdims=True), values.max(axis=axis, keepdims=True)
    step = np.maximum(high - low, 1e-9) / (2**depth - 1)
    return (np.rint((values - low) / step) * step + low).astype(np.float32)


def noisy(values: np.ndarray, rng: np.random.Generator, decibel: float, spread: Any = None) -> np.ndarray:
    """Add white noise ``decibel`` below ``spread``, by default the standard deviation of the volume."""
    spread = values.std() if spread is None else spread
    return (values + spread * 10 ** (-decibel / 20) * rng.standard_normal(values.shape)).astype(np.float32)


def pressed(values: np.ndarray, spread: np.ndarray, lost: float) -> np.ndarray:
    """Drop the smallest cosine coefficients of blocks of 128 steps, a share ``lost`` of the energy (compression)."""
    length = values.shape[1]
    blocks = np.pad(values, ((0, 0), (0, -length % 128)), mode="edge").reshape(len(values), -1, 128)
    c = fft.dct(blocks, norm="ortho")
    order = np.sort(np.square(c[..., 1:]), axis=2)
    drop = (np.cumsum(order, axis=2) <= lost * 128 * np.square(spread)[..., None]).sum(axis=2, keepdims=True)
    least = np.take_along_axis(order, np.minimum(drop, order.shape[2] - 1), axis=2)
    c[..., 1:][np.square(c[..., 1:]) < least] = 0
    return fft.idct(c, norm="ortho").reshape(len(values), -1)[:, :length].astype(np.float32)


def jpeg(values: np.ndarray, quality: int) -> np.ndarray:
    """Each slice through JPEG."""
    low, high = values.min(), values.max()
    out = []
    for image in np.rint((values - low) / max(high - low, 1e-9) * 255).astype(np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "jpeg", quality=quality)
        out.append(np.asarray(Image.open(buffer), dtype=np.float32))
    return (np.stack(out) / 255 * (high - low) + low).astype(np.float32)


def plant_signals(raws: list[Raw], wanted: Set, base: Held, rng: np.random.Generator) -> dict[str, Held]:
    """Return a store for each kind of copy: one window of each recording, changed before it was prepared."""
    ingest = wanted.ingest
    assert isinstance(ingest, SignalIngest)
    held = {record: rows.to_numpy() for record, rows in base.origin.groupby("record")["start"]}
    raws = [r._replace(draw=i) for r in raws if r.record in held for i in range(wanted.repeats)]
    chosen = {(r.record, r.draw): float(rng.choice(held[r.record])) for r in raws}

    def made(
        change: Callable[[np.ndarray, float], tuple[np.ndarray, float]],
        late: Callable[[Raw], float] | None = None,
        **other: Any,
    ) -> Held:
        out, only = [], dict[tuple[int, int], float]()
        for raw in raws:
            signal = raw.values
            assert isinstance(signal, Signal)
            values, start = signal.values[[signal.channels.index(c) for c in ingest.channels]], 0.0
            values = signals.fill_missing(values, 0.05)
            values = values - np.median(values, axis=1, keepdims=True)  # resamplers ring on a large offset
            if late is not None:  # the copy's recording begins elsewhere, so its windows and its filter do too
                first = max(0, round((chosen[raw.record, raw.draw] + late(raw)) * signal.rate_hz))
                values, start = values[:, first:], first / signal.rate_hz
            only[raw.record, raw.draw] = start if late is not None else chosen[raw.record, raw.draw]
            values, rate_hz = change(values, signal.rate_hz)
            channels = ingest.channels
            out.append(Raw(raw.patient, raw.record, Signal(values, rate_hz, channels, signal.unit), start, raw.draw))
        return hold(out, wanted, ingest.model_copy(update=other), only)

    def room(raw: Raw, window_s: float) -> float:
        """Seconds that a window may move later; 40 % of it at most."""
        assert isinstance(raw.values, Signal)
        end = raw.values.values.shape[1] / raw.values.rate_hz
        return float(np.clip(end - chosen[raw.record, raw.draw] - window_s - 0.01, 0, 0.4 * window_s))

    def moved(raw: Raw) -> float:
        most = room(raw, ingest.window_s)
        if rng.random() < 0.5 or most < 0.02:
            back = min(chosen[raw.record, raw.draw], 0.4 * ingest.window_s)
            if back > most:
                return -float(rng.uniform(back / 4, back))
        return float(rng.uniform(most / 4, most))

    def lively(v: np.ndarray, r: float) -> np.ndarray:
        """Spread (C, 1) of an ordinary second within the band that the store keeps: a drift would hide any noise."""
        assert ingest.band_hz is not None
        kept, second = signals.band_pass(v, r, ingest.band_hz), round(r)
        seconds = kept[:, : v.shape[1] // second * second].reshape(len(v), -1, second)
        return np.median(seconds.std(axis=2), axis=1)[:, None]

    short = round(0.7 * ingest.window_s, 2)
    faster: dict[str, Any] = {"rate_hz": 1.28 * ingest.rate_hz}
    plants = {
        "copy": made(lambda v, r: (v, r)),
        "gain": made(lambda v, r: (0.37 * v + 0.2 * v.std(), r), normalise="none"),
        "rate": made(lambda v, r: (resample(v, r, 0.9 * r), 0.9 * r), **faster),
        "depth": made(lambda v, r: (bits(v, 10), r)),
        "shift": made(lambda v, r: (v, r), moved),
        "crop": made(lambda v, r: (v, r), lambda raw: rng.uniform(0, 0.3 * ingest.window_s), window_s=short),
        "window": made(lambda v, r: (v, r), band_hz=wanted.other),
        "noise": made(lambda v, r: (noisy(v, rng, 30, lively(v, r)), r)),
        "compress": made(lambda v, r: (pressed(v, lively(v, r), 0.001), r)),
        "all": made(
            lambda v, r: (noisy(bits(2 * resample(v, r, 0.9 * r), 12), rng, 30, 2 * lively(v, r)), 0.9 * r),
            moved,
            **faster,
        ),
    }
    return plants


def plant_images(raws: list[Raw], wanted: Set, rng: np.random.Generator) -> dict[str, Held]:
    """The same for slices and volumes."""
    ingest = wanted.ingest
    assert isinstance(ingest, VolumeIngest)
    flat = 1 if ingest.samples == "slices" else 0  # axes that are left alone

    def made(change: Callable[[Volume], Volume], **other: Any) -> Held:
        out = []
        for raw in raws * wanted.repeats:
            assert isinstance(raw.values, Volume)
            out.append(Raw(raw.patient, raw.record, change(raw.values)))
        return hold(out, wanted, ingest.model_copy(update=other))

    def of(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Volume], Volume]:
        return lambda v: replace(v, values=np.ascontiguousarray(change(v.values), dtype=np.float32))

    def shrunk(v: Volume) -> Volume:
        """Re-export at 70 % of the resolution."""
        factor = np.array([1.0] * flat + [0.7] * (3 - flat))
        small = ndimage.zoom(
            ndimage.gaussian_filter(v.values, [0] * flat + [0.4] * (3 - flat)), factor, order=1, grid_mode=True,
            mode="nearest",
        )  # fmt: skip
        spacing = np.array(v.spacing_mm) * np.array(v.values.shape) / np.array(small.shape)
        return Volume(small.astype(np.float32), tuple(spacing), v.unit)

    def shifted(x: np.ndarray) -> np.ndarray:
        by = [0] * flat + [round(s * n) for s, n in zip(rng.uniform(-0.1, 0.1, 3 - flat), x.shape[flat:], strict=True)]
        return ndimage.shift(x, by, order=0, mode="constant", cval=float(x.min()))

    def cropped(x: np.ndarray) -> np.ndarray:
        cut = [slice(None)] * flat
        for n in x.shape[flat:]:
            low, high = (round(e * n) for e in rng.uniform(0.0, 0.06, 2))
            cut.append(slice(low, n - high))
        return x[tuple(cut)]

    def clipped(x: np.ndarray) -> np.ndarray:
        low, high = np.quantile(x, wanted.other) if wanted.modality == "mri" else np.array(wanted.other) * x.max()
        return np.clip(x, low, high)

    size = tuple(round(n * 0.85) for n in ingest.size)
    coarser = {"size": size} if ingest.spacing_mm is None else {}
    window: dict[str, Any] = {"hu_window": wanted.other} if ingest.hu_window else {}
    same = of(lambda x: x)
    return {
        "copy": made(same),
        "gain": made(of(lambda x: x), hu_window=(-1200, 1400))
        if ingest.hu_window
        else made(of(lambda x: 0.37 * x + 11)),
        "rate": made(shrunk, **coarser),
        "depth": made(of(lambda x: bits(x, 6))),
        "shift": made(of(shifted)),
        "crop": made(of(cropped)),
        "window": made(same, **window) if window else made(of(clipped)),
        "noise": made(of(lambda x: noisy(x, rng, 20))),
        "compress": made(of(lambda x: jpeg(x, 40))),
        "all": made(lambda v: of(lambda x: noisy(jpeg(shifted(x), 70), rng, 26))(shrunk(v)), **coarser),
    }


# --- What was found ---------------------------------------------------------------------------------------------------


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


def judge(data: Path, name: str, half: str, exhaustive: int | None) -> list[dict[str, Any]]:
    """Plant copies into one set, look for them and count."""
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
        begin = time.perf_counter()
        found = copies.pairs(base, planted, exhaustive=exhaustive)
        seconds = time.perf_counter() - begin
        share, patient = overlap(wanted, base, planted)
        q, o = planted.origin["record"].to_numpy(), base.origin["record"].to_numpy()
        counted = np.array([[(a, b) not in twice for b in o] for a in q]) if twice else np.ones(share.shape, bool)
        got = np.zeros(share.shape, dtype=bool)
        got[found["row_b"], found["row_a"]] = True
        # A shift that leaves little more than the least overlap may fall on either side of it.
        copy, apart = share >= SURE, (share == 0) & counted
        right, hard, far = (int((got & x).sum()) for x in (copy, apart & patient, apart & ~patient))
        rows.append(
            {
                "set": name, "kind": kind, "n": int(copy.sum()), "recall": right / max(1, int(copy.sum())),
                "precision": right / max(1, right + hard + far), "hard": int((apart & patient).sum()),
                "false_hard": hard, "other": int((apart & ~patient).sum()), "false_other": far, "seconds": seconds,
            }
        )  # fmt: skip
        row = rows[-1]
        print(
            f"{name:11}{kind:10}{row['n']:5}{row['recall']:8.3f}{row['precision']:10.3f}"
            f"{hard:6}/{row['hard']:<6}{far:5}/{row['other']:<8}{seconds:7.1f}",
            flush=True,
        )
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
        begin = time.perf_counter()
        found = copies.pairs(Held(facts, samples, pd.DataFrame()), exhaustive=0)
        out[f"search_{name}_s"] = time.perf_counter() - begin
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
    print(f"{'set':11}{'kind':10}{'n':>5}{'recall':>8}{'precision':>10}{'hard':>13}{'other':>14}{'s':>7}")
    rows = [row for name in args.sets for row in judge(Path(args.data), name, args.half, args.exhaustive)]
    out: dict[str, float] = {}
    table = pd.DataFrame(rows)
    for name, mine in table.groupby("set", sort=False):
        right = (mine["recall"] * mine["n"]).sum()
        wrong = (mine["false_hard"] + mine["false_other"]).sum()
        out[f"{name}_recall"] = right / mine["n"].sum()
        out[f"{name}_precision"] = right / max(1.0, right + wrong)
        out[f"{name}_worst_recall"] = mine["recall"].min()
        out[f"{name}_worst_precision"] = mine["precision"].min()
    if args.store:
        out |= search(args.store)
    out |= {
        f"least_{what}": min(
            v for k, v in out.items() if k.endswith(f"_{what}") and "worst" not in k and "search" not in k
        )
        for what in ("recall", "precision")
    }
    print(json.dumps({k: round(float(v), 4) for k, v in out.items()}))


if __name__ == "__main__":
    main()
