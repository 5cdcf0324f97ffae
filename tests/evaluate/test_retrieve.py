"""Crops find their windows: an exact search, where crops lie, known answers, chance, and the command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from medssl import cli, hub, models
from medssl.config import SignalIngest
from medssl.evaluate import retrieve as search
from medssl.hub import Encoder, EncoderError, contract_of
from medssl.store import Store, Writer, open_store
from tests.conftest import _row

PATIENTS, STEPS, CHANNELS = 30, 20, 8


class Mean(nn.Module):
    """Embeds a signal by the mean of each channel."""

    embedding_dim = CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2)


class Shape(nn.Module):
    """Embeds nothing: every signal by numbers of its own."""

    embedding_dim = CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        seed = int(x.abs().sum().item() * 1e4) % 2**31
        return torch.randn(len(x), CHANNELS, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """30 patients x 2 recordings x 3 windows; levels of channels tell a recording, and its first window by a little."""
    folder = tmp_path_factory.mktemp("levels") / "store"
    params = SignalIngest(rate_hz=10, channels=tuple("ABCDEFGH"), unit="mV", window_s=2)
    facts = {"modality": "ecg", "shape": [CHANNELS, STEPS], "unit": "mV", "params": params.model_dump(mode="json")}
    rng = np.random.default_rng(0)
    with Writer(folder, facts | {"anatomy_units": {"age_years": "year", "liver_ml": "ml"}}) as writer:
        for patient in range(PATIENTS):
            for trial in range(2):
                level = rng.standard_normal((CHANNELS, 1))
                for index in range(3):
                    x = np.repeat(level + (0.05 * rng.standard_normal((CHANNELS, 1)) if index == 0 else 0), STEPS, 1)
                    x = (x + 1e-6 * index).astype(np.float32)  # no two are exact copies
                    row = {"modality": "ecg", "rate_hz": 10.0, "spacing_mm": None, "unit": "mV"}
                    row |= {"channels": list("ABCDEFGH"), "start_s": 2.0 * index, "duration_s": 2.0}
                    writer.add(x, _row(x, patient, trial, index) | row)
    return open_store(folder)


def encoder_of(store: Store, module: nn.Module) -> Encoder:
    return Encoder(None, {"contract": contract_of(store.facts, int(module.embedding_dim))}, module.eval())  # type: ignore[arg-type]


def test_the_search_is_exact() -> None:
    rng = np.random.default_rng(0)
    z, q = rng.standard_normal((50, 6)), rng.standard_normal((7, 6)) * rng.uniform(0.1, 9, (7, 1))
    index = search.Index(6)
    index.add(z[:20])
    index.add(z[20:])
    cosine, found = index.search(q, 5)
    for i in range(7):
        slow = [float(q[i] @ w / np.linalg.norm(q[i]) / np.linalg.norm(w)) for w in z]
        assert found[i].tolist() == sorted(range(50), key=lambda j: -slow[j])[:5]
        assert cosine[i] == pytest.approx(sorted(slow)[:-6:-1], abs=1e-5)
    for k in (0, 51):
        with pytest.raises(ValueError, match=f"k {k}: expected 1 to 50, the number of windows"):
            index.search(q, k)


def test_without_faiss_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match=r"pip install 'medssl\[search\]'"):
        search.Index(3)


def test_a_crop_is_a_part_of_its_sample(signal_store: Store) -> None:
    class Whole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    rows = np.array([5, 0, 17])
    encoder = Encoder(None, {"contract": contract_of(signal_store.facts, 2 * 16)}, Whole())
    found = search.crops(encoder, signal_store, rows, share=0.25, seed=3).reshape(3, 2, 16)
    starts = []
    for row, crop in zip(rows, found, strict=True):
        x = signal_store[row]
        starts += [s for s in range(49) if np.array_equal(x[:, s : s + 16], crop)]
    assert len(starts) == 3
    assert len(set(starts)) > 1
    assert np.array_equal(search.crops(encoder, signal_store, rows, share=0.25, seed=3).reshape(3, 2, 16), found)
    with pytest.raises(ValueError, match="cannot read crops of \\[32\\] steps"):
        search.crops(encoder, signal_store, rows, share=0.5)
    with pytest.raises(ValueError, match=r"share 0: expected more than 0 and at most 1"):
        search.crops(encoder, signal_store, rows, share=0)


def value(found: pd.DataFrame, of: str, k: int) -> pd.Series[Any]:
    return found[(found["of"] == of) & (found["k"] == k)].iloc[0]


def test_known_answers(levels: Store) -> None:
    found = search.retrieve(encoder_of(levels, Mean()), levels, ks=(3, 1), draws=500)
    assert found[["of", "k"]].to_numpy().tolist() == [["window", 1], ["window", 3], ["recording", 1], ["recording", 3]]
    assert set(found["crops"]) == {60}
    assert set(found["windows"]) == {180}
    assert set(found["patients"]) == {30}
    for k in (1, 3):
        assert value(found, "recording", k)["recall"] == 1
        assert value(found, "recording", k)["lo"] == pytest.approx(0.025 ** (1 / 30))
    assert value(found, "window", 3)["recall"] == 1
    # Two of three windows of a recording look alike: which of them comes first is a matter of rounding.
    first = value(found, "window", 1)
    assert 0.5 < first["recall"] < 1
    assert first["lo"] < first["recall"] < first["hi"]
    assert first["chance"] == pytest.approx(1 / 180)
    assert value(found, "recording", 1)["chance"] == pytest.approx(3 / 180)
    assert value(found, "recording", 3)["chance"] == pytest.approx(1 - (177 * 176 * 175) / (180 * 179 * 178))
    # Two seconds away is the next window; all three begin within four.
    near = search.retrieve(encoder_of(levels, Mean()), levels, ks=(1,), tolerance_s=4, draws=100)
    assert value(near, "window", 1)[["recall", "chance"]].tolist() == pytest.approx([1, 3 / 180])


def test_an_encoder_that_says_nothing_finds_by_chance(levels: Store) -> None:
    found = search.retrieve(encoder_of(levels, Shape()), levels, ks=(60,), draws=100)
    for _, row in found.iterrows():
        assert binomtest(round(row["recall"] * 60), 60, row["chance"]).pvalue > 0.01


def test_crops_are_of_test_recordings_and_windows_of_all(signal_store: Store) -> None:
    module = models.build("dilated1d", in_channels=2, widths=(4, 8), depth=2, seed=0)
    encoder = encoder_of(signal_store, module)
    found = search.retrieve(encoder, signal_store, ks=(1,), draws=100)
    # Four test patients of two recordings: too few for an interval.
    assert found[["crops", "patients", "windows"]].to_numpy().tolist() == [[8, 4, 96]] * 2
    assert found["lo"].isna().all()
    # Of a whole window the crop is the window itself.
    assert (search.retrieve(encoder, signal_store, ks=(1,), share=1, draws=100)["recall"] == 1).all()


def test_a_store_that_is_cut_otherwise_is_refused(levels: Store, signal_store: Store) -> None:
    with pytest.raises(EncoderError, match=r"rate_hz.* not as the encoder asks; ingest the recordings so"):
        search.windows(encoder_of(signal_store, Mean()), levels)


def test_recall_counts_whole_patients() -> None:
    hit, patients = np.array([True, True, False, True]).repeat(10), np.arange(4).repeat(10)
    assert search.recall(hit, np.arange(40), draws=500)["lo"] > 0.55
    assert np.isnan(search.recall(hit, patients, draws=500)["lo"])
    several = search.recall(hit.repeat(5), np.arange(40).repeat(5), draws=500)
    assert several == pytest.approx(search.recall(hit, np.arange(40), draws=500))


def test_the_command(signal_folder: Path, signal_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    architecture = {"name": "dilated1d", "in_channels": 2, "widths": [4, 8], "depth": 2}
    hub.save_encoder(
        tmp_path / "encoder",
        models.build(**architecture, seed=0),  # type: ignore[arg-type]
        architecture=architecture,
        contract=contract_of(signal_store.facts, 8),
        provenance={},
        card="",
    )
    words = ["retrieve", "--encoder", str(tmp_path / "encoder"), "--store", str(signal_folder / "store")]
    assert cli.main([*words, "--k", "1", "2", "--share", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["of", "k", "recall", "lo", "hi", "patients", "chance", "crops", "windows"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["window", "1"],
        ["window", "2"],
        ["recording", "1"],
        ["recording", "2"],
    ]
    assert lines[1].split()[-2:] == ["8", "96"]  # split.parquet lies beside the store
    assert cli.main([*words, "--share", "2"]) == 1
