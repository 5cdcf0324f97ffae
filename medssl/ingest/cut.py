"""One record to samples: read, prepare, and give every refused window its reason. Runs in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import signals, volumes
from medssl.sources.record import BadRecord, Record, Signal, Volume


@dataclass(frozen=True)
class Cut:
    """What one record became: samples (N, ...), a table row for each, and refused windows by reason."""

    samples: np.ndarray
    rows: list[dict[str, Any]]
    refused: list[tuple[str, str]]


def cut(record: Record, *, params: SignalIngest | VolumeIngest) -> Cut | tuple[str, str]:
    """Read one record and cut it into samples, or return ``(reason, detail)``. Runs in a worker."""
    try:
        raw = sources.read(record)
        if isinstance(params, SignalIngest):
            if not isinstance(raw, Signal):
                raise BadRecord("unsupported", "an image where a signal was expected")
            return _cut_signal(raw, record, params)
        if not isinstance(raw, Volume):
            raise BadRecord("unsupported", "a signal where an image was expected")
        return _cut_volume(raw, record, params)
    except BadRecord as bad:
        return bad.reason, bad.detail
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        # Absurd numbers in a header end here; messages of libraries may quote the file, so only the type is kept.
        return "unreadable", f"preparing the recording raised {type(error).__name__}"


def _cut_signal(raw: Signal, record: Record, params: SignalIngest) -> Cut:
    windows, starts = signals.prepare(
        raw,
        rate_hz=params.rate_hz,
        channels=params.channels,
        unit=params.unit,
        window_s=params.window_s,
        overlap=params.overlap,
        band_hz=params.band_hz,
        max_missing=params.max_missing,
    )
    flat = signals.flat_share(raw, params.channels, starts, rate_hz=params.rate_hz, window_s=params.window_s)
    good = flat <= params.max_flat
    samples = signals.scale(windows[good], params.normalise)
    offset = record.start_s or 0.0
    rows = [
        {"start_s": float(offset + start), "quality": float(1 - share), "_anatomy": dict(record.anatomy)}
        for start, share in zip(starts[good], flat[good], strict=True)
    ]
    refused = [
        ("flat", f"{share:.0%} of the window at {start:g} s does not change; allowed {params.max_flat:.0%}")
        for start, share in zip(starts[~good], flat[~good], strict=True)
    ]
    return Cut(samples, rows, refused)


def _cut_volume(raw: Volume, record: Record, params: VolumeIngest) -> Cut:
    samples = volumes.prepare(
        raw,
        samples=params.samples,
        size=params.size,
        spacing_mm=params.spacing_mm,
        hu_window=params.hu_window,
        unit=params.unit,
    )
    whole = {**volumes.organ_volumes(raw, dict(record.mask_labels)), **record.anatomy}
    per_slice = volumes.composition(raw)
    if params.samples == "volume":
        keys = {k for row in per_slice for k in row if k != "position"}
        means = {k: float(np.mean([row[k] for row in per_slice if k in row])) for k in keys}
        per_sample = [{**means, **whole}]
    else:
        per_sample = [{**row, **whole} for row in per_slice]
    rows, keep, refused = [], [], []
    for i, anatomy in enumerate(per_sample):
        if samples[i].max() <= samples[i].min():
            refused.append(("blank", f"slice {i} is constant"))
            continue
        keep.append(i)
        rows.append({"start_s": float("nan"), "quality": 1.0, "_anatomy": anatomy})
    return Cut(samples[keep], rows, refused)
