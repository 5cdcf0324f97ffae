"""What `medssl check` says of two stores, of the split of one, and of one, through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl import cli
from medssl import table as tables
from medssl.config import SignalIngest
from medssl.curate import dedup
from medssl.ingest.build import build
from medssl.sources import manifest
from medssl.store import Store, Writer, open_store, write_parquet
from tests.check.test_paths import LEADS, check

WINDOW_S = 4.0


def wave(number: int, times: np.ndarray) -> np.ndarray:
    """Return (C, T) of recording ``number``: sines of 2 to 14 Hz with their own frequencies and phases."""
    rng = np.random.default_rng(number)
    hertz, phase = rng.uniform(2, 14, (2, 12, 1)), rng.uniform(0, 2 * np.pi, (2, 12, 1))
    return np.sin(2 * np.pi * hertz * times + phase).sum(axis=1) / 12


def make(folder: Path, *samples: dict[str, Any], rate_hz: float = 100, **facts: Any) -> Store:
    """Write a store; a sample says its ``wave`` and may set ``patient``, ``trial``, ``start_s``, ``gain``, ``offset``,
    and ``shift`` in seconds of what it shows."""
    steps = int(WINDOW_S * rate_hz)
    params = {"rate_hz": rate_hz, "channels": facts.pop("channels", LEADS)}
    modality = facts.pop("modality", "ecg")
    head = {"modality": modality, "shape": [2, steps], "unit": "mV", "params": params}
    with Writer(folder / "store", head) as writer:
        for i, sample in enumerate(samples):
            patient, start_s = sample.get("patient", i), sample.get("start_s", 0.0)
            trial = sample.get("trial", 100 + patient)
            x = wave(sample["wave"], np.arange(steps) / rate_hz + sample.get("shift", 0.0))
            x = (sample.get("gain", 1.0) * x + sample.get("offset", 0.0)).astype(np.float32)
            content = tables.content_hash(x)
            row = {
                "sample_id": tables.sample_id(content, patient, trial, i),
                "patient": patient, "trial": trial, "index_in_trial": i, "modality": modality, "source": "toy",
                "rate_hz": rate_hz, "spacing_mm": None, "unit": "mV", "channels": list(LEADS),
                "start_s": start_s, "duration_s": WINDOW_S, "quality": 1.0, "content": content, "fold": float("nan"),
            }  # fmt: skip
            writer.add(x, row)
    return open_store(folder / "store")


def compare(capsys: pytest.CaptureFixture[str], *stores: Store) -> tuple[int, list[str]]:
    code = cli.main(["check", "--leakage", *(str(s.folder) for s in stores)])
    return code, capsys.readouterr().out.splitlines()


@pytest.fixture
def pretraining(tmp_path: Path) -> Store:
    return make(tmp_path / "a", *({"wave": i} for i in range(4)))


def test_a_clean_pair(pretraining: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make(tmp_path / "b", *({"wave": 50 + i, "patient": 900 + i} for i in range(3)))
    code, lines = compare(capsys, pretraining, other)
    assert code == 0
    assert lines[-5:] == [
        "same patient: none",
        "same content: none",
        "overlapping interval: none",
        "near duplicate: none",
        "ok",
    ]
    assert any("one key" in line for line in lines)


@pytest.mark.parametrize(
    ("planted", "rate_hz", "reason"),
    [
        ({"wave": 90, "patient": 2, "start_s": 40.0}, 100, "same patient"),
        ({"wave": 2}, 100, "same content"),
        ({"wave": 2, "gain": 3.0, "offset": 1.0}, 100, "same content"),  # which the hash of content forgives
        ({"wave": 2, "shift": 0.5, "gain": 2.0, "offset": 0.3}, 100, "near duplicate"),
        ({"wave": 2}, 250, "near duplicate"),
        ({"wave": 2, "shift": 1.0, "gain": 0.5}, 125, "near duplicate"),
    ],
    ids=["patient", "exact", "gain and offset", "shift", "rate", "all at once"],
)
def test_a_planted_leak_is_named_with_its_samples(
    pretraining: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], planted: dict[str, Any], rate_hz: float,
    reason: str,
) -> None:  # fmt: skip
    # Other codes of patients and trials: the sets were ingested with different keys.
    other = make(tmp_path / "b", {"wave": 60, "patient": 900}, {"patient": 901, **planted}, rate_hz=rate_hz)
    code, lines = compare(capsys, pretraining, other)
    first, second = pretraining.table["sample_id"][2], other.table["sample_id"][1]
    assert code == 1
    assert f"problem: {reason}: {first} (A) and {second} (B)" in lines
    assert f"{reason}: 1" in lines
    assert lines[-1] == "1 problem(s)"


def published(root: Path, numbers: tuple[int, ...], *, raw_hz: float, gain: float, unit: str) -> Path:
    """Write a set as someone would publish it: 9 s of each wave as text, and a manifest."""
    root.mkdir()
    times = np.arange(int(9 * raw_hz)) / raw_hz
    for number in numbers:
        np.savetxt(root / f"{number}.csv", gain * wave(number, times).T, delimiter=",", header="I,II", comments="")
    names = [str(n) for n in numbers]
    rows = {"path": [f"{n}.csv" for n in names], "patient": names, "trial": "1", "rate_hz": raw_hz, "unit": unit}
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    return root


def test_sets_ingested_with_different_keys_are_compared_by_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = []
    for name, numbers, raw_hz, gain, unit in (("a", (1, 2, 3), 500.0, 1.0, "mV"), ("b", (51, 2, 52), 360.0, 1e3, "uV")):
        root = published(tmp_path / f"raw-{name}", numbers, raw_hz=raw_hz, gain=gain, unit=unit)
        params = SignalIngest(
            rate_hz=100 if name == "a" else 125, channels=LEADS, unit="mV", window_s=4, band_hz=(0.5, 40)
        )
        records = manifest.list_records(root)
        made = build(records, tmp_path / name, key="ecg", params=params, secret=name.encode() * 32)
        stores.append(made)
    code, lines = compare(capsys, *stores)
    assert code == 1
    assert "same patient: none" in lines
    assert "near duplicate: 2" in lines  # both windows of the one shared recording
    (line,) = [line for line in lines if line.startswith("problem: near duplicate")]
    for store, word in zip(stores, (3, 6), strict=True):
        shared = tables.keyed_code(store.folder.name.encode() * 32, "manifest", "2")
        assert line.split()[word] in set(store.table.loc[store.table["patient"] == shared, "sample_id"])


def test_an_overlapping_interval(pretraining: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make(tmp_path / "b", {"wave": 60, "patient": 2, "start_s": 3.0}, {"wave": 61, "patient": 3, "start_s": 4.0})
    code, lines = compare(capsys, pretraining, other)
    assert code == 1
    assert "overlapping interval: 1" in lines  # touching is not overlapping
    first, second = pretraining.table["sample_id"][2], other.table["sample_id"][0]
    assert f"problem: overlapping interval: {first} (A) and {second} (B)" in lines
    assert "same patient: 2" in lines


@pytest.mark.parametrize(
    ("facts", "words"), [({"modality": "eeg"}, "one modality"), ({"channels": ("X", "Y")}, "none in common")]
)
def test_what_cannot_be_compared_is_no_pass(
    pretraining: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], words: str
) -> None:
    other = make(tmp_path / "b", {"wave": 60, "patient": 2, "start_s": 40.0}, **facts)
    code, lines = compare(capsys, pretraining, other)
    assert code == 1
    (line,) = [line for line in lines if line.startswith("problem: content not compared: ")]
    assert words in line
    assert lines[-1] == "2 problem(s)"
    assert "same patient: 1" in lines  # what does not need the content is
    assert not [line for line in lines if line.startswith("near duplicate")]


def test_the_split_of_one_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make(tmp_path, {"wave": 0}, {"wave": 1}, {"wave": 1, "shift": 0.5}, {"wave": 0})
    code = cli.main(["check", "--leakage", str(store.folder)])
    assert (code, "needs its split" in capsys.readouterr().err) == (1, True)
    split = pd.DataFrame({"sample_id": store.table["sample_id"], "split": ["train", "train", "test", "test"]})
    write_parquet(split, tmp_path / "split.parquet")
    code, lines = compare(capsys, store)
    assert code == 1
    assert "same content: 1" in lines
    assert "near duplicate: 1" in lines
    ids = store.table["sample_id"]
    assert f"problem: near duplicate: {ids[1]} (train) and {ids[2]} (test)" in lines
    # Nothing uses the exact copy that dedup removed; the other one is still there.
    write_parquet(dedup.receipts(store.table), tmp_path / "dedup.parquet")
    code, lines = compare(capsys, store)
    assert code == 1
    assert "same content: none" in lines
    write_parquet(split.assign(split="train"), tmp_path / "split.parquet")
    assert compare(capsys, store)[0] == 0


def test_a_page_is_for_raw_folders(tmp_path: Path, pretraining: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(pretraining.folder), "--html", str(tmp_path / "page.html")]) == 1
    assert "--html is for a raw folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["check", "--leakage", str(pretraining.folder), "--html", "x"])
    assert not (tmp_path / "page.html").exists()


def test_a_store_is_told_and_its_damage(pretraining: Store, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = check(capsys, pretraining.folder)
    assert (code, lines[-1]) == (0, "ok")
    assert "4 samples, 4 trials, 4 patients" in lines
    shard = pretraining.folder / "shard-00000.npy"
    values = np.load(shard)[:3]
    values[1, 0, 5] = np.nan
    np.save(shard, values)
    code, lines = check(capsys, pretraining.folder)
    assert code == 1
    assert lines[-3:] == [
        "problem: shard 0: 3 rows, 4 in the table",
        "problem: samples hold values that are not finite",
        "2 problem(s)",
    ]
    shard.write_bytes(b"")
    assert "shard-00000.npy: cannot be mapped" in check(capsys, pretraining.folder)[1][-2]
