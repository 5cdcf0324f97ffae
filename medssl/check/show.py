"""What a raw folder holds, as lines for a terminal and as one self-contained page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.check.folder import UNITS, Balance, Findings, Reject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What readers note of volumes, in words.
NOTED = {
    "missing": "voxels without a value, which become background",
    "header_conflict": "a header that contradicts itself (sform, qform, voxel sizes); the sform decides",
    "tilt_conflict": "a gantry tilt in words that places do not show; the places decide",
    "left_out": "reports or other objects beside the slices, which were left out",
    "narrowed": "16 bits a colour, of which 8 are read",
    "mask_resampled": "a mask on another grid than its volume, which was brought to it",
    "mask_outside": "a mask that reaches beyond its volume; organs are measured inside alone",
    "mask_unnamed": "a mask with values that have no name (mask_labels.csv); they are not measured",
    "mask_absent": "a mask without any voxel of an organ that is named (not there, or numbered otherwise)",
    "colour": "colours, which became grey by their luminance",
    "transparent": "transparent pixels, which count as what lies under them",
    "padding": "padding outside the field of view, which became background",
    "tilt_deg": "a tilted gantry; slices were shifted to a rectangular grid",
    "inverted": "inverted greys, which were turned",
}
NUMBER = re.compile(r"\d+([.,]\d+)*")
COLOUR = "#0b6e99"
ROWS = 40  # of one table, shown at most
ENTRIES = {"lines": 12, "page": 500}  # of one reason, listed at most


@dataclass(frozen=True)
class Section:
    """One table: its columns, its rows and, where the rows have shares, those (0 to 1) for bars."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    shares: tuple[float, ...] = ()
    note: str = ""


def sections(found: Findings, medium: str = "page") -> list[Section]:
    """Return the tables that have rows, for the ``page`` or for ``lines`` of a terminal."""
    spacings = {" x ".join("?" if np.isnan(s) else f"{s:.3g}" for s in key): n for key, n in found.spacings.items()}
    everything = [
        Section(
            "Formats",
            ("format", "records", "usable"),
            [(name, str(n), str(found.usable[name])) for name, n in found.formats.most_common()],
        ),
        _counted("Sampling rate", "Hz", {f"{r:g}": n for r, n in found.rates_hz.items()}),
        _counted("Unit", "unit", found.units),
        _durations(found.durations_s),
        _channels(found),
        _counted("Voxels", "slices x rows x columns", {" x ".join(map(str, s)): n for s, n in found.shapes.items()}),
        _counted("Spacing", "mm between slices x rows x columns", spacings),
        Section(
            "Seen in images",
            ("what", "records"),
            [(NOTED.get(n, n), str(k)) for n, k in found.noted.most_common() if k],
        ),
        *(_label(balance, found) for balance in found.labels),
        *([_rejects(found, ENTRIES[medium])] if medium == "page" or found.patients is None else []),
        _refused(found),
        _costs(found),
        Section(
            "Identifying fields in headers",
            ("format", "field", "files"),
            [(*where, str(n)) for where, n in sorted(found.carriers.items())],
        ),
        _counted("Files without a reader", "suffix", found.other, unit="files"),
    ]
    return [section for section in everything if section.rows]


def summary(found: Findings) -> list[tuple[str, str]]:
    """Return the headline numbers with what they count."""
    repeated = sum(r.reason == "repeated_trial" for r in found.rejects)
    return [
        (str(found.records), "records"),
        *([(str(found.patients), "patients")] if found.patients is not None else []),
        *([(str(found.samples - found.refused.total()), "samples")] if found.samples else []),
        (str(found.usable.total()), "usable"),
        (str(len(found.rejects)), "rejected"),
        (str(repeated), "repeated trials"),
    ]


