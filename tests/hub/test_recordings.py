"""Embeddings of files: a row for each window or the reason why there is none, in the order of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medssl
from medssl import cli
from medssl.config import SignalIngest
from medssl.hub import Encoder, recordings
from medssl.ingest.build import build
from medssl.sources import manifest
from medssl.store import read_parquet, write_parquet
from tests.test_hub import save, wave

KEY = b"sixteen bytes of a key"
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
    found = recordings.embed(encoder, table, secret=KEY)
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


def test_what_a_table_says_of_its_rows_comes_along(encoder: Encoder, table: Path) -> None:
    lines = [
        "path,patient,trial,rate_hz,unit,label_state,label_score,label_findings_multi,anat_age_years,start_s,note",
        "whole.csv,Ann,one,100,mV,rest,1.5,a;b,61,,hers",
        "whole.csv,Ann,two,100,mV,,2.25,,,0.5,hers",
        "flat.csv,Ben,one,100,mV,run,,b,40,,",
        "absent.csv,Ben,two,100,mV,run,3.75,b,40,,",
    ]
    table.write_text("\n".join(lines))
    found = recordings.embed(encoder, table, secret=KEY)
    made = build(
        manifest.list_table(table), table.parent / "store", key="ecg", params=encoder.params, secret=KEY, progress=False
    )
    labels = ["label_findings", "label_score", "label_state"]
    assert list(found) == [
        *("row", "sample", "patient", "trial", "start_s"), *labels, "anat_age_years", "reason", "embedding",
    ]  # fmt: skip
    write_parquet(found, table.parent / "out.parquet")
    back = read_parquet(table.parent / "out.parquet")
    good = back[back["reason"] == ""]
    joined = good.merge(made.table, on=["patient", "trial", "start_s"], suffixes=("", "_of_store"), validate="1:1")
    assert len(joined) == len(good) == len(made) == 5
    for name in (*labels, "anat_age_years"):
        pd.testing.assert_series_equal(joined[name], joined[f"{name}_of_store"], check_names=False)
    of_store = recordings.embed(encoder, table.parent / "store")
    assert list(of_store) == [
        *("sample_id", "patient", "trial", "index_in_trial", "start_s"), *labels, "reason", "embedding",
    ]  # fmt: skip
    both = good.merge(of_store, on=["patient", "trial", "start_s"], validate="1:1")
    np.testing.assert_allclose(np.stack(list(both["embedding_x"])), np.stack(list(both["embedding_y"])), atol=1e-6)
    # A row that cannot be read has what the table says, and names stay out of all.
    last = found.iloc[-1]
    assert last["label_score"] == 3.75 and last["patient"] == found["patient"].iloc[-2] and np.isnan(last["start_s"])
    assert back["patient"].dtype == np.int64 and back["label_state"].isna().sum() == 2
    text = back.drop(columns="embedding").to_csv()
    assert not any(word in text for word in ("Ann", "Ben", "whole", "hers", "one", "two"))


def test_codes_are_those_of_the_project(encoder: Encoder, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY", KEY.decode())
    found, same = recordings.embed(encoder, table), recordings.embed(encoder, table, secret=KEY)
    assert found["patient"].equals(same["patient"]) and found["trial"].equals(same["trial"])
    assert not set(recordings.embed(encoder, table, secret=b"another key of 16")["patient"]) & set(same["patient"])


def test_what_happened_when_is_a_label_of_windows(encoder: Encoder, table: Path) -> None:
    folder = table.parent
    (folder / "events.tsv").write_text("onset\tduration\ttrial_type\n0\t1\tgo\n1\t1\tstay\n")
    (folder / "event_labels.csv").write_text("text,task,class\ngo,hand,moved\nstay,hand,still\n")
    lines = (
        "path,patient,trial,rate_hz,unit,events",
        "whole.csv,p,t,100,mV,events.tsv",
        "flat.csv,q,t,100,mV,none.tsv",
    )
    table.write_text("\n".join(lines))
    found = recordings.embed(encoder, table, secret=KEY)
    assert found["label_hand"].tolist()[:2] == ["moved", "still"]
    assert found["reason"].tolist()[2].startswith("bad_events: the file of events: the file does not exist")


def test_one_file_is_row_one(encoder: Encoder, tmp_path: Path) -> None:
    values = wave(1, 300, 100)[0].astype(np.float32)
    header = "t 2 100 300\nt.dat 16 200(0)/mV 16 0 0 0 0 A\nt.dat 16 200(0)/mV 16 0 0 0 0 B\n"
    (tmp_path / "t.hea").write_text(header)
    (tmp_path / "t.dat").write_bytes(np.round(200 * values.T).astype("<i2").tobytes())
    found = recordings.embed(encoder, tmp_path / "t.hea")
    assert list(found) == ["row", "sample", "start_s", "reason", "embedding"]
    assert found["row"].tolist() == [1, 1, 1] and found["sample"].tolist() == [0, 1, 2]
    assert found["start_s"].tolist() == [0, 1, 2]
    assert all(len(z) == 8 for z in found["embedding"])


def test_other_paths_are_refused_with_the_fix(encoder: Encoder, table: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder; expected a store, a table of files or one recording"):
        recordings.embed(encoder, table.parent / "nothing")
    with pytest.raises(ValueError, match="A recording that is itself a table is embedded by a table of files"):
        recordings.embed(encoder, table.parent / "whole.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three WFDB records, one of them further down, and a note."""
    import wfdb

    root = tmp_path / "mine"
    for number, place in enumerate((root, root, root / "ward")):
        place.mkdir(exist_ok=True)
        values = wave(1, 200 + 100 * number, 100)[0]
        wfdb.wrsamp(
            f"jane{number}", fs=100, units=["mV"] * 2, sig_name=["A", "B"], p_signal=values.T, write_dir=str(place)
        )
    (root / "readme.txt").write_text("of our ward")
    return root


