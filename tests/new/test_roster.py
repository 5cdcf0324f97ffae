"""A table that a lab has becomes the manifest: by the column that names recordings, however names are written."""

from __future__ import annotations

import csv
import json
from pathlib import Path, PurePosixPath

import pandas as pd
import pytest

from medssl import cli
from medssl.check import paths
from medssl.config import load
from medssl.new import roster
from medssl.sources.record import SourceError
from tests.check.test_paths import write_ecg
from tests.new.test_params import made_without_dvc

PATHS = [PurePosixPath(p) for p in ("a/001.hea", "b/001.hea", "b/002.hea", "c/003.hea")]


@pytest.fixture(autouse=True)
def _no_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    made_without_dvc(monkeypatch)


@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        (["a/001", "b/001", "b/002", "c/003"], [0, 1, 2, 3]),
        (["/mnt/x/c/003.hea", "x\\B\\002.HEA", "b/001.hea", ""], [None, 2, 1, 0]),
        (["002", "003", "001", "004"], [None, None, 0, 1]),  # which file of 001 is meant is not clear
        (["003", "003", "002", "x"], [None, None, 2, None]),  # which row is meant is not clear
    ],
)
def test_recordings_are_found(cells: list[str], rows: list[int | None], tmp_path: Path) -> None:
    table = pd.DataFrame({"age": range(4), "where": cells})
    table.to_csv(tmp_path / "t.csv", index=False, sep=";")
    found = roster.read(tmp_path / "t.csv", PATHS)
    assert (found.key, found.rows, found.others) == ("where", rows, ["age"])


def test_tables_that_name_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("age,sex\n1,f\n2,m\n")
    with pytest.raises(SourceError, match="no column names the recordings; add one with the name of each file"):
        roster.read(tmp_path / "t.csv", PATHS)
    (tmp_path / "u.csv").write_text("a/001,Jane Doe\nb/001,John Doe\nb/002,Jack\n")
    with pytest.raises(SourceError, match="the first line names a recording") as caught:
        roster.read(tmp_path / "u.csv", PATHS)
    assert "Doe" not in str(caught.value)


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """Return a folder of six records and a table of five of them, with a column that nobody asked for."""
    for number in range(6):
        write_ecg(tmp_path / "ward" / f"r{number}.hea", rate_hz=100, leads=("I", "II"))
    rows = [f"r{n};M{n // 2};{40 + n},5;{'sick' if n % 2 else 'well'};Jane" for n in range(5)]
    (tmp_path / "ward" / "clinic.csv").write_text(
        "\n".join(["File;MRN;Age at exam;State;Name", *rows, "r9;M9;1;well;Jo"])
    )
    return tmp_path / "ward"


def new(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, object]]:
    code = cli.main(["new", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_table_becomes_the_manifest(ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = ["--table", ward / "clinic.csv", "--patients", "mrn", "--labels", "State", "age at exam"]
    code, said = new(capsys, tmp_path / "own", "--from", ward, *table)
    assert (code, said["recordings"]) == (0, 5)
    named = "clinic.csv: column File names 5 of 6 recordings, of 3 patients by column mrn"
    assert f"{named}; 1 without a row or a patient are left out" in said["notes"]
    with (ward / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == ["M0", "M0", "M1", "M1", "M2"]
    assert rows[1] == {
        "path": "r1.hea", "patient": "M0", "trial": "r1", "label_state": "sick", "label_age_at_exam": "41,5"
    }  # fmt: skip
    (run,) = load(tmp_path / "own" / "params.yaml").runs.values()
    assert run.evaluate.labels == ("state", "age_at_exam")


def test_a_table_in_the_folder_is_told(ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = new(capsys, tmp_path / "own", "--from", ward)
    (told,) = [note for note in said["notes"] if note.startswith("clinic.csv names the recordings in its column File")]
    assert code == 0 and told.endswith("--patients COLUMN --labels COLUMN ..., of MRN, Age at exam, State, Name")
    (run,) = load(tmp_path / "own" / "params.yaml").runs.values()
    assert run.evaluate.finetune_labels == ()
    # The manifest of the first attempt is not passed over in silence.
    code, said = new(capsys, tmp_path / "other", "--from", ward, "--patients", "file")
    assert (code, said["error"]) == (
        1,
        f"{ward}: its manifest.csv says whose a recording is; fill it in, or remove it for --patients",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "State"], "--labels names columns of --table, which is not given"),
        (["--table", "{ward}/clinic.csv"], "--table needs --from FOLDER and --patients COLUMN"),
        (
            ["--table", "{ward}/clinic.csv", "--patients", "who"],
            "--patients who: no such column in clinic.csv; it has MRN, Age at exam, State, Name",
        ),
        (
            ["--table", "{ward}/none.csv", "--patients", "MRN"],
            "no such table; --table names a table with a row for each",
        ),
    ],
)
def test_words_that_do_not_fit(
    words: list[str], said: str, ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = new(capsys, tmp_path / "own", "--from", ward, *(word.format(ward=ward) for word in words))
    assert code == 1 and said in str(told["error"])
    assert not (ward / "manifest.csv").exists() and not (tmp_path / "own" / "params.yaml").exists()


def test_a_label_that_no_column_has_is_told(ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = ["--table", ward / "clinic.csv", "--patients", "MRN", "--labels", "State"]
    new(capsys, tmp_path / "own", "--from", ward, *table)
    params = tmp_path / "own" / "params.yaml"
    assert paths.check(params)[1] == []
    params.write_text(params.read_text().replace("labels: [state]", "labels: [stat, state]"))
    name = next(iter(load(params).runs))
    wrong = [
        f"runs.{name}.evaluate.{key}: no column label_stat in {ward}'s manifest; it has state"
        for key in ("labels", "finetune_labels")
    ]
    assert paths.check(params)[1] == wrong


def test_recordings_and_large_files_are_no_tables_of_recordings(ward: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [PurePosixPath(f"r{number}.hea") for number in range(6)]
    assert roster.told(ward, paths) is not None
    assert roster.told(ward, [*paths, PurePosixPath("clinic.csv")]) is None
    monkeypatch.setattr(roster, "LARGE", 10)
    assert roster.told(ward, paths) is None
