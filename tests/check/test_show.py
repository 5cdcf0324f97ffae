"""What a check finds as text and as a page: numbers counted by hand, one file, nothing unescaped."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from medssl.check import folder, show
from medssl.check.folder import Balance, Findings, Reject


def found(**more: object) -> Findings:
    return Findings(
        "manifest",
        records=20, patients=4,
        formats=Counter({"edf": 12, "nifti": 8}), usable=Counter({"edf": 9, "nifti": 8}),
        rates_hz=Counter({256.0: 8, 512.5: 1}), units=Counter({"uV": 9, "1": 8}),
        shapes=Counter({(10, 20, 30): 8}), spacings=Counter({(float("nan"), 0.5, 0.5): 8}),
        signals=9, volumes=8, channels=Counter({"<Cz>": 9, "Pz": 4}), durations_s=[1.0, 2.0, *[600.0] * 7],
        labels=[Balance("<task>", "class", 16, (("<b>yes</b>", 12), ("no", 4))),
                Balance("age", "number", 17, quantiles=(("5 %", 20.0), ("median", 51.25)))],
        rejects=[Reject(i, i + 1, "no_rate", "no rate") for i in (3, 4, 19)],
        carriers=Counter({("edf", "birth date"): 3, ("nifti", "description"): 8}), carrying=10, looked=19, unread=1,
        **more,
    )  # fmt: skip


def test_lines_are_aligned_columns() -> None:
    lines = show.lines(found())
    assert lines[0] == "20 records, 4 patients, 17 usable, 3 rejected, 0 repeated trials"
    at = lines.index("Channels: common to all 9: <Cz>")
    assert lines[at + 1 : at + 4] == ["  channel  records", "  <Cz>           9", "  Pz             4"]
    assert "  ? x 0.5 x 0.5                             8" in lines
    assert "          1.00      600.00       600.00          1.17" in lines
    assert "  <b>yes</b>       12  75.0%" in lines
    assert lines[-2:] == [
        "note: 10 of 19 files carry header fields that may identify a person (description 8, birth date 3); "
        "ingest never copies them",
        "note: 1 more headers cannot be read",
    ]


def test_many_entries_are_cut_in_the_terminal_and_listed_on_the_page() -> None:
    many = found()
    many.rejects[:] = [Reject(i, None, "unreadable", f"way {'abc'[i % 3]}") for i in range(1, 31)]
    assert show.problems(many)[1:] == [
        "unreadable: way c: 10 records, entries 2, 5, 8, 11, 14, 17, 20, 23, 26, 29",
        "unreadable: way a: 10 records, entries 3, 6, 9, 12, 15, 18, 21, 24, 27, 30",
    ]
    many.patients = None  # without a table they are no problems, and a table of the terminal tells them
    (line,) = [line for line in show.lines(many) if line.startswith("  unreadable")]
    assert line.endswith("way b (10 of 30)  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, and 18 more")
    assert "28, 29, 30</td>" in show.page(many)


def test_problems_are_one_line_a_kind_with_rows_of_the_table() -> None:
    some = found()
    some.slips = ["label bmi: row 4"]
    assert show.problems(some) == [
        "label bmi: row 4",
        "no_rate: no rate: 3 records, entries 3, 4, 19 (rows 4, 5, 20 of the table)",
    ]
    some.rejects[:] = [Reject(i, i, "x", "y") for i in range(1, 21)]
    listed = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 8 more"
    assert show.problems(some)[1].endswith(f": 20 records, entries {listed} (rows {listed} of the table)")


def test_details_that_differ_in_numbers_are_one_kind() -> None:
    some = found()
    some.rejects[:] = [Reject(i, i + 1, "too_short", f"{i * 10} samples are {i / 10:.1f} s") for i in range(1, 26)]
    some.rejects.append(Reject(26, 27, "too_short", "the part lies outside"))
    listed = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 13 more"
    assert show.problems(some) == [
        f"too_short: 10 samples are 0.1 s, others with other numbers: 25 records, entries {listed} (rows "
        "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 and 13 more of the table)",
        "too_short: the part lies outside: 1 record, entry 26 (row 27 of the table)",
    ]
    assert "10 samples are 0.1 s (25 of 26)" in show.page(some)


def test_nothing_listed_and_units_that_nothing_converts_are_told() -> None:
    (problem,) = show.problems(Findings("bids"))
    assert problem.startswith("no recording is listed; write one line for each")
    odd = found()
    odd.odd_units = [(3, 7), (4, 9)]
    assert show.notes(odd)[0] == (
        "records in a unit that is none of nV, uV, mV, V, 1, HU, which ingest refuses unless the cohort has the same; "
        "else correct the column unit: entries 3, 4 (rows 7, 9 of the table)"
    )


def test_the_page_is_one_file() -> None:
    page = show.page(found())
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?://|<script|@import", page)
    assert "<b>" not in page and "&lt;b&gt;yes&lt;/b&gt;" in page and "&lt;Cz&gt;" in page
    assert page.count("data:image/png;base64,") == 1
    assert "What to look at" not in page
    odd = found()
    odd.slips, odd.remarks = ["<bmi>: row 4"], ["2 patients may be written in several forms"]
    page = show.page(odd)
    assert (
        page.index("What to look at in the table") < page.index("&lt;bmi&gt;: row 4.") < page.index("Recordings</h2>")
    )
    assert "several forms" in page and "note: 2 patients may be" in "\n".join(show.lines(odd))
    assert [float(w) for w in re.findall(r"width: ([\d.]+)%\"></div>", page)] == [100.0, 44.4, 75.0, 25.0]
    assert "<td>51.25</td>" in page
    assert "10 of 19 files carry" in page


def test_findings_of_nothing() -> None:
    nothing = Findings("manifest")
    assert show.lines(nothing)[0] == "0 records, 0 usable, 0 rejected, 0 repeated trials"
    page = show.page(nothing)
    assert "data:image" not in page and "No header was looked at" in page and "depend on the parameters" in page


@pytest.mark.parametrize("durations_s", [[5.0], [5.0, 5.0], [0.01, 3600.0], [1.0, 2.0]])
def test_any_durations_can_be_drawn(durations_s: list[float]) -> None:
    assert "data:image/png" in show.page(found_with(durations_s))


def found_with(durations_s: list[float]) -> Findings:
    made = found()
    made.durations_s = durations_s
    return made


def test_balance_of_classes_numbers_and_remarks() -> None:
    def of(*values: object) -> Balance:
        return folder.balance("task", list(values))

    assert of("a", "b", "b").counts == (("b", 2), ("a", 1))
    assert of(1.0, 0.0, 1.0).counts == (("1", 2), ("0", 1))
    assert of(("x", "y"), ("x",), ()).counts == (("x", 2), ("none", 1), ("y", 1))
    ages = of(*np.linspace(20, 80, 61))
    assert ages.counts == () and dict(ages.quantiles) == pytest.approx(
        {"5 %": 23, "25 %": 35, "median": 50, "75 %": 65, "95 %": 77}
    )
    remarks = of(*(f"remark {i}" for i in range(30)), "af", "af")
    assert remarks.counts == (("af", 2), ("30 others", 30))  # none of a kind of its own is told
    assert of().counts == () and of().labelled == 0


def test_a_label_that_no_usable_record_has() -> None:
    made = found()
    made.labels[:] = [folder.balance("rare", [])]
    assert "Label rare: 0 of 17 usable records have it" in show.lines(made)
    assert "rare" in show.page(made)


def test_long_tables_say_what_they_leave_out() -> None:
    made = found()
    made.channels = Counter({f"c{i}": 1 for i in range(60)})
    lines = show.lines(made)
    assert "Channels: common to all 9: none; 20 rarer channels are left out below" in lines
    made.rates_hz = Counter({float(i): 1 for i in range(1, 100)})
    assert "Sampling rate: 59 rarer values are left out" in show.lines(made)
