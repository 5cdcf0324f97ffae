"""Whole ingests: the same bytes however the work is spread, and no identifier in what is written."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest.build import IngestError, build
from medssl.sources.record import Record
from medssl.store import Store

PARAMS = SignalIngest(rate_hz=50, channels=("A", "B"), unit="mV", window_s=1)
KEY = b"secret"


def text(path: Path, values: np.ndarray, names: str = "A,B") -> None:
    np.savetxt(path, values.T, delimiter=",", header=names, comments="", fmt="%.5f")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients with two recordings of 4 s at 100 Hz, and four that must be refused."""
    root = tmp_path_factory.mktemp("Mustermann")
    rng = np.random.default_rng(0)
    rows = []
    for p in range(6):
        for t in range(2):
            name = f"qxz{p}_{t}.csv"
            text(root / name, rng.standard_normal((2, 400)))
            rows.append({"path": name, "patient": f"qxz{p}", "trial": f"visit{t}", "label_sex": "mf"[p % 2]})
    text(root / "qxz-short.csv", rng.standard_normal((2, 50)))
    text(root / "qxz-lead.csv", rng.standard_normal((2, 400)), "A,C")
    (root / "qxz-broken.csv").write_bytes(b"A,B\n\xff\xfe\x00\n")
    flat = rng.standard_normal((2, 400))
    flat[1, 75:225] = 1.0
    text(root / "qxz-flat.csv", flat)
    for name in ("short", "lead", "broken", "gone", "flat"):
        rows.append({"path": f"qxz-{name}.csv", "patient": f"qxz-{name}", "trial": "visit0", "label_sex": "m"})
    table = pd.DataFrame(rows).assign(rate_hz=100, unit="mV")
    table.to_csv(root / "manifest.csv", index=False)
    return root


def ingest(records: list[Record], out: Path, **options: object) -> Store:
    return build(records, out, key="ecg", params=PARAMS, secret=KEY, progress=False, **options)  # type: ignore[arg-type]


def content(store: Store) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(store.folder.iterdir())}


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ingest(sources.list_records("manifest", raw), tmp_path_factory.mktemp("made") / "store")


def test_what_comes_out(made: Store) -> None:
    table = made.table
    assert made.facts["shape"] == [2, 50]
    assert len(made) == 6 * 2 * 4 + 3
    assert table["patient"].nunique() == 7
    assert table["trial"].nunique() == 13
    first = table[table["trial"] == table["trial"].iloc[-1]]
    assert len(first) == 4
    assert first["index_in_trial"].tolist() == list(range(len(first)))
    assert first["start_s"].tolist() == list(range(len(first)))
    assert np.allclose(made.read(np.arange(len(made))).mean(2), 0, atol=1e-5)
    counts = made.rejects["reason"].value_counts().to_dict()
    assert counts == {"too_short": 1, "missing_channel": 1, "unreadable": 1, "missing_file": 1, "flat": 1}


def test_two_processes_write_the_same_bytes(raw: Path, made: Store, tmp_path: Path) -> None:
    records = sources.list_records("manifest", raw)
    spread = ingest(records, tmp_path / "store", executor="process", workers=2)
    assert content(spread) == content(made)


def test_order_of_the_table_qxzs_not_matter(raw: Path, made: Store, tmp_path: Path) -> None:
    lines = (raw / "manifest.csv").read_text().splitlines()
    body = lines[1:]
    random.Random(3).shuffle(body)
    kept = raw / "manifest.csv"
    try:
        kept.write_text("\n".join([lines[0], *body]) + "\n")
        assert content(ingest(sources.list_records("manifest", raw), tmp_path / "store")) == content(made)
    finally:
        kept.write_text("\n".join(lines) + "\n")


def test_nothing_written_names_a_patient_or_a_path(raw: Path, made: Store) -> None:
    rejects = made.rejects
    assert list(rejects.columns) == ["path", "stage", "reason", "detail"]
    assert rejects["path"].str.fullmatch(r"[0-9a-f]{12}\.csv").all()
    for data in content(made).values():
        for word in (b"qxz", b"visit", b"Mustermann", str(raw).encode(), KEY, KEY.hex().encode()):
            assert word not in data
    for table in (made.table, rejects):
        shown = table.astype(str).to_csv()
        assert KEY.decode() not in shown
        assert KEY.hex() not in shown
        assert "qxz" not in shown
        assert "visit" not in shown


