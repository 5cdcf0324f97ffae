"""Windows of an encoder from the windows of a store that was cut otherwise.

Letters: n samples of the store, C channels, T time steps of a sample or of several that are joined, W those of a window
of the encoder, k windows, R rows of any kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from medssl.config import SignalIngest
from medssl.ingest import beats, signals
from medssl.ingest.channels import pick_channels
from medssl.sources.record import BadRecord, Signal
from medssl.store import Store

# What is scaled by itself in a store, from coarse to fine, and what of an encoder's samples is then lost.
SCALED = {"record": "recording", "sample": "sample", "channel": "channel of a sample"}
RATIOS = {
    ("channel", "sample"): "channels",
    ("channel", "record"): "channels and samples of a recording",
    ("sample", "record"): "samples of a recording",
}


class Made(NamedTuple):
    """Samples as the encoder asks for them, and of which samples of the store each shows a part.

    Pair j says that sample ``piece[j]`` shows ``share[j]`` (seconds, or 1) of the j-th pair's stored sample ``row[j]``.
    """

    samples: np.ndarray  # (k, C, ...)
    piece: np.ndarray
    row: np.ndarray
    share: np.ndarray


def lost(want: SignalIngest, have: SignalIngest, store: Store) -> list[str]:
    """Return what the windows of a store cut as ``have`` lack of those cut as ``want``, a sentence each.

    Raises:
        BadRecord: channels that are absent, units that do not convert, or no stretch that is long enough.
    """
    lead = np.arange(len(have.channels), dtype=np.float32)[:, None]  # each another, as no two may be meant
    pick_channels(Signal(lead, have.rate_hz, have.channels, have.unit), want.channels, want.absent)
    signals.convert(lead, _unit(want, have), want.unit)
    said = []
    (low, high), (lowest, highest) = _band(have), _band(want)
    if low > lowest or high < highest:
        said.append(f"the store holds {low:g} to {high:g} Hz, the encoder's samples {lowest:g} to {highest:g} Hz")
    if have.notch_hz and have.notch_hz != want.notch_hz and lowest < have.notch_hz < min(high, highest):
        said.append(f"the store lacks the mains of {have.notch_hz} Hz, which the encoder's samples hold")
    each, ratio = SCALED.get(have.normalise), RATIOS.get((have.normalise, want.normalise))
    if want.normalise in signals.IN_UNITS and each:
        said.append(f"the store scales each {each} by itself, the encoder's samples are in {want.unit}")
    elif want.normalise == "none" and have.normalise == "cohort":
        said.append("the store centres each channel of a sample, the encoder's samples keep its mean")
    elif ratio:
        scales = f"the store scales each {have.normalise} by itself"
        said.append(f"{scales}, the encoder's samples keep the ratio of {ratio}")
    if have.cut == "beats" and want.cut == "windows":
        said.append("samples of the store lie around beats, the encoder's one after another")
    if _joins(want, have):
        if have.normalise != "none":
            alone = f"{each} scaled" if have.normalise in ("sample", "channel") else "channel of a sample centred"
            purpose = "to find beats" if want.cut == "beats" else f"for the encoder's windows of {want.window_s:g} s"
            said.append(f"stretches of {have.window_s:g} s, each {alone} by itself, are joined {purpose}")
        stretch, steps = _stretches(store, have)
        short = int((steps[stretch] < want.window_s * have.rate_hz * (1 - signals.SHORT)).sum())
        what = f"in stretches without a gap that are shorter than the encoder's window of {want.window_s:g} s"
        if short == len(store):
            raise BadRecord("too_short", f"all samples lie {what}; ingest longer windows")
        if short:
            said.append(f"{short} of {len(store)} samples lie {what}, and have no embedding")
    return said


def _band(params: SignalIngest) -> tuple[float, float]:
    """Return the lowest and the highest frequency in Hz that samples hold."""
    low, high = params.band_hz or (0.0, np.inf)
    return low, min(high, params.rate_hz / 2)


def _unit(want: SignalIngest, have: SignalIngest) -> str:
    """Return the unit of a store's values; those that are scaled, or will be, have none to convert."""
    return have.unit if {have.normalise, want.normalise} <= {*signals.IN_UNITS} else want.unit