def embedded(encoder: Path, *words: str) -> tuple[int, pd.DataFrame | None]:
    out = encoder.parent / "out.parquet"
    out.unlink(missing_ok=True)
    code = cli.main(["embed", "--encoder", str(encoder), "--out", str(out), *words])
    return code, read_parquet(out) if out.exists() else None


def test_a_folder_of_recordings(encoder: Encoder, folder: Path) -> None:
    at = encoder.folder
    code, found = embedded(at, "--input", str(folder), "--paths")
    assert (code, found["path"].tolist()) == (0, ["jane0.hea"] * 2 + ["jane1.hea"] * 3 + ["ward/jane2.hea"] * 4)
    assert found["row"].tolist() == [1, 1, 2, 2, 2, 3, 3, 3, 3]
    # Names are there where they are asked for, and a table makes the same embeddings.
    _, plain = embedded(at, "--input", str(folder))
    assert not plain.astype(str).apply(lambda column: column.str.contains("jane")).any(axis=None)
    rows = [f"{path},p,{path}" for path in dict.fromkeys(found["path"])]
    (folder / "manifest.csv").write_text("\n".join(["path,patient,trial", *rows]))
    _, tabled = embedded(at, "--input", str(folder))
    np.testing.assert_array_equal(np.stack(tabled["embedding"]), np.stack(found["embedding"]))
    assert tabled["row"].tolist() == found["row"].tolist()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "x.csv"], "--out x.csv: embeddings are written as Parquet; name a file that ends in .parquet"),
        (["--paths"], "--paths: {folder} is no folder without a table"),
        (["--input", "{empty}"], "{empty}: no recording for this encoder; medssl check {empty} says what lies there"),
    ],
)
def test_what_no_folder_can(
    words: list[str], said: str, encoder: Encoder, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "manifest.csv").write_text("path,patient,trial\njane0,p,t\n")
    (tmp_path / "empty").mkdir()
    places = {"folder": folder, "empty": tmp_path / "empty"}
    code, found = embedded(encoder.folder, "--input", str(folder), *(word.format(**places) for word in words))
    assert (code, found) == (1, None)
    assert said.format(**places) in capsys.readouterr().err
