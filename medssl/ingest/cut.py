"""One record to samples: read, prepare, and give every refused window its reason. Runs in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import beats, quality, signals, volumes
from medssl.sources import events
from medssl.sources.record import BadRecord, Record, Signal, Volume

# What a unit measures as a rule, for callers that do not say.
USUAL = {"mV": "ecg", "uV": "eeg", "1": "ppg"}
# One sample of a volume, by how it is cut.
KINDS = {"volume": "volume", "slices": "slice", "patches": "patch"}
# Measures of quality that have a limit in the parameters, max_<name>, and what a window beyond it does.
LIMITED = {
    "missing": "is missing",
    "flat": "does not change",
    "clipped": "is at the end of the recorder's range",
    "out_of_range": "is out of range",
    "line_noise": "is mains hum",
}


@dataclass(frozen=True)
class Cut:
    """What one record became: samples (N, ...), a table row for each, and refused windows by reason."""

    samples: np.ndarray
    rows: list[dict[str, Any]]
    refused: list[tuple[str, str]]


def cut(record: Record, *, params: SignalIngest | VolumeIngest, modality: str | None = None) -> Cut | tuple[str, str]:
    """Read one record and cut it into samples, or return ``(reason, detail)``. Runs in a worker.

    Args:
        record: what to read.
        params: how to cut.
        modality: ``ecg``, ``ppg`` or ``eeg``, which decides what a beat is and the limits and index of quality; None:
            by the unit.
    """
    try:
        return of(sources.read(record), record, params, modality)
    except BadRecord as bad:
        return bad.reason, bad.detail
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        # Absurd numbers in a header end here; messages of libraries may quote the file, so only the type is kept.
        return "unreadable", f"preparing the recording raised {type(error).__name__}"


def of(raw: Signal | Volume, record: Record, params: SignalIngest | VolumeIngest, modality: str | None = None) -> Cut:
    """Cut a record that was read; arguments as in `cut`.

    Raises:
        BadRecord: the record cannot be cut so.
    """
    if isinstance(params, SignalIngest):
        if not isinstance(raw, Signal):
            raise BadRecord("unsupported", "an image where a signal was expected")
        return _cut_signal(raw, record, params, modality or USUAL.get(params.unit, ""))
    if not isinstance(raw, Volume):
        raise BadRecord("unsupported", "a signal where an image was expected")
    return _cut_volume(raw, record, params)


def refusals(measures: dict[str, np.ndarray], params: SignalIngest) -> dict[str, np.ndarray]:
    """Return which windows (N,) each limit on quality refuses; the first reason counts, and NaN refuses nothing.

    Args:
        measures: as `medssl.ingest.quality.of_signal` gives them.
        params: with the limits.
    """
    good = np.ones(len(measures["flat"]), dtype=bool)
    out = {}
    for reason in LIMITED:
        limit = getattr(params, f"max_{reason}")
        out[reason] = good & (measures[reason] > limit) if limit is not None else np.zeros_like(good)
        good &= ~out[reason]
    return out


def _cut_signal(raw: Signal, record: Record, params: SignalIngest, modality: str) -> Cut:
    values = signals.continuous(
        raw,
        rate_hz=params.rate_hz,
        channels=params.channels,
        unit=params.unit,
        window_s=params.window_s,
        band_hz=params.band_hz,
        max_missing=1.0,  # by window, below: a gap costs what it touches and nothing else
        notch_hz=params.notch_hz,
        absent=params.absent,
    )
    length = round(params.window_s * params.rate_hz)
    refused = []
    if params.cut == "beats":
        first, outside = beats.whole(values, params.rate_hz, length, modality=modality)
        refused = [
            ("border", f"the window around the beat at {peak / params.rate_hz:.2f} s leaves the recording")
            for peak in outside
        ]
    else:
        first = signals.even_starts(values.shape[1], length, params.overlap)
    windows, starts = signals.windows_at(values, first, length), first / params.rate_hz
    picked = Signal(signals.pick_channels(raw, params.channels, params.absent), raw.rate_hz, params.channels, raw.unit)
    measures = quality.of_signal(
        picked, windows, starts, rate_hz=params.rate_hz, window_s=params.window_s, modality=modality
    )
    good = np.ones(len(starts), dtype=bool)
    for reason, bad in refusals(measures, params).items():
        limit = getattr(params, f"max_{reason}")
        refused += [
            (reason, f"{share:.0%} of the window at {start:g} s {LIMITED[reason]}; allowed {limit:.0%}")
            for start, share in zip(starts[bad], measures[reason][bad], strict=True)
        ]
        good &= ~bad
    offset = record.start_s or 0.0
    labels = events.labels_of(record, offset + starts, params.window_s)
    rows = [
        {
            "start_s": float(offset + starts[i]),
            **{f"label_{task}": classes[i] for task, classes in labels.items()},
            "quality": float(1 - measures["flat"][i]),
            **{f"quality_{name}": float(value[i]) for name, value in measures.items()},
            "_anatomy": dict(record.anatomy),
        }
        for i in np.flatnonzero(good)
    ]
    return Cut(signals.scale(windows[good], params.normalise), rows, refused)


def _cut_volume(raw: Volume, record: Record, params: VolumeIngest) -> Cut:
    samples, boxes = volumes.located(
        raw,
        samples=params.samples,
        size=params.size,
        spacing_mm=params.spacing_mm,
        hu_window=params.hu_window,
        unit=params.unit,
        crop=params.crop,
        normalise=params.normalise,
        overlap=params.overlap,
    )
    names = dict(record.mask_labels)
    truncated = volumes.truncated_organs(raw, names)
    if params.truncated == "missing":
        names = {value: name for value, name in names.items() if not truncated.get(name)}
    whole = {**volumes.organ_volumes(raw, names), **volumes.organ_densities(raw, names), **record.anatomy}
    found = volumes.composition_of(raw, boxes) if params.samples == "patches" else volumes.composition(raw)
    if params.samples == "volume":
        keys = {k for row in found for k in row if k != "position"}
        found = [{k: float(np.mean([row[k] for row in found if k in row])) for k in keys}]
    per_sample = [{**row, **whole} for row in found]
    measures = quality.of_volume(raw, samples)
    organs = {f"quality_{name}_truncated": float(flag) for name, flag in truncated.items()}
    rows, keep, refused = [], [], []
    for i, anatomy in enumerate(per_sample):
        if samples[i].max() <= samples[i].min():
            refused.append(("blank", f"{KINDS[params.samples]} {i} is constant"))
            continue
        if params.max_blank is not None and measures["blank"][i] > params.max_blank:
            share = measures["blank"][i]
            refused.append(
                ("mostly_blank", f"{share:.0%} of {KINDS[params.samples]} {i} is blank; allowed {params.max_blank:.0%}")
            )
            continue
        keep.append(i)
        of_sample = {f"quality_{name}": float(value[i]) for name, value in measures.items()}
        rows.append({"start_s": float("nan"), "quality": 1.0, **of_sample, **organs, "_anatomy": anatomy})
    return Cut(samples[keep], rows, refused)