def _joins(want: SignalIngest, have: SignalIngest) -> bool:
    """Tell whether the encoder looks further than a stored sample: its window is longer, or beats are to be found."""
    return want.window_s * (1 - signals.SHORT) > have.window_s or (want.cut == "beats" and have.cut != "beats")


def _stretches(store: Store, have: SignalIngest) -> tuple[np.ndarray, np.ndarray]:
    """Return for each sample (n,) the number of its stretch without a gap, and the steps of each stretch."""
    trial, start = (store.table[name].to_numpy() for name in ("trial", "start_s"))
    order = np.lexsort((start, trial))
    new = (np.diff(trial[order]) != 0) | (np.diff(start[order]) > have.window_s + 0.5 / have.rate_hz)
    number = np.concatenate([[0], np.cumsum(new)])
    stretch = np.empty(len(order), dtype=int)
    stretch[order] = number
    begins = np.flatnonzero(np.concatenate([[True], new]))
    ends = np.append(begins[1:], len(order)) - 1
    long_s = start[order][ends] - start[order][begins] + have.window_s
    return stretch, np.rint(long_s * have.rate_hz).astype(int)


def of(
    want: SignalIngest, have: SignalIngest, store: Store, rows: np.ndarray, batch_size: int, *, scale: float = 1.0
) -> Iterator[Made]:
    """Yield windows cut as ``want`` of the given rows of a store cut as ``have``, about a batch at a time.

    For ``normalise: record`` all windows of the trials are made once more before, as they decide the number.

    Args:
        want, have: how windows are, and how the store's are.
        store: read as it is stored.
        rows: each once.
        batch_size: samples at a time.
        scale: of ``normalise: cohort``; a store whose values are in no unit is taken to be in that scale already.
    """
    if want.normalise != "record":
        for made in _unscaled(want, have, store, rows, batch_size):
            samples = signals.scale(made.samples, want.normalise)
            in_unit = want.normalise == "cohort" and have.normalise in signals.IN_UNITS
            yield made._replace(samples=samples / scale if in_unit else samples)
        return
    if not len(rows):
        return
    trial = store.table["trial"].to_numpy()
    whole = np.flatnonzero(np.isin(trial, trial[rows]))
    found = [
        pd.DataFrame({"trial": trial[_rows_shown(made)], "rms": signals.rms(made.samples)})
        for made in _unscaled(want, have, store, whole, batch_size)
    ]
    number = pd.concat(found).groupby("trial")["rms"].agg(signals.rms_of_recording)
    for made in _unscaled(want, have, store, rows, batch_size):
        by = number[trial[_rows_shown(made)]].to_numpy(np.float32)[:, None, None]
        yield made._replace(samples=signals.scale(made.samples, "cohort") / by)


def _rows_shown(made: Made) -> np.ndarray:
    """Return for each sample (k,) one of the stored samples that it shows."""
    shown = np.zeros(len(made.samples), dtype=int)
    shown[made.piece] = made.row
    return shown


