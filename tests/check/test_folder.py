"""Cutting in advance: what a check says is refused is what ingest then refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl import cli, sources
from medssl.check import show
from medssl.check.folder import check, list_below
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest.build import build

PARAMS = SignalIngest(rate_hz=50, channels=("A", "B"), unit="mV", window_s=1, max_flat=0.4, max_clipped=0.3)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Six recordings of 6 s at 100 Hz: whole, with flat and clipped stretches, short, without a channel, broken."""
    draw = np.random.default_rng(0)
    rows = []
    for name in ("whole", "flat", "clipped", "short", "lead", "broken"):
        values = draw.standard_normal((2, 50 if name == "short" else 600))
        if name == "flat":
            values[0, 110:185] = 0.3  # three quarters of the second window
        if name == "clipped":
            values[1] = np.clip(values[1], -9, 9)
            values[1, 300:340] = 9.0  # two fifths of the fourth window, at the end of the range
        header = "A,C" if name == "lead" else "A,B"
        np.savetxt(tmp_path / f"{name}.csv", values.T, delimiter=",", header=header, comments="", fmt="%.5f")
        rows.append({"path": f"{name}.csv", "patient": name, "trial": "t", "rate_hz": 100, "unit": "mV"})
    (tmp_path / "broken.csv").write_bytes(b"A,B\n\xff\n")
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


@pytest.mark.parametrize(
    "limits",
    [{}, {"max_flat": 0.9, "max_clipped": None}, {"max_flat": 0.1, "max_clipped": 0.1}, {"max_out_of_range": 0.0}],
)
def test_it_says_what_ingest_refuses(raw: Path, limits: dict[str, float | None]) -> None:
    params = PARAMS.model_copy(update=limits)
    records = sources.list_records("manifest", raw)
    found = check(records, "manifest", params=params, modality="ecg", progress=False)
    made = build(records, raw / "store", key="ecg", params=params, secret=b"0123456789abcdef", progress=False)
    told = Counter(reject.reason for reject in found.rejects) + found.refused
    assert told == Counter(made.rejects["reason"])
    assert found.samples - sum(found.refused.values()) == len(made) > 0
    assert {len(values) for values in found.quality.values()} == {18}  # windows of the three that can be cut


@pytest.mark.parametrize("units", [("kg", "mV"), ("mV", "kg"), ("kg", "mV", "mV"), ("kg", "kg")])
@pytest.mark.parametrize("cut", [True, False])
def test_a_refused_record_is_no_trial_that_another_repeats(raw: Path, units: tuple[str, ...], cut: bool) -> None:
    pd.DataFrame(
        {"path": "whole.csv", "patient": "P", "trial": "t", "rate_hz": 100, "unit": units}
    ).to_csv(raw / "manifest.csv", index=False)  # fmt: skip
    records = sources.list_records("manifest", raw)
    params = PARAMS.model_copy(update={"max_reject_share": 1.0})
    found = check(records, "manifest", params=params if cut else None, modality="ecg", progress=False)
    told = [(reject.row, reject.reason) for reject in found.rejects]
    odd = [(i, "bad_unit") for i, unit in enumerate(units, start=1) if unit == "kg"]
    if units == ("kg", "kg"):
        assert told == (odd if cut else [(2, "repeated_trial")])
        return
    if cut:
        made = build(records, raw / "store", key="ecg", params=params, secret=b"0123456789abcdef", progress=False)
        assert Counter(reason for _, reason in told) == Counter(made.rejects["reason"])
    else:
        assert [row for _, row in found.odd_units] == [row for row, _ in odd]
    assert told == (odd if cut else []) + ([(3, "repeated_trial")] if len(units) == 3 else [])


def test_a_failure_of_a_library_ends_no_check(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("Doe Jane")

    monkeypatch.setattr("medssl.ingest.cut.of", fail)
    found = check(sources.list_records("manifest", raw), "manifest", params=PARAMS, modality="ecg", progress=False)
    assert {reject.detail for reject in found.rejects} >= {"preparing the recording raised ZeroDivisionError"}


def test_costs_of_limits_are_counted(raw: Path) -> None:
    found = check(sources.list_records("manifest", raw), "manifest", params=PARAMS, modality="ecg", progress=False)
    costs = next(s for s in show.sections(found) if s.title == "What a limit costs")
    table = {row[0]: dict(zip(costs.header[1:], row[1:], strict=True)) for row in costs.rows}
    assert table["max_flat"]["0.5"] == "5.56%"  # one of 18 windows
    assert table["max_flat"]["0.9"] == "0.00%"
    assert "Refused samples" in show.page(found)


def test_the_command_cuts_as_a_cohort(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.recordings, "_ingest_of", lambda args: PARAMS)
    assert cli.main(["check", str(raw), "--modality", "ecg"]) == 1
    said = capsys.readouterr().out
    assert "Refused samples: of 18 that the usable records are cut into" in said
    assert "missing_channel" in said
    assert "too_short" in said


def test_costs_of_blank_patches_and_headers_beside(tmp_path: Path) -> None:
    x = np.zeros((4, 16, 16), np.float32)
    x[:, :6] = np.random.default_rng(0).uniform(50, 100, (4, 6, 16))
    header = "ObjectType = Image\nNDims = 3\nDimSize = 16 16 4\nElementSpacing = 1 1 1\nPatientName = Doe^Jane\n"
    for name in ("image", "mask"):
        (tmp_path / f"{name}.mhd").write_text(f"{header}ElementType = MET_FLOAT\nElementDataFile = {name}.raw\n")
        (tmp_path / f"{name}.raw").write_bytes(x.tobytes() if name == "image" else (x > 0).astype("<f4").tobytes())
    listed, other = list_below(tmp_path)
    assert (len(listed), other) == (2, {})
    (tmp_path / "manifest.csv").write_text("path,patient,trial,mask\nimage.mhd,p,t,mask.mhd\n")
    records = sources.list_records("manifest", tmp_path)
    params = VolumeIngest(samples="patches", size=(4, 4, 4), unit="1", max_blank=0.4)
    found = check(records, "manifest", params=params, modality="mri", progress=False)
    assert found.refused == {"blank": 8, "mostly_blank": 4}
    assert found.quality["blank"] == [0.0] * 4 + [0.5] * 4
    assert (found.looked, found.carrying) == (2, 2)
    costs = next(s for s in show.sections(found) if s.title == "What a limit costs")
    assert costs.rows[0][:3] == ("max_blank", "50.00%", "50.00%")


def test_recordings_that_the_table_leaves_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.csv", "b.csv", "sub/c.csv", "mask_labels.csv", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("value,name\n1,x\n" if "mask" in name else "I\n" + "0.5\n0.25\n" * 200)
    (tmp_path / "manifest.csv").write_text("path,patient,trial,rate_hz,unit\na.csv,P1,1,100,mV\n")
    assert cli.main(["check", str(tmp_path)]) == 0
    assert "note: 2 recordings that can be read lie in the folder and are not in the table" in capsys.readouterr().out
    (tmp_path / "manifest.csv").write_text(
        "path,patient,trial,rate_hz,unit\n" + "".join(f"{n}.csv,P{n[-1]},1,100,mV\n" for n in ("a", "b", "sub/c"))
    )
    assert cli.main(["check", str(tmp_path)]) == 0
    assert "not in the table" not in capsys.readouterr().out