def test_the_key_decides_the_codes_and_nothing_else(raw: Path, made: Store, tmp_path: Path) -> None:
    records = sources.list_records("manifest", raw)
    other = build(records, tmp_path / "s", key="ecg", params=PARAMS, secret=b"other", progress=False)
    assert not set(other.table["patient"]) & set(made.table["patient"])
    assert other.table["content"].tolist() == made.table["content"].tolist()
    assert (tmp_path / "s" / "shard-00000.npy").read_bytes() == (made.folder / "shard-00000.npy").read_bytes()


def test_too_many_rejects(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [r for r in sources.list_records("manifest", raw) if "-" in r.patient]
    with pytest.raises(IngestError, match=r"4 of 5 records refused .*max_reject_share allows 50%"):
        ingest(records, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    # What was read is not read again once more refusals are allowed.
    with monkeypatch.context() as patched:
        patched.setattr("medssl.ingest.parts.cut", None)
        more = PARAMS.model_copy(update={"max_reject_share": 1.0})
        made = build(records, tmp_path / "store", key="ecg", params=more, secret=KEY, progress=False)
    assert len(made.rejects) == 5  # four recordings, and a window of the fifth
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_no_samples(raw: Path, tmp_path: Path) -> None:
    records = [r for r in sources.list_records("manifest", raw) if r.patient == "qxz-short"]
    with pytest.raises(IngestError, match="no sample came out of 1 records; rejects: 1 too_short"):
        ingest(records, tmp_path / "store")
    with pytest.raises(IngestError, match="no sample came out of 0 records"):
        ingest([], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_repeated_trial_is_refused(raw: Path, tmp_path: Path) -> None:
    records = [r for r in sources.list_records("manifest", raw) if r.patient == "qxz1"]
    store = ingest([*records, records[0]], tmp_path / "store")
    assert store.rejects["reason"].tolist() == ["repeated_trial"]
    assert len(store) == len(ingest(records, tmp_path / "two"))


def test_a_signal_is_no_image(raw: Path, tmp_path: Path) -> None:
    params = VolumeIngest(size=(4, 4, 4))
    with pytest.raises(IngestError, match="unsupported"):
        build(
            sources.list_records("manifest", raw)[:2],
            tmp_path / "s",
            key="ct",
            params=params,
            secret=KEY,
            progress=False,
        )


def test_rows_no_file_system_can_name_are_rejects(raw: Path, tmp_path: Path) -> None:
    records = sources.list_records("manifest", raw)
    long = Record(path=raw / ("x" * 300 + ".csv"), format="tabular", patient="qxz-long", trial="1", source="manifest")
    odd = Record(path=raw / "Smith.John1947", format="wfdb", patient="qxz-odd", trial="1", source="manifest")
    store = build([*records, long, odd], tmp_path / "s", key="ecg", params=PARAMS, secret=KEY, progress=False)
    rejects = store.rejects
    assert len(rejects) == 7
    assert rejects["path"].str.fullmatch(r"[0-9a-f]{12}(\.csv)?").all(), list(rejects["path"])
    assert "John" not in rejects.to_csv()


def test_absurd_header_numbers_are_rejects(tmp_path: Path) -> None:
    text(tmp_path / "a.csv", np.random.default_rng(0).standard_normal((2, 400)))
    text(tmp_path / "b.csv", np.random.default_rng(1).standard_normal((2, 400)))
    table = pd.DataFrame({"path": ["a.csv", "b.csv"], "patient": ["1", "2"], "trial": "1", "rate_hz": [100, 399.99e12]})
    table.assign(unit="mV").to_csv(tmp_path / "manifest.csv", index=False)
    records = sources.list_records("manifest", tmp_path)
    store = build(records, tmp_path / "s", key="ecg", params=PARAMS, secret=KEY, progress=False)
    assert len(store.rejects) == 1