def _unscaled(
    want: SignalIngest, have: SignalIngest, store: Store, rows: np.ndarray, batch_size: int
) -> Iterator[Made]:
    """Yield what `of` does before it is scaled."""
    (low, high), (lowest, highest) = _band(have), _band(want)
    undone: dict[str, Any] = {}  # what the store went through already, or cannot matter
    if low >= lowest and high <= highest:
        undone["band_hz"] = None
    if want.notch_hz and (have.notch_hz == want.notch_hz or high < want.notch_hz):
        undone["notch_hz"] = None
    if have.cut == "beats":
        undone["cut"] = "windows"
    want = want.model_copy(update=undone)
    if not _joins(want, have):
        several = max(1, round(have.window_s / want.window_s))
        for block in np.split(rows, range(step := max(1, batch_size // several), len(rows), step)):
            leads = _leads(store.read(block), want, have)  # (n, C, T)
            n, c, t = leads.shape
            even = _prepared(leads.reshape(n * c, t), want, have)
            starts = _starts(even.shape[1], want)
            cut = _cut(even, starts, want).reshape(len(starts), n, c, -1)
            made = np.concatenate(list(cut))  # a window of all rows after the other
            row = np.tile(block, len(starts))
            yield Made(made, np.arange(len(row)), row, np.ones(len(row)))
        return
    stretch, steps = _stretches(store, have)
    start = store.table["start_s"].to_numpy()
    order = np.lexsort((start, stretch))
    first = np.searchsorted(stretch[order], np.arange(len(steps) + 1))
    parts: list[Made] = []
    for number in np.unique(stretch[rows]):
        members = order[first[number] : first[number + 1]]
        at = start[members] - start[members[0]]
        parts.append(_of_stretch(store, members, at, int(steps[number]), want, have))
        if sum(len(part.samples) for part in parts) >= batch_size:
            yield _together(parts)
            parts = []
    if parts:
        yield _together(parts)


def _of_stretch(
    store: Store, members: np.ndarray, at: np.ndarray, steps: int, want: SignalIngest, have: SignalIngest
) -> Made:
    """Return the windows, unscaled, of samples that follow one another; ``at`` is in seconds from the first's start."""
    held = _leads(store.read(members), want, have)
    values = np.full((held.shape[1], max(steps, held.shape[2])), np.nan, dtype=np.float32)
    for begin, sample in zip(np.rint(at * have.rate_hz).astype(int), held, strict=True):
        part = values[:, begin : begin + sample.shape[1]]
        part[:] = sample[:, : part.shape[1]]
    even = _prepared(values, want, have)
    try:
        if want.cut == "beats":
            length = round(want.window_s * want.rate_hz)
            starts = beats.whole(even, want.rate_hz, length, modality=store.facts["modality"])[0]
        else:
            starts = _starts(even.shape[1], want)
    except BadRecord:  # no beat in it
        starts = np.zeros(0, dtype=int)
    begins = starts / want.rate_hz
    ends = np.minimum(begins[:, None] + want.window_s, at + have.window_s)
    seconds = ends - np.maximum(begins[:, None], at)
    piece, row = np.nonzero(seconds > 0.5 / max(want.rate_hz, have.rate_hz))
    return Made(_cut(even, starts, want), piece, members[row], seconds[piece, row])


def _together(parts: list[Made]) -> Made:
    offsets = np.cumsum([0, *(len(part.samples) for part in parts[:-1])])
    piece = np.concatenate([part.piece + offset for part, offset in zip(parts, offsets, strict=True)])
    samples, _, row, share = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Made(samples, piece, row, share)


def _leads(samples: np.ndarray, want: SignalIngest, have: SignalIngest) -> np.ndarray:
    """Return stored samples (n, C, T) with the encoder's channels, all at once: the rows of one long recording."""
    n, c, t = samples.shape
    joined = Signal(samples.transpose(1, 0, 2).reshape(c, n * t), have.rate_hz, have.channels, have.unit)
    picked = pick_channels(joined, want.channels, want.absent)
    return picked.reshape(len(want.channels), n, t).transpose(1, 0, 2)


def _prepared(values: np.ndarray, want: SignalIngest, have: SignalIngest) -> np.ndarray:
    """Return rows (R, T) of a store as recordings are prepared for the encoder, uncut and before scaling."""
    names = tuple(map(str, range(len(values))))
    whole = {"window_s": values.shape[1] / have.rate_hz, "channels": names}
    how = {k: getattr(want, k) for k in ("rate_hz", "unit", "band_hz", "notch_hz")}
    recording = Signal(values, have.rate_hz, names, _unit(want, have))
    return signals.prepare(recording, **whole, **how)[0][0]


def _starts(steps: int, want: SignalIngest) -> np.ndarray:
    """Return the first steps of windows end to end, and of one more at the end where a rest is left."""
    length = round(want.window_s * want.rate_hz)
    if steps < length * (1 - signals.SHORT):
        return np.zeros(0, dtype=int)
    starts = np.arange(0, max(steps - length, 0) + 1, length)
    rest = steps - (starts[-1] + length)
    return np.append(starts, steps - length) if rest > signals.SHORT * length else starts


def _cut(even: np.ndarray, starts: np.ndarray, want: SignalIngest) -> np.ndarray:
    """Return windows (k, R, W) of prepared rows (R, T)."""
    length = round(want.window_s * want.rate_hz)
    even = np.pad(even, ((0, 0), (0, max(0, length - even.shape[1]))), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(even, length, axis=1)[:, starts].transpose(1, 0, 2)