def notes(found: Findings) -> list[str]:
    """Return what to know about units and about identifiers in the raw files; the folder may be right all the same."""
    out = []
    if found.odd_units:
        out.append(
            f"records in a unit that is none of {', '.join(u for u in UNITS if u.isascii())}, which ingest refuses "
            f"unless the cohort has the same; else correct the column unit: {_places(found.odd_units)}"
        )
    if found.carrying:
        kinds: Counter[str] = Counter()
        for (_, kind), n in found.carriers.items():
            kinds[kind] += n
        listed = ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
        out.append(
            f"{found.carrying} of {found.looked} files carry header fields that may identify a person ({listed}); "
            "ingest never copies them"
        )
    elif found.looked:
        out.append(f"none of {found.looked} headers carries a known field that may identify a person")
    if found.unread:
        out.append(f"{found.unread} more headers cannot be read")
    if found.unseen:
        listed = ", ".join(f"{name} ({n})" for name, n in found.unseen.most_common())
        out.append(f"not looked at for identifying fields: {listed}")
    return out


def problems(found: Findings) -> list[str]:
    """Return what is wrong, each kind a line: cells of the table, and records by reason with their entries and rows."""
    out = list(found.slips)
    if not found.records:
        out.append("no recording is listed; write one line for each below the names of the columns")
    for rejects in _kinds(found.rejects):
        others = len({r.detail for r in rejects}) - 1
        detail = rejects[0].detail + (", others with other numbers" if others else "")
        places = _places([(r.entry, r.row) for r in rejects])
        out.append(f"{rejects[0].reason}: {detail}: {len(rejects)} record{'s'[: len(rejects) > 1]}, {places}")
    return out


def _kinds(rejects: Sequence[Reject]) -> list[list[Reject]]:
    """Return rejects by reason and detail, in which numbers (lengths, rates) may differ."""
    groups: dict[tuple[str, str], list[Reject]] = {}
    for reject in rejects:
        groups.setdefault((reject.reason, NUMBER.sub("0", reject.detail)), []).append(reject)
    return list(groups.values())


def _places(places: Sequence[tuple[int, int | None]]) -> str:
    """Return entries, and rows where there is a table."""
    rows = [row for _, row in places if row is not None]
    of_table = f" ({_listed('row', 'rows', rows)} of the table)" if rows else ""
    return _listed("entry", "entries", [entry for entry, _ in places]) + of_table


def _listed(one: str, several: str, numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[: ENTRIES["lines"]]))
    more = len(numbers) - ENTRIES["lines"]
    return f"{one if len(numbers) == 1 else several} {shown}" + (f" and {more} more" if more > 0 else "")


def lines(found: Findings) -> list[str]:
    """Return the findings as text of aligned columns."""
    out = [", ".join(f"{n} {what}" for n, what in summary(found))]
    for section in sections(found, "lines"):
        table = [section.header, *section.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(section.header))]
        # Numbers to the right; the last column of words may be long and is left as it is.
        right = [all(row[i].replace(".", "").isdigit() for row in section.rows) for i in range(len(widths))]
        out += ["", f"{section.title}{': ' + section.note if section.note else ''}"]
        for row in table:
            cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
            out.append("  " + "  ".join(cells).rstrip())
    return [*out, "", *(f"note: {note}" for note in (*found.remarks, *notes(found)))]


def page(found: Findings) -> str:
    """Return the page; it names no file, patient or folder."""
    from medssl.report.page import drawn, fill

    return fill(
        "medssl.check",
        "page.html.j2",
        source=found.source,
        known=found.patients is not None,
        cut=found.samples > 0,
        summary=summary(found),
        reasons=Counter(r.reason for r in found.rejects).most_common(),
        sections=sections(found),
        remarks=[*found.slips, *found.remarks],
        notes=notes(found),
        durations=drawn(_histogram(found.durations_s)) if found.durations_s else None,
    )


def _counted(title: str, what: str, counts: Any, unit: str = "records") -> Section:
    """Tabulate records, or files, by value, the most frequent first."""
    ranked = Counter(counts).most_common()
    rows = [(str(value), str(n)) for value, n in ranked[:ROWS]]
    more = len(ranked) - len(rows)
    return Section(title, (what, unit), rows, note=f"{more} rarer values are left out" if more else "")


def _durations(durations_s: Sequence[float]) -> Section:
    header = ("shortest (s)", "median (s)", "longest (s)", "together (h)")
    if not durations_s:
        return Section("Duration", header, [])
    values = (min(durations_s), float(np.median(durations_s)), max(durations_s), sum(durations_s) / 3600)
    return Section("Duration", header, [tuple(f"{v:.2f}" for v in values)])


