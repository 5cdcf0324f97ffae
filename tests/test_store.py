"""Stores: written whole or not at all, read without copies, the same bytes every time."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl import store as stores
from medssl import table as tables
from medssl.store import Store, StoreError, Writer, open_store, parquet_parts, read_parquet, write_parquet

FACTS: dict[str, Any] = {"modality": "ecg", "shape": [2, 8], "unit": "mV", "params": {}}


def row(i: int) -> dict[str, Any]:
    return {
        "sample_id": f"{i:016x}", "patient": i // 2, "trial": i // 2, "index_in_trial": i % 2, "modality": "ecg",
        "source": "toy", "rate_hz": 4.0, "spacing_mm": None, "unit": "mV", "channels": ["A", "B"], "start_s": 2.0 * i,
        "duration_s": 2.0, "quality": 1.0, "content": f"c{i}", "fold": float("nan"), "label_x": "ab"[i % 2],
    }  # fmt: skip


def sample(i: int) -> np.ndarray:
    return np.random.default_rng(i).standard_normal((2, 8)).astype(np.float32)


def write(folder: Path, n: int = 7, **options: Any) -> Store:
    with Writer(folder, FACTS, **options) as writer:
        for i in range(n):
            writer.add(sample(i), row(i))
        writer.reject("abc.txt", "ingest", "too_short", "0.1 s long")
    return open_store(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = write(tmp_path / "s", shard_bytes=3 * 64)
    assert len(store) == 7
    assert sorted(p.name for p in (tmp_path / "s").glob("*.npy")) == [f"shard-0000{k}.npy" for k in range(3)]
    for i in range(7):
        assert np.array_equal(store[i], sample(i))
        assert store[i].dtype == np.float32
    rows = np.array([6, 0, 3, 3])
    assert np.array_equal(store.read(rows), np.stack([sample(i) for i in rows]))
    assert store.read(rows[:0]).shape == (0, 2, 8)
    assert store.rejects.to_dict("records") == [
        {"path": "abc.txt", "stage": "ingest", "reason": "too_short", "detail": "0.1 s long"}
    ]
    assert store.facts["n_samples"] == 7
    assert store.content_hash


def test_blocks_hold_every_row_once_and_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write(tmp_path / "s")
    assert [rows.tolist() for rows in store.blocks()] == [[*range(7)]]
    monkeypatch.setattr(stores, "TABLE_ROWS", 4)
    assert [rows.tolist() for rows in store.blocks()] == [[0, 1, 2, 3], [4, 5, 6]]
    monkeypatch.setattr(stores, "BLOCK_BYTES", 3 * 64)
    assert [rows.tolist() for rows in store.blocks()] == [[0, 1], [2, 3], [4, 5], [6]]
    monkeypatch.setattr(stores, "BLOCK_BYTES", 1)
    assert [rows.tolist() for rows in store.blocks()] == [[i] for i in range(7)]


def test_a_table_in_parts_has_the_bytes_of_the_whole_one(tmp_path: Path) -> None:
    n = 2 * stores.TABLE_ROWS + 5
    values = np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)
    table = pd.DataFrame({"sample_id": [f"{i:016x}" for i in range(n)], "embedding": list(values)})
    write_parquet(table, tmp_path / "whole.parquet")
    with parquet_parts(tmp_path / "parts.parquet") as write_part:
        for start in range(0, n, stores.TABLE_ROWS):
            write_part(table.iloc[start : start + stores.TABLE_ROWS])
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert (np.stack(list(read_parquet(tmp_path / "parts.parquet")["embedding"])) == values).all()


def test_a_table_whose_parts_failed_is_not_there(tmp_path: Path) -> None:
    def parts(path: Path) -> None:
        with parquet_parts(path) as write_part:
            write_part(pd.DataFrame({"a": [1, 2]}))
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        parts(tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


def test_a_sample_is_a_copy_and_the_shard_is_read_only(tmp_path: Path) -> None:
    store = write(tmp_path / "s")
    store[0][:] = 0
    assert np.array_equal(store[0], sample(0))
    shard = store.shard(0)
    assert isinstance(shard, np.memmap)
    assert not shard.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        shard[0] = 0


def test_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    write(tmp_path / "a", shard_bytes=200)
    write(tmp_path / "b", shard_bytes=200)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    write(tmp_path / "c", n=6, shard_bytes=200)
    assert open_store(tmp_path / "c").content_hash != open_store(tmp_path / "a").content_hash


def test_hash_covers_labels_and_values(tmp_path: Path) -> None:
    hashes = set()
    for name, change, factor in (("a", {}, 1), ("b", {"label_x": "z"}, 1), ("c", {}, 2)):
        with Writer(tmp_path / name, FACTS) as writer:
            writer.add(factor * sample(0), row(0) | change)
        hashes.add(open_store(tmp_path / name).content_hash)
    assert len(hashes) == 3


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with Writer(tmp_path / "s", FACTS, shard_bytes=64) as writer:
            writer.add(sample(0), row(0))
            assert len(list(tmp_path.iterdir())) == 1
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_old_store(tmp_path: Path) -> None:
    write(tmp_path / "s")
    before = content(tmp_path / "s")

    def fail() -> None:
        with Writer(tmp_path / "s", FACTS) as writer:
            writer.add(sample(0), row(0))
            writer.add(sample(1), row(0))  # a repeated id, found when publishing

    with pytest.raises(ValueError, match="appears more than once"):
        fail()
    assert content(tmp_path / "s") == before
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    write(tmp_path / "s", n=3)
    assert len(open_store(tmp_path / "s")) == 3


def test_wrong_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sample of shape \(2, 9\); this store holds \[2, 8\]"), \
            Writer(tmp_path / "s", FACTS) as writer:  # fmt: skip
        writer.add(np.zeros((2, 9)), row(0))


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store\.json"):
        open_store(tmp_path)


def test_other_format(tmp_path: Path) -> None:
    write(tmp_path / "s")
    facts = json.loads((tmp_path / "s" / "store.json").read_text())
    (tmp_path / "s" / "store.json").write_text(json.dumps(facts | {"format": 2}))
    with pytest.raises(StoreError, match="format 2; this version reads 1"):
        open_store(tmp_path / "s")


def test_damaged_shards(tmp_path: Path) -> None:
    write(tmp_path / "s")
    shard = tmp_path / "s" / "shard-00000.npy"
    whole = shard.read_bytes()
    for part in (whole[:-64], b""):
        shard.write_bytes(part)
        with pytest.raises(StoreError, match="cannot be mapped"):
            open_store(tmp_path / "s")[0]
    np.save(shard, np.zeros((7, 2, 9), np.float32))
    with pytest.raises(StoreError, match=r"expected float32 \[2, 8\]"):
        open_store(tmp_path / "s")[0]
    np.save(shard, np.zeros((7, 2, 8)))
    with pytest.raises(StoreError, match="float64"):
        open_store(tmp_path / "s")[0]
    shard.unlink()
    with pytest.raises(StoreError, match="cannot be mapped"):
        open_store(tmp_path / "s")[0]


def test_a_pickled_shard_is_never_opened(tmp_path: Path) -> None:
    write(tmp_path / "s")
    np.save(tmp_path / "s" / "shard-00000.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="cannot be mapped"):
        open_store(tmp_path / "s")[0]


def test_a_pickled_store_opens_its_own_maps(tmp_path: Path) -> None:
    store = write(tmp_path / "s")
    assert np.array_equal(store[2], sample(2))
    text = pickle.dumps(store)
    assert sample(2).tobytes() not in text
    again = pickle.loads(text)
    assert again._shards == {}
    assert np.array_equal(again[2], sample(2))
    shutil.rmtree(tmp_path / "s")


def test_extra_tables_are_joined(tmp_path: Path) -> None:
    store = write(tmp_path / "s", n=3)
    extra = pd.DataFrame({"sample_id": store.table["sample_id"][::-1], "split": ["test", "val", "train"]})
    extra.to_parquet(tmp_path / "split.parquet")
    assert open_store(tmp_path / "s", tmp_path / "split.parquet").table["split"].tolist() == ["train", "val", "test"]
    extra.iloc[:2].to_parquet(tmp_path / "split.parquet")
    with pytest.raises(ValueError, match="the store changed since"):
        open_store(tmp_path / "s", tmp_path / "split.parquet")


def test_a_folder_that_is_not_a_store_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,patient,trial\n")
    with pytest.raises(StoreError, match="holds something that is not a store"), Writer(tmp_path, {"shape": [1, 4]}):
        pass
    assert (tmp_path / "manifest.csv").is_file()


def cohort(folder: Path, rms: list[list[float]], *, normalise: str = "cohort") -> Store:
    """Write a store of patients with the given spread of each window, which the samples have."""
    facts = FACTS | {"params": {"normalise": normalise}}
    with Writer(folder, facts) as writer:
        for number, (patient, spread) in enumerate((p, s) for p, spreads in enumerate(rms) for s in spreads):
            code = {"patient": patient, "trial": patient, "quality_rms": spread}
            writer.add(np.float32(spread) * sample(number), row(number) | code)
    return open_store(folder)


RMS = [[1.0, 9.0, 2.0], [4.0], [3.0, 5.0], [100.0, 200.0], [7.0]]
SPLITS = {
    "split": ["train", "train", "train", "test", "val"],
    "split@0": ["train", "test", "train", "train", "val"],
    "split@1": ["test", "train", "val", "train", "train"],
}


def with_splits(store: Store, **columns: Any) -> pd.DataFrame:
    parts = {name: [of[patient] for patient in store.table["patient"]] for name, of in SPLITS.items()}
    return store.table.assign(**parts, **columns)


def median(values: list[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def test_the_scale_of_a_cohort_is_of_training_patients_and_follows_the_fold(tmp_path: Path) -> None:
    store = cohort(tmp_path / "s", RMS)
    assert store.scale == 1 and np.array_equal(store[1], np.float32(9) * sample(1))
    store.table = whole = with_splits(store, kept=np.arange(9) != 1)
    seen = [[spread for k, spread in enumerate(of) if (p, k) != (0, 1)] for p, of in enumerate(RMS)]
    found = {}
    for fold, name in ((None, "split"), (0, "split@0"), (1, "split@1")):
        store.table = tables.of_fold(whole, fold)
        inside = [median(seen[patient]) for patient, part in enumerate(SPLITS[name]) if part == "train"]
        found[name] = store.scale
        assert store.scale == median(inside)
        rows = np.array([8, 0, 3])
        in_unit = store.scaled_by(1.0)
        assert np.array_equal(store.read(rows), in_unit.read(rows) / np.float32(store.scale))
        assert np.array_equal(store[8], store.read(rows)[0])
        assert np.array_equal(in_unit[8], np.float32(7) * sample(8))
        assert np.array_equal(store.shard(0)[8], in_unit[8])  # what is stored stays
        copied = pickle.loads(pickle.dumps(store))
        assert copied.scale == store.scale and np.array_equal(copied[8], store[8])
    assert found == {"split": 4.0, "split@0": 4.0, "split@1": 7.0}
    assert store.scaled_by(2.0).scale == 2 and store.scale == 7
    store.table = whole.drop(columns="kept")
    assert store.scale == median([2.0, 4.0, 4.0])


def test_a_patient_who_is_tested_has_no_part_in_the_scale(tmp_path: Path) -> None:
    louder = [[100 * spread for spread in of] if patient == 1 else of for patient, of in enumerate(RMS)]
    plain, loud = (cohort(tmp_path / name, rms) for name, rms in (("a", RMS), ("b", louder)))
    own = np.flatnonzero(plain.table["patient"] == 1)
    others = np.flatnonzero(plain.table["patient"] != 1)
    for store in (plain, loud):
        store.table = tables.of_fold(with_splits(store), 0)
    assert loud.scale == plain.scale
    assert np.array_equal(loud.read(others), plain.read(others))
    np.testing.assert_allclose(loud.read(own), 100 * plain.read(own), rtol=1e-5)
    for store in (plain, loud):
        store.table = tables.of_fold(with_splits(store), 1)
    assert loud.scale != plain.scale  # where they are trained on, they have


def test_scales_are_for_cohorts_and_need_a_spread(tmp_path: Path) -> None:
    store = cohort(tmp_path / "a", RMS, normalise="none")
    store.table = with_splits(store)
    assert store.scale == 1
    store = cohort(tmp_path / "b", RMS)
    store.table = with_splits(store).assign(split="test")
    assert store.scale == 1  # nobody is trained on
    with pytest.raises(StoreError, match=r"normalise is cohort, and the table has no quality_rms; ingest again"):
        store.table = with_splits(store).drop(columns="quality_rms")
    with pytest.raises(StoreError, match=r"quality_rms of the training patients is 0, which scales nothing"):
        store.table = with_splits(store, quality_rms=0.0)
