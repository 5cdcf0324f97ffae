"""Labels in time: what happened when in a recording, from the annotations of an EDF+ file or a BIDS table of events.

Texts of such files may identify people. They are only looked up among the words that a source knows, and what is not
there is left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.sources.annotations import Annotation, read_edf
from medssl.sources.claims import require_file
from medssl.sources.labels import number
from medssl.sources.published.tables import tab_rows
from medssl.sources.record import BadRecord, Record, SourceError

MAX_TABLE_BYTES = 100_000_000
AT_LEAST = 0.5  # of a window that a class must cover


def labels_of(record: Record, starts_s: np.ndarray, window_s: float) -> dict[str, list[str | None]]:
    """Return the class of each window by task: the one that covers most of it, at least half, else None.

    ``starts_s`` (N,) are those of the windows, ascending, on the clock of the events. A record without ``events`` or
    ``event_labels`` has no tasks; one whose events cannot be read is refused (``bad_events``).
    """
    tasks = sorted({task for task, _ in record.event_labels.values()})
    if record.events is None or not tasks:
        return {}
    try:
        found = read(record.events)
    except BadRecord as bad:
        raise BadRecord("bad_events", f"the file of events: {bad.detail}") from None
    out: dict[str, list[str | None]] = {}
    for task in tasks:
        classes = sorted({name for of, name in record.event_labels.values() if of == task})
        covered, done_s = np.zeros((len(classes), len(starts_s))), dict.fromkeys(classes, -np.inf)
        for event in found:  # by onset
            of, name = record.event_labels.get(event.text.strip(), ("", ""))
            if of == task:
                # Where two events of a class overlap (a row for each channel or reader), the time counts once.
                onset, end = max(event.onset_s, done_s[name]), event.onset_s + event.duration_s
                if end <= onset:
                    continue
                done_s[name] = end
                here = slice(*np.searchsorted(starts_s, (onset - window_s, end)))
                shared = np.minimum(starts_s[here] + window_s, end) - np.maximum(starts_s[here], onset)
                covered[classes.index(name), here] += np.maximum(shared, 0)
        enough = covered.max(axis=0, initial=0) >= AT_LEAST * window_s - 1e-9
        out[task] = [classes[best] if good else None for best, good in zip(covered.argmax(axis=0), enough, strict=True)]
    return out


def read(path: Path) -> list[Annotation]:
    """Return the events of an EDF+ or BDF+ file, or of a table ``*.tsv`` (``onset``, ``duration``, ``trial_type``).

    Raises:
        BadRecord: ``missing_file``, ``no_samples``, ``unsupported`` or ``unreadable``.
    """
    suffix = path.suffix.lower()
    if suffix in (".edf", ".bdf"):
        return read_edf(path)
    if suffix != ".tsv":
        raise BadRecord("unsupported", "events are read from .edf, .bdf and .tsv")
    if require_file(path) > MAX_TABLE_BYTES:
        raise BadRecord("unreadable", "the table of events is longer than 100 MB")
    try:
        rows = tab_rows(path)
    except SourceError:  # its message names the file
        raise BadRecord("unreadable", "the table of events is not tab-separated text") from None
    if rows and not {"onset", "duration", "trial_type"} <= rows[0].keys():
        raise BadRecord("unreadable", "the table of events lacks onset, duration or trial_type")
    events = []
    for row in rows:
        onset, duration = number(row["onset"] or ""), number(row["duration"] or "")
        if onset is not None:  # BIDS writes n/a for a duration that nobody knows
            events.append(Annotation(onset, max(0.0, duration or 0.0), (row["trial_type"] or "").strip()))
    return sorted(events, key=lambda event: event.onset_s)
