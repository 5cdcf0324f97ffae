"""Embeddings of files: a row for each window or the reason why there is none, in the order of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import medssl
from medssl.config import SignalIngest
from medssl.hub import Encoder, recordings
from tests.test_hub import save, wave

ROWS = {"short": 20, "whole": 250, "flat": 200}  # values of each recording, at 100 Hz
HEADER = "path,patient,trial,rate_hz,unit\n"


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    params = SignalIngest(rate_hz=100, channels=("A", "B"), unit="mV", window_s=1, max_flat=0.5)
    return medssl.load_encoder(save(tmp_path / "encoder", "dilated1d", params, [4, 8], 2))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name, steps in ROWS.items():
        values = wave(1, steps, 100)[0]
        if name == "flat":
            values[:, 100:] = 0.5  # the second window
        np.savetxt(tmp_path / f"{name}.csv", values.T, delimiter=",", header="A,B", comments="")
    lines = [f"{name}.csv,{name},t,100,mV\n" for name in (*ROWS, "absent")]
    (tmp_path / "table.csv").write_text(HEADER + "".join(lines))
    return tmp_path / "table.csv"


def test_each_window_of_a_table_has_an_embedding_or_a_reason(encoder: Encoder, table: Path) -> None:
    found = recordings.embed(encoder, table)
    assert list(zip(found["row"], found["sample"], strict=True)) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0)]
    reasons = found["reason"].str.partition(":")[0]
    assert reasons.tolist() == ["too_short", "", "", "", "flat", "missing_file"]
    assert (found["embedding"].notna() == (reasons == "")).all()
    for row, name in ((2, "whole"), (3, "flat")):
        values = np.loadtxt(table.parent / f"{name}.csv", delimiter=",", skiprows=1).T
        for _, sample in found[(found["row"] == row) & (reasons == "")].iterrows():
            window = values[:, 100 * sample["sample"] :][:, :100]
            alone = encoder.embed(window, rate_hz=100, channels=["A", "B"])[0]
            np.testing.assert_allclose(sample["embedding"], alone, atol=1e-6)


def test_one_file_is_row_one(encoder: Encoder, tmp_path: Path) -> None:
    values = wave(1, 300, 100)[0].astype(np.float32)
    header = "t 2 100 300\nt.dat 16 200(0)/mV 16 0 0 0 0 A\nt.dat 16 200(0)/mV 16 0 0 0 0 B\n"
    (tmp_path / "t.hea").write_text(header)
    (tmp_path / "t.dat").write_bytes(np.round(200 * values.T).astype("<i2").tobytes())
    found = recordings.embed(encoder, tmp_path / "t.hea")
    assert found["row"].tolist() == [1, 1, 1] and found["sample"].tolist() == [0, 1, 2]
    assert all(len(z) == 8 for z in found["embedding"])


def test_other_paths_are_refused_with_the_fix(encoder: Encoder, table: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder; expected a store, a table of files or one recording"):
        recordings.embed(encoder, table.parent / "nothing")
    with pytest.raises(ValueError, match="A recording that is itself a table is embedded by a table of files"):
        recordings.embed(encoder, table.parent / "whole.csv")
