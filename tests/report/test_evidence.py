"""The evidence document says what the runs stored, and what published figures it agrees with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medssl.report import evidence, published
from tests.report.made_up import FEW, crossfitted, crossfitted_run, differences, value, write_run

BEFORE = {"run": "other", "source": "luna16", "cohort": "ct-b", "patients": 400, "samples": 760}


def encoder(folder: Path, **provenance: Any) -> Path:
    """Write the part of an encoder's configuration that the document reads."""
    (folder / "encoder").mkdir(parents=True)
    said = {"source": "ppg_bp", "cohort": "ppg", "recipe": "simclr", "patients": 30, "samples": 90, **provenance}
    said["before"] = [BEFORE]
    (folder / "encoder" / "config.json").write_text(json.dumps({"provenance": said}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    foreign = write_run(tmp_path / "two", {"norm": {"probe": {"1": {"auroc": FEW, "p_value": 0.01}}}})
    return {"one": encoder(crossfitted_run(tmp_path / "one")), "two": foreign}


def test_the_document(runs: dict[str, Path]) -> None:
    text = evidence.render(runs, differences=differences())
    assert text == evidence.render(runs, differences=differences())
    assert text.index("## ppg_bp") < text.index("### one (simclr)") < text.index("## source not stored")
    for line in (
        "- cohort: ppg, cross-fitted",
        "- pretrained on 30 patients, 90 samples",
        "- started from run `other`, luna16 (ct-b), 400 patients, 760 samples",
        "- intervals cover patients and training",
        "- check *label in the features*: failed: norm: feature 3 <states> it",
        "- checks passed: 1 of 2",
        "**norm**, AUROC, n = 40 patients, folds: 5, trainings: 3, seeds: 2",
        "| protocol | 100 % of labels | 10 % of labels |",
        "| probe | 0.800 [0.700, 0.900] | 0.700 [0.600, 0.800] |",
        "| demographics | 0.600 [0.500, 0.700] |  |",
        "| stage_one | 0.650 [0.550, 0.750] |  |",
        "- probe +0.01 [-0.01, +0.03] against minirocket: within noise",
        "- probe +0.25 [+0.20, +0.30] against random_init: better",
        "- probe -0.10 against supervised: too few (n=4)",
        "**seen_age**, R², n = 40 patients, folds: 5, trainings: 3, seeds: 2, **seen in pretraining** (age_years)",
        "**quality**: left out: one class",
        "### two (foreign encoder)",
        "- checks: none stored",
        "**norm**, AUROC, n = 4 patients, seeds: 2, p = 0.01 against shuffled labels",
        "| probe | 0.900 too few (n=4) |",
        "No run evaluated a label with a published figure.",
    ):
        assert line in text.splitlines(), line
    assert "against minirocket" not in evidence.render(runs)


def test_published_figures_stand_beside_ours(tmp_path: Path) -> None:
    named = {
        "probe": {"1": {"auroc": value(0.75, n_patients=42)}},
        "demographics": {"1": {"auroc": value(0.6, n_patients=42)}},
    }
    folder = write_run(tmp_path / "bp", {"sbp_120": named})
    write_run(folder / "crossfit", {"sbp_120": {"probe": {"1": {"auroc": crossfitted(0.9) | {"n_patients": 219}}}}})
    encoder(folder, published_split="papagei")
    lines = evidence.render({"bp": folder}).splitlines()
    # Their fixed split beside ours, their cross-fitting beside ours.
    assert "| PaPaGei-S | 0.770 [0.680, 0.870] | bp, probe, AUROC | 0.750 [0.650, 0.850], n = 42 | agrees |" in lines
    assert "| demographics | 0.770 | bp, demographics, AUROC | 0.600 [0.500, 0.700], n = 42 | ours is lower |" in lines
    assert "| PaPaGei-S | 0.701 | bp, probe, AUROC | 0.900 [0.800, 1.000], n = 219 | ours is higher |" in lines
    assert "| demographics | 0.702 | bp, demographics, AUROC |  | not evaluated: demographics |" in lines
    assert "Comparable by split and cohort: 3 of 6 (agrees: 1, ours is higher: 1, ours is lower: 1)." in lines


@pytest.mark.parametrize(
    ("ours", "split", "named", "said"),
    [
        (value(0.90, n_patients=1900), "fixed split", "ptbxl", "agrees"),
        (value(0.90, n_patients=57), "fixed split", "ptbxl", "not comparable: n = 57, another cohort"),
        (value(0.90, n_patients=1900), "fixed split", "", "not comparable: ours is another fixed split"),
        (value(0.90, n_patients=1900), "cross-fitted", "", "not comparable: ours is cross-fitted"),
        ({**FEW, "n_patients": 1900}, "fixed split", "ptbxl", "cannot be told: n=4"),
    ],
)
def test_figures_are_compared_on_their_own_ground(ours: dict[str, Any], split: str, named: str, said: str) -> None:
    setting = published.PUBLISHED[0]
    of_task = {"probe": {"1": {"auroc": ours}}}
    verdict, shown = published.compared(setting, setting.figures[0], of_task, split, named)
    assert (verdict, shown) == (said, ours)
    few = next(f for f in setting.figures if f.fraction == 0.01)
    assert published.compared(setting, few, of_task, split, named) == ("not evaluated: probe at 1 % of labels", {})


def test_published_figures_are_as_written() -> None:
    figures = [(s, f) for s in published.PUBLISHED for f in s.figures]
    assert len(set(figures)) == len(figures)
    assert all(0 < f.value < 1 and s.written and s.words for s, f in figures)
    assert all(f.lo <= f.value <= f.hi for _, f in figures if f.lo is not None and f.hi is not None)


def test_the_command_line(runs: dict[str, Path], tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "medssl.report.evidence", *words]
        return subprocess.run(command, capture_output=True, text=True)

    out = tmp_path / "docs" / "evidence.md"
    done = run(str(runs["one"].parent), str(out))
    assert (done.returncode, done.stdout) == (0, f"{out}: 2 runs\n")
    assert out.read_text() == evidence.render(runs)
    differences().to_parquet(tmp_path / "differences.parquet")
    assert (
        run(str(runs["one"].parent), str(out), "--differences", str(tmp_path / "differences.parquet")).returncode == 0
    )
    assert out.read_text() == evidence.render(runs, differences=differences())
    differences().drop(columns="p").to_parquet(tmp_path / "differences.parquet")
    wrong = run(str(runs["one"].parent), str(out), "--differences", str(tmp_path / "differences.parquet"))
    assert (wrong.returncode, wrong.stderr.startswith("error: differences: no column p")) == (1, True)
    assert run(str(tmp_path / "nothing"), str(out)).returncode == 2
