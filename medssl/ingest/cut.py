"""One recording to samples, and a reason for every refused one: the one road for ingest (in a worker) and encoders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import quality, signals, volumes
from medssl.ingest.channels import pick_channels
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
class Pieces:
    """A recording cut up, nothing left out yet."""

    samples: np.ndarray  # (N, C, ...) scaled, refused ones too, which decide no scale but their own
    places: list[Any]  # where each lies: start in seconds, or box of voxels
    measures: dict[str, np.ndarray]  # quality by name, each (N,)
    refused: dict[int, tuple[str, str]]  # reason and detail by position in ``samples``
    raw: Signal | Volume  # the recording as it was cut
    outside: list[tuple[str, str]]  # reason and detail of beats whose window leaves the recording

    @property
    def kept(self) -> list[int]:
        """Positions of the samples that are not refused."""
        return [i for i in range(len(self.samples)) if i not in self.refused]

    def told(self) -> str:
        """Return how many samples were left out, why, and the first of each kind."""
        reasons = Counter(reason for reason, _ in self.refused.values())
        first = {reason: detail for reason, detail in reversed(list(self.refused.values()))}
        if not reasons:
            return "no window lies whole inside the recording"
        listed = ", ".join(f"{n} {reason} ({first[reason]})" for reason, n in reasons.items())
        return f"{len(self.refused)} of {len(self.samples)} samples left out: {listed}"


@dataclass(frozen=True)
class Cut:
    """What one record became: samples (N, ...), a table row for each, and refused windows by reason."""

    samples: np.ndarray
    rows: list[dict[str, Any]]
    refused: list[tuple[str, str]]


def cut(record: Record, *, params: SignalIngest | VolumeIngest, modality: str | None = None) -> Cut | tuple[str, str]:
    """Read one record and cut it into samples, or return ``(reason, detail)``. Runs in a worker.

    ``modality`` is ``ecg``, ``ppg`` or ``eeg`` and decides what a beat is and the limits and index of quality; None: by
    the unit.
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
    made = pieces(raw, params, modality)
    if isinstance(params, SignalIngest):
        rows = _signal_rows(made, record, params.window_s)
    else:
        rows = _volume_rows(made, record, params)
    return Cut(made.samples[made.kept], rows, [*made.outside, *(made.refused[i] for i in sorted(made.refused))])


def pieces(raw: Signal | Volume, params: SignalIngest | VolumeIngest, modality: str | None = None) -> Pieces:
    """Return the samples of a recording with their quality, and which of them the limits refuse; see `cut`.

    Raises:
        BadRecord: the recording cannot be cut so.
    """
    if isinstance(params, SignalIngest):
        if not isinstance(raw, Signal):
            raise BadRecord("unsupported", "an image where a signal was expected")
        return _windows(raw, params, modality or USUAL.get(params.unit, ""))
    if not isinstance(raw, Volume):
        raise BadRecord("unsupported", "a signal where an image was expected")
    return _parts(raw, params)


def _how(params: SignalIngest | VolumeIngest, later: str) -> dict[str, Any]:
    """Return what the preparation of a recording asks for: all but limits and what is done ``later``."""
    return {name: value for name, value in params if name != later and not name.startswith("max_")}


def refusals(measures: dict[str, np.ndarray], params: SignalIngest) -> dict[str, np.ndarray]:
    """Return which windows (N,) each limit refuses by the measures that `medssl.ingest.quality.of_signal` gives.

    The first reason counts, and NaN refuses nothing.
    """
    good = np.ones(len(measures["flat"]), dtype=bool)
    out = {}
    for reason in LIMITED:
        limit = getattr(params, f"max_{reason}")
        out[reason] = good & (measures[reason] > (np.inf if limit is None else limit))
        good &= ~out[reason]
    return out


def _windows(raw: Signal, params: SignalIngest, modality: str) -> Pieces:
    windows, starts, outside_s = signals.prepare(raw, modality=modality, **_how(params, "normalise"))
    picked = Signal(pick_channels(raw, params.channels, params.absent), raw.rate_hz, params.channels, raw.unit)
    measures = quality.of_signal(
        picked, windows, starts, rate_hz=params.rate_hz, window_s=params.window_s, modality=modality
    )
    refused = {}
    for reason, bad in refusals(measures, params).items():
        limit = getattr(params, f"max_{reason}")
        for i in np.flatnonzero(bad):
            share = f"{measures[reason][i]:.0%} of the window at {starts[i]:g} s {LIMITED[reason]}"
            refused[int(i)] = (reason, f"{share}; allowed {limit:.0%}")
    outside = [("border", f"the window around the beat at {peak:.2f} s leaves the recording") for peak in outside_s]
    accepted = ~np.isin(np.arange(len(windows)), list(refused))
    samples = signals.scale(windows, params.normalise, accepted)
    return Pieces(samples, starts.tolist(), measures, refused, raw, outside)


def _signal_rows(made: Pieces, record: Record, window_s: float) -> list[dict[str, Any]]:
    """Return the table row of each kept window."""
    starts = (record.start_s or 0.0) + np.array(made.places)
    labels = events.labels_of(record, starts, window_s)
    return [
        {
            "start_s": float(starts[i]),
            **{f"label_{task}": classes[i] for task, classes in labels.items()},
            "quality": float(1 - made.measures["flat"][i]),
            **{f"quality_{name}": float(value[i]) for name, value in made.measures.items()},
            "_anatomy": dict(record.anatomy),
        }
        for i in made.kept
    ]


def _parts(raw: Volume, params: VolumeIngest) -> Pieces:
    raw = volumes.filled(raw)
    samples, boxes = volumes.located(raw, **_how(params, "truncated"))
    measures = quality.of_volume(raw, samples)
    refused = {}
    for i, (sample, blank) in enumerate(zip(samples, measures["blank"], strict=True)):
        what = f"{KINDS[params.samples]} {i}"
        if sample.max() <= sample.min():
            refused[i] = ("blank", f"{what} is constant")
        elif params.max_blank is not None and blank > params.max_blank:
            refused[i] = ("mostly_blank", f"{blank:.0%} of {what} is blank; allowed {params.max_blank:.0%}")
    return Pieces(samples, boxes, measures, refused, raw, [])


def _volume_rows(made: Pieces, record: Record, params: VolumeIngest) -> list[dict[str, Any]]:
    """Return the table row of each kept sample, with what was measured of the body."""
    raw = made.raw
    assert isinstance(raw, Volume)
    names = dict(record.mask_labels)
    truncated = volumes.truncated_organs(raw, names)
    if params.truncated == "missing":
        names = {value: name for value, name in names.items() if not truncated.get(name)}
    whole = {**volumes.organ_volumes(raw, names), **volumes.organ_densities(raw, names), **record.anatomy}
    found = volumes.composition_of(raw, made.places) if params.samples == "patches" else volumes.composition(raw)
    if params.samples == "volume":
        keys = {k for row in found for k in row if k != "position"}
        found = [{k: float(np.mean([row[k] for row in found if k in row])) for k in keys}]
    shared = {**{f"{name}_truncated": flag for name, flag in truncated.items()}, **raw.notes}
    return [
        {
            "start_s": float("nan"),
            "quality": 1.0,
            **{f"quality_{name}": float(value[i]) for name, value in made.measures.items()},
            **{f"quality_{name}": float(value) for name, value in shared.items()},
            "_anatomy": {**found[i], **whole},
        }
        for i in made.kept
    ]
