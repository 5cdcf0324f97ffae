"""What a run left behind is read, whichever of its files there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl.report import stored
from tests.report.made_up import TRUST, crossfitted_run, value, write_run


def test_a_run_of_before(tmp_path: Path) -> None:
    found = stored.read(write_run(tmp_path, {"norm": {"probe": {"1": {"auroc": value(0.5)}}}}))
    assert (found.split, found.trust, found.subgroups, found.predictions) == ("fixed split", [], None, None)
    assert stored.on_fixed_split(found) is found


def test_cross_fitted_results_come_first(tmp_path: Path) -> None:
    found = stored.read(crossfitted_run(tmp_path))
    assert found.split == "cross-fitted"
    assert found.metrics["norm"]["probe"]["1"]["auroc"]["n_patients"] == 40
    fixed = stored.on_fixed_split(found)
    assert (fixed.split, fixed.metrics["norm"]["probe"]["1"]["auroc"]["n_patients"]) == ("fixed split", 9)
    assert [check["verdict"] for check in found.trust] == ["failed", "ok"]
    # Checks of the cross-fitting itself stand before those of the run.
    (tmp_path / "crossfit" / "trust.json").write_text(json.dumps(TRUST[:1]))
    assert len(stored.read(tmp_path).trust) == 1


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no metrics.json; expected an evaluated run"):
        stored.read(tmp_path)
    with pytest.raises(ValueError, match=r"verdict 'fine' of 'a'; allowed: failed, warning, unknown, ok"):
        stored.checks([{"check": "a", "verdict": "fine", "detail": ""}])
