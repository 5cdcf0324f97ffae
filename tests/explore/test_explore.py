"""A page of a run: what it holds and what it must not hold, from a run's folder or by a run's name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import medssl.explore
from medssl import config
from medssl.explore import explore, layout, of_run, points
from medssl.store import Store, write_parquet


@pytest.fixture(autouse=True)
def _by_pca(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "FEW", 1000)  # UMAP takes long to compile; test_layout.py has it


def run_of(store: Store, folder: Path, order: np.ndarray | None = None) -> Path:
    """Write embeddings of a run, by default in the order of the store."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(len(store), 4)).astype(np.float32)
    frame = pd.DataFrame({"sample_id": store.table["sample_id"], "embedding": list(z)})
    (folder / "probe").mkdir(parents=True)
    write_parquet(frame if order is None else frame.iloc[order], folder / "probe" / "embeddings.parquet")
    return folder


def facts(page: Path) -> dict:
    found = re.search(r'id="facts">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_a_page_says_what_it_holds(signal_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "new" / "p.html"
    lines = explore(run_of(signal_store, tmp_path / "toy-run"), signal_store, out=out)
    text = out.read_text()
    assert "This page holds traces (A, B; 2 of 2 channels) of 96 samples of 16 patients." in text
    assert "Share it as you would share the recordings." in text
    assert re.match(r".*p\.html: 96 samples of 16 patients, PCA, 0\.\d MB", lines[0])
    assert "share it as you would share the recordings" in lines[1]
    assert [p.name for p in out.parent.iterdir()] == ["p.html"]
    assert not re.search(r"https?://|src=|href=|@import|url\(", re.sub(r"<script type.*?</script>", "", text))
    assert {c["name"] for c in facts(out)["columns"]} == {
        *("label_age", "label_disease", "label_findings", "label_state", "anat_age_years", "anat_liver_ml"),
        *("patient", "split"),
    }


def test_equal_inputs_give_equal_bytes(signal_store: Store, tmp_path: Path) -> None:
    run = run_of(signal_store, tmp_path / "run")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        explore(run, signal_store, out=tmp_path / name, seed=seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_without_pictures_there_are_none(signal_store: Store, image_store: Store, tmp_path: Path) -> None:
    for name, store in (("s", signal_store), ("i", image_store)):
        run = run_of(store, tmp_path / name)
        explore(run, store, out=tmp_path / "with")
        lines = explore(run, store, out=tmp_path / "without", thumbnails=False)
        blob = "blob-t(races|iles)"
        assert re.search(f'id="{blob}', (tmp_path / "with").read_text())
        assert not re.search(f'id="{blob}', (tmp_path / "without").read_text())
        assert "no traces and no pictures" in lines[1]
        assert "share it as you would share the table of samples" in (tmp_path / "without").read_text()
        assert facts(tmp_path / "without")["pictures"] is None


def test_what_could_name_someone_stays_out(signal_store: Store, tmp_path: Path) -> None:
    signal_store = signal_store.scaled_by(1)
    signal_store.table = signal_store.table.assign(
        path=[f"/archive/jane_doe/{i}" for i in range(96)], name="doe", birth_date=pd.Timestamp("1950-01-02")
    )
    explore(run_of(signal_store, tmp_path / "run"), signal_store, out=tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text().lower()
    assert "jane" not in text
    assert "1950" not in text
    assert str(signal_store.folder) not in text


def test_labels_cannot_leave_their_script(signal_store: Store, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    signal_store = signal_store.scaled_by(1)
    signal_store.table = signal_store.table.assign(label_evil=[evil, "ok"] * 48)
    signal_store.table = signal_store.table.rename(columns={"label_state": "label_<b>state"})
    explore(run_of(signal_store, tmp_path / "run"), signal_store, out=tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    assert evil not in text
    assert "<b>state" not in text
    assert evil in next(c for c in facts(tmp_path / "p.html")["columns"] if c["name"] == "label_evil")["classes"]


def test_a_limit_draws_at_random_and_says_so(signal_store: Store, tmp_path: Path) -> None:
    order = np.random.default_rng(5).permutation(96)  # a file in another order than the store
    run = run_of(signal_store, tmp_path / "run", order)
    explore(run, signal_store, out=tmp_path / "p.html", limit=50)
    ids = facts(tmp_path / "p.html")["ids"]
    assert len(set(ids)) == 50
    assert "50 samples of 16 patients (drawn at random from 96)" in (tmp_path / "p.html").read_text()
    written = pd.read_parquet(run / "probe" / "embeddings.parquet").set_index("sample_id")["embedding"]
    chosen = np.random.default_rng(0).permutation(96)[:50]
    assert ids == list(written.index[chosen])


def test_embeddings_are_read_in_parts_in_the_order_asked_for(tmp_path: Path) -> None:
    z = np.arange(5000, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    pq.write_table(pa.table({"embedding": list(z)}), tmp_path / "e.parquet")
    for chosen in (np.array([4999, 0, 1024, 1023, 2048]), np.array([7])):
        np.testing.assert_array_equal(medssl.explore._chosen(tmp_path / "e.parquet", chosen)[:, 1], chosen)


def test_what_is_missing_is_said_in_one_line(signal_store: Store, image_store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"embeddings\.parquet: not there; .*dvc repro") as caught:
        explore(tmp_path, signal_store, out=tmp_path / "p")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"96 samples are not in .*; run `dvc repro`"):
        explore(run_of(signal_store, tmp_path / "run"), image_store, out=tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_run_of_the_project_by_its_name(signal_folder: Path, signal_store: Store, tmp_path: Path) -> None:
    shutil.copyfile(Path(__file__).parents[2] / "params.yaml", tmp_path / "params.yaml")
    shutil.copytree(signal_folder, tmp_path / "data" / "ecg")
    run_of(signal_store, tmp_path / "data" / "runs" / "ecg-comet")
    lines = of_run(tmp_path, "ecg-comet")
    page = tmp_path / "data" / "explore" / "ecg-comet.html"
    assert lines[0].startswith(f"{page}: 96 samples")
    assert "split" in {c["name"] for c in facts(page)["columns"]}
    of_run(tmp_path, "ecg-comet", out=tmp_path / "mine.html", pictures=False)
    assert facts(tmp_path / "mine.html")["pictures"] is None
    with pytest.raises(FileNotFoundError, match="the run has no embeddings yet"):
        of_run(tmp_path, "ecg-simclr")
    with pytest.raises(config.ConfigError, match="ecg-comte"):
        of_run(tmp_path, "ecg-comte")


def test_points_of_any_frame() -> None:
    z = np.random.default_rng(0).normal(size=(12, 3))
    frame = pd.DataFrame({"name": list("abcdefghijkl"), "embedding": list(z)}, index=range(5, 17))
    placed = points(frame)
    assert list(placed.columns) == ["name", "x", "y", "neighbours", "cosine"]
    assert placed.index.tolist() == frame.index.tolist()
    assert placed["x"].between(-1, 1).all()
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    for i, (near, cosine) in enumerate(zip(placed["neighbours"], placed["cosine"], strict=True)):
        assert i not in near
        np.testing.assert_allclose(cosine, unit[near] @ unit[i], atol=1e-6)