def _channels(found: Findings) -> Section:
    """Tabulate channels; those that all recordings have come first and are what ingest can ask for."""
    ranked = sorted(found.channels.items(), key=lambda item: -item[1])  # stable: otherwise as in the files
    rows = [(name, str(n)) for name, n in ranked[:ROWS]]
    note = f"common to all {found.signals}: {', '.join(found.common[:ROWS]) or 'none'}"
    more = len(ranked) - len(rows)
    note += f"; {more} rarer channels are left out below" if more else ""
    return Section("Channels", ("channel", "records"), rows, tuple(int(n) / found.signals for _, n in rows), note)


def _label(balance: Balance, found: Findings) -> Section:
    title = f"Label {balance.task}"
    of = f"{found.samples} samples" if balance.unit == "samples" else f"{sum(found.usable.values())} usable records"
    note = f"{balance.labelled} of {of} have it"
    note += f"; {balance.kind}: {balance.why}" if balance.why else ""
    if balance.quantiles:
        points = tuple(point for point, _ in balance.quantiles)
        return Section(title, points, [tuple(f"{value:.4g}" for _, value in balance.quantiles)], note=note)
    if balance.kind == "multilabel":
        note += "; of a record with several classes each counts"
    rows = [(name, str(n), f"{n / balance.labelled:.1%}") for name, n in balance.counts] or [("none", "0", "")]
    shares = tuple(n / balance.labelled for _, n in balance.counts)
    return Section(title, ("class", balance.unit, "share"), rows, shares, note)


def _rejects(found: Findings, most: int) -> Section:
    rows = []
    for reason, n in Counter(r.reason for r in found.rejects).most_common():
        rejects = [r for r in found.rejects if r.reason == reason]
        kinds = sorted(_kinds(rejects), key=len, reverse=True)
        listed = ", ".join(str(r.entry) for r in rejects[:most]) + (f", and {n - most} more" if n > most else "")
        share = f" ({len(kinds[0])} of {n})" if len(kinds) > 1 else ""
        rows.append((reason, str(n), kinds[0][0].detail + share, listed))
    note = "entries count from 1 in the source's sorted list"
    return Section("Rejected", ("reason", "records", "why", "entries"), rows, note=note)


def _refused(found: Findings) -> Section:
    ranked = [(why, n) for why, n in found.refused.most_common() if n]
    rows = [(why, str(n), f"{n / found.samples:.2%}") for why, n in ranked]
    note = f"of {found.samples} that the usable records are cut into"
    shares = tuple(n / found.samples for _, n in ranked)
    return Section("Refused samples", ("reason", "samples", "share"), rows, shares, note)


def _costs(found: Findings) -> Section:
    """Say what each limit on quality would cost."""
    if not found.quality:
        return Section("What a limit costs", (), [])
    from medssl.ingest import costs, cut

    measures = {name: np.array(found.quality[name]) for name in (*cut.LIMITED, "blank") if name in found.quality}
    shares = {cost.limit: cost.shares.values() for cost in costs.of_measures(measures)}
    rows = [(limit, *(f"{share:.2%}" for share in at if share is not None)) for limit, at in shares.items()]
    header = ("limit", *(f"{at:g}" for at in costs.AT))
    return Section("What a limit costs", header, rows, note="share of samples that would be refused at each value")


def _histogram(durations_s: Sequence[float]) -> Figure:
    """Draw durations, on a logarithmic axis where they span more than two powers of ten."""
    from matplotlib.figure import Figure

    values = np.asarray(durations_s)
    figure = Figure(figsize=(6, 2.8), layout="constrained")
    axis = figure.subplots()
    low, high = float(values.min()), float(values.max())
    wide = high > 100 * low > 0
    edges = np.geomspace(low, high, 41) if wide else np.linspace(low, high, 41)
    axis.hist(values, bins=edges.tolist() if high > low else 10, color=COLOUR, edgecolor="white", lw=0.4)
    axis.set(xlabel="duration (s)", ylabel="recordings", xscale="log" if wide else "linear")
    return figure
