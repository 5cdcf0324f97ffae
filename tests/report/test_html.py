"""The page: what it says first, what it says of trust, and what it leaves out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from medssl.report import html
from tests.report.made_up import FLOW, crossfitted_run, differences, value, write_run

METRICS = {"disease": {"probe": {"1": {"auroc": value(0.8)}, "0.1": {"auroc": value(0.7)}}}}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of a cross-fitted run and one of before."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {"one": crossfitted_run(folder / "one"), "two": write_run(folder / "two", METRICS)}
    recipes = {"one": "simclr", "two": "comet"}
    made, _ = html.render([FLOW], {}, runs, recipes, {"one": ["age_years"], "two": []}, differences=differences())
    return made


def test_the_first_screen_says_what_was_reached(page: str) -> None:
    first = page[page.index('<ul class="results">') : page.index("Can I trust this?")]
    assert (
        "<li>one, norm: AUROC 0.80 [0.70, 0.90], n = 40 patients, cross-fitted, 5 folds, 3 trainings; "
        "+0.01 [-0.01, +0.03] against minirocket: within noise</li>"
    ) in first
    assert "<li>two, disease: AUROC 0.80 [0.70, 0.90], n = 9 patients, fixed split, 2 seeds</li>" in first


def test_every_check_has_its_verdict_as_a_word_and_its_detail(page: str) -> None:
    box = page[page.index("Can I trust this?") : page.index("Comparison of runs")]
    failed = '<td><span class="verdict failed">failed</span></td><td>label in the features</td>'
    assert failed + "<td>norm: feature 3 &lt;states&gt; it</td>" in box
    assert '<td><span class="verdict ok">ok</span></td><td>no patient in two parts</td>' in box
    # What failed is open, what passed is folded.
    assert box.index("feature 3") < box.index("<details>") < box.index("no patient in two parts")
    assert '<span class="verdict unknown">unknown</span> nothing was checked' in box


def test_the_table_groups_protocols_and_marks_what_was_seen(page: str) -> None:
    table = page[page.index("Comparison of runs") : page.index("Differences on the same patients")]
    groups = re.findall(r'<th class="group" colspan="(\d)">(\w+)</th>', table)
    assert groups == [("1", "encoder"), ("2", "baselines"), ("1", "controls")]
    assert '<td class="strongest">0.75<small>[0.65, 0.85]</small></td>' in table
    row = table[table.index("<td>seen_age<small>R²") :]
    assert ">seen</span>" in row[: row.index("</tr>")]
    assert table.count(">seen</span>") == 2  # the label and the legend
    assert "<li>one, quality: one class</li>" in table


def test_differences_are_drawn_and_listed(page: str) -> None:
    assert 'alt="paired differences to baselines and controls"' in page
    assert 'alt="paired differences between runs"' in page
    cells = ("one, probe", "norm", "two", "AUROC", "-0.200 [-0.300, -0.100]", "0.01", "40", "worse")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    cells = ("one, probe", "norm", "supervised", "AUROC", "-0.100", "", "40", "too few (n=4)")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in page


def test_details_of_a_run(page: str) -> None:
    one, two = page[page.index("<h2>Runs") :].split('<details class="run">')[1:]
    drawn = ("label efficiency of", "probes of the inner stages of", "calibration of", "net benefit of decisions by")
    for what in (*drawn, "confusion of", "predicted and true numbers of"):
        assert f'alt="{what} one"' in one
    assert "Pretraining read age_years of all training patients" in one
    assert "<td>norm</td><td>calibration error (ECE)</td><td>0.200 [0.100, 0.300]</td><td></td>" in one
    assert "<td>norm</td><td>sex</td><td>male</td><td>AUROC</td><td>too few</td><td>not shown</td>" in one
    assert "hidden" not in one
    assert "On the fixed split" in one
    # A run of before has metrics alone.
    assert re.findall('alt="([^"]*)"', two) == ["label efficiency of two"]
    assert "Subgroups" not in two
    assert "On the fixed split" not in two


def test_the_page_needs_nothing_else(page: str) -> None:
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "url(" not in page
    assert "<script" not in page


def test_without_checks_and_differences_there_is_no_box(tmp_path: Path) -> None:
    page, table = html.render([], {}, {"two": write_run(tmp_path, METRICS)}, {"two": "comet"}, {"two": []})
    assert "Can I trust this?" not in page
    assert "Differences on the same patients" not in page
    assert len(table) == 2


def test_training_curves_are_shown_where_there_are_any(tmp_path: Path) -> None:
    (write_run(tmp_path, METRICS) / "curves.png").write_bytes(b"")
    page, _ = html.render([], {}, {"two": tmp_path}, {"two": "comet"}, {"two": []})
    assert 'alt="training curves of two"' in page


def test_too_few_and_left_out_and_crossing(tmp_path: Path) -> None:
    few = {"mean": -2.6, "lo": None, "hi": None, "n_patients": 4, "seeds": 2, "too_few": "n=4"}
    metrics = {
        "age": {"probe": {"1": {"r2": few}}, "knn": {"1": {"r2": {**few, "mean": None}}}},
        "sex": {"left_out": "<why>"},
    }
    flow = {**FLOW, "cohort": "ct", "leaks": 2, "crossing_patients": 2}
    runs = {"one": write_run(tmp_path, metrics)}
    page, table = html.render([flow], {}, runs, {"one": "comet"}, {"one": []})
    assert "<td>4<small>fixed split</small></td><td>-2.60 too few (n=4)</td><td>too few (n=4)</td>" in page
    assert "<li>one, sex: &lt;why&gt;</li>" in page
    assert "ct: WARNING: 2 patients are in more than one part" in page
    assert table["label"].tolist() == ["age", "age"]
    clean, _ = html.render([{**flow, "crossing_patients": 0}], {}, runs, {"one": "comet"}, {"one": []})
    assert "WARNING" not in clean
    write_run(tmp_path, {"sex": {"left_out": "why"}})
    page, table = html.render([], {}, runs, {"one": "comet"}, {"one": []})
    assert "one, sex: why" in page
    assert not len(table)


@pytest.mark.parametrize("known", [True, False])
def test_page_tells_what_limits_cost(tmp_path: Path, known: bool) -> None:
    costs = [{"limit": "max_flat", "value": 0.5, "refused": 3, "shares": {"0.1": 0.25, "0.9": None}}]
    flow: dict[str, Any] = {**FLOW, "rejects": {"flat": 3}, "costs": costs if known else []}
    runs = {"one": write_run(tmp_path, METRICS)}
    page, _ = html.render([flow, {**flow, "costs": []}], {}, runs, {"one": "comet"}, {"one": []})
    assert ("What limits on quality cost" in page) == known
    if known:
        assert "<th>at 0.1</th><th>at 0.9</th>" in page
        assert "<td>max_flat</td>\n<td>0.5</td><td>3</td>\n<td>25.0 %</td><td>–</td>" in page


def test_without_labels_the_page_says_how_to_get_results_and_where_the_encoder_is(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one", {})
    (folder / "encoder").mkdir()
    (folder / "encoder" / "config.json").write_text("{}")
    page, _ = html.render([FLOW], {}, {"one": folder}, {"one": "simclr"}, {"one": []})
    assert "No label was tested: columns label_&lt;task&gt; of the manifest become results" in page
    assert "medssl embed --encoder data/runs/one/encoder" in page
    assert "label efficiency of one" not in page and "What the columns are" not in page
