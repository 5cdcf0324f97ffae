"""One record to samples: columns of quality, refused windows with their reason, and the encoder's input in step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medssl import hub, models, sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.hub import recordings
from medssl.ingest import contract as contracts
from medssl.ingest.build import build
from medssl.ingest.cut import Cut, cut
from medssl.sources.record import Record, Signal, Volume
from tests.ingest.test_beats import ecg, ppg, rhythm

RATE = 250


def cut_this(
    monkeypatch: pytest.MonkeyPatch, raw: Signal | Volume, modality: str | None = None, **params: Any
) -> Cut | tuple[str, str]:
    monkeypatch.setattr(sources, "read", lambda record: raw)
    kind: Any = SignalIngest if isinstance(raw, Signal) else VolumeIngest
    options = {"start_s": params.pop("start_s", None), "mask_labels": params.pop("mask_labels", {})}
    record = Record(Path("x"), "wfdb", "p", "t", **options)
    return cut(record, params=kind(**params), modality=modality)


def heart(seconds: float = 20.0) -> Signal:
    return Signal(ecg(rhythm("regular", seconds), RATE, seconds), RATE, ("I", "II", "V1"), "mV")


BASE: dict[str, Any] = {"rate_hz": 100, "channels": ("I", "II"), "unit": "mV", "window_s": 2}


def test_rows_carry_quality_and_the_old_column_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = heart()
    raw.values[1, 6 * RATE : 7 * RATE] = raw.values[1, 6 * RATE]
    done = cut_this(monkeypatch, raw, "ecg", start_s=100.0, **BASE)
    assert isinstance(done, Cut)
    assert [row["start_s"] for row in done.rows] == [100.0 + 2 * i for i in range(10)]
    assert done.refused == []
    assert {k for k in done.rows[0] if k.startswith("quality_")} == {
        f"quality_{name}" for name in ("flat", "clipped", "missing", "out_of_range", "line_noise", "rms", "psqi")
    }
    assert all(row["quality"] == 1 - row["quality_flat"] for row in done.rows)
    assert done.rows[3]["quality_flat"] == pytest.approx(0.5, abs=0.02)
    assert all(isinstance(v, float) for k, v in done.rows[0].items() if k != "_anatomy")


@pytest.mark.parametrize(
    ("limit", "reason"), [("max_clipped", "clipped"), ("max_out_of_range", "out_of_range"), ("max_line_noise", "line")]
)
def test_limits_are_off_until_asked_for(monkeypatch: pytest.MonkeyPatch, limit: str, reason: str) -> None:
    raw = heart()
    t = np.arange(raw.values.shape[1]) / RATE
    here = (t >= 4) & (t < 6)
    raw.values[0, here] += {
        "clipped": np.where(t[here] < 5, 1e3, 0.0),
        "out_of_range": np.where(t[here] < 5, 20 + t[here], 0.0),
        "line": 3 * np.sin(2 * np.pi * 50 * t[here]),
    }[reason]
    if reason == "clipped":
        raw.values[0] = np.minimum(raw.values[0], 5)
    free = cut_this(monkeypatch, raw, "ecg", **BASE)
    strict = cut_this(monkeypatch, raw, "ecg", **BASE, **{limit: 0.4})
    assert isinstance(free, Cut)
    assert isinstance(strict, Cut)
    assert len(free.rows) == 10
    assert free.refused == []
    assert [row["start_s"] for row in strict.rows] == [i * 2.0 for i in range(10) if i != 2]
    assert len(strict.samples) == 9
    [(code, detail)] = strict.refused
    assert code.startswith(reason)
    assert "of the window at 4 s" in detail
    assert "allowed 40%" in detail


def test_a_window_with_two_faults_has_one_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = heart()
    raw.values[0, 4 * RATE : 6 * RATE] = 50
    done = cut_this(monkeypatch, raw, "ecg", **BASE, max_out_of_range=0.1, max_clipped=0.1)
    assert isinstance(done, Cut)
    assert [reason for reason, _ in done.refused] == ["flat"]


def test_a_gap_costs_the_windows_that_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((1, 100_000)).astype(np.float32)
    x[:, 40_350:44_000] = np.nan
    params = SignalIngest(rate_hz=100, channels=("A",), unit="uV", window_s=10)
    for values, kept in ((x, 96), (np.where(np.arange(100_000) < 60_000, np.nan, x), 40)):
        monkeypatch.setattr(sources, "read", lambda record, v=values: Signal(v.astype(np.float32), 100, ("A",), "uV"))
        done = cut(Record(Path("x"), "edf", "p", "t"), params=params, modality="eeg")
        assert isinstance(done, Cut)
        assert len(done.rows) == len(done.samples) == kept
        assert {reason for reason, _ in done.refused} == {"missing"}
        assert max(row["quality_missing"] for row in done.rows) == 0
    monkeypatch.setattr(
        sources, "read", lambda record: Signal(np.full((1, 5000), np.nan, np.float32), 100, ("A",), "uV")
    )
    done = cut(Record(Path("x"), "edf", "p", "t"), params=params, modality="eeg")
    assert done == ("missing_values", "100% of a channel is missing")


def test_beats_are_samples_and_those_at_the_border_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    times = rhythm("regular", 20)
    done = cut_this(monkeypatch, heart(), "ecg", **BASE | {"window_s": 1.2}, cut="beats", start_s=7.0)
    assert isinstance(done, Cut)
    centres = np.array([row["start_s"] for row in done.rows]) - 7.0 + 0.6
    assert np.allclose(centres, times[(times > 0.6) & (times < 19.4)], atol=0.015)
    border = [detail for reason, detail in done.refused if reason == "border"]
    assert len(border) == len(times) - len(centres) > 0
    assert border[0] == "the window around the beat at 0.21 s leaves the recording"
    assert done.samples.shape == (len(centres), 2, 120)


def test_a_beat_is_what_the_modality_or_the_unit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    times = rhythm("regular", 20)
    raw = Signal(ppg(times, RATE, 20), RATE, ("PPG",), "1")
    params = {"rate_hz": 100, "channels": ("PPG",), "unit": "1", "window_s": 0.8, "cut": "beats"}
    for modality in (None, "ppg"):
        done = cut_this(monkeypatch, raw, modality, **params)
        assert isinstance(done, Cut)
        assert "quality_skewness" in done.rows[0]
        centres = np.array([row["start_s"] for row in done.rows]) + 0.4
        assert np.abs(centres[:, None] - times).min(1).max() < 0.05
    assert cut_this(monkeypatch, raw, "eeg", **params)[0] == "unsupported"  # type: ignore[index]
    still = Signal(np.zeros((1, 5000), np.float32), RATE, ("PPG",), "1")
    assert cut_this(monkeypatch, still, "ppg", **params)[0] == "no_beats"  # type: ignore[index]


def test_derived_leads_and_notch_reach_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = heart()
    params = BASE | {"channels": ("II", "aVF"), "normalise": "none"}
    assert cut_this(monkeypatch, raw, "ecg", **params)[0] == "missing_channel"  # type: ignore[index]
    done = cut_this(monkeypatch, raw, "ecg", **params, absent="derive")
    limbs = cut_this(monkeypatch, raw, "ecg", **BASE | {"normalise": "none"})
    assert isinstance(done, Cut)
    assert isinstance(limbs, Cut)
    one, two = limbs.samples[:, 0], limbs.samples[:, 1]
    assert np.allclose(done.samples, np.stack([two, two - one / 2], 1), atol=1e-4)
    t = np.arange(raw.values.shape[1]) / RATE
    hum = Signal(raw.values + np.sin(2 * np.pi * 50 * t).astype(np.float32), RATE, raw.channels, "mV")
    clean = cut_this(monkeypatch, raw, "ecg", **BASE | {"rate_hz": 200}, notch_hz=50)
    notched = cut_this(monkeypatch, hum, "ecg", **BASE | {"rate_hz": 200}, notch_hz=50)
    assert isinstance(clean, Cut)
    assert isinstance(notched, Cut)
    assert np.abs(notched.samples - clean.samples)[1:-1].max() < 0.01
    assert notched.rows[3]["quality_line_noise"] > 0.5  # of the recording, not of what the filter left


def test_the_encoder_prepares_its_input_as_the_samples_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raw = heart()
    raw = Signal(raw.values[:2], RATE, ("I", "II"), "mV")
    params = SignalIngest(
        **BASE | {"channels": ("aVL", "II"), "window_s": 1.2}, cut="beats", absent="derive", notch_hz=50
    )
    monkeypatch.setattr(sources, "read", lambda record: raw)
    done = cut(Record(Path("x"), "wfdb", "p", "t"), params=params, modality="ecg")
    assert isinstance(done, Cut)
    encoder = encoder_of(tmp_path, "ecg", params, "resnet1d", 2)
    parts = encoder.pieces(raw).samples
    assert np.array_equal(parts, done.samples)
    encoder = as_of_earlier(encoder, contracts.SIGNAL_OPTIONS)
    parts = encoder.pieces(Signal(raw.values, RATE, ("II", "aVL"), "mV")).samples
    assert parts.shape == (16, 2, 120)


def test_the_encoder_crops_as_the_samples_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = np.full((8, 30, 30), -1000, np.float32)
    x[2:7, 10:24, 5:17] = np.random.default_rng(0).uniform(-100, 200, (5, 14, 12))
    raw = Volume(x, (2.0, 1.0, 1.0), "HU")
    params = VolumeIngest(size=(8, 8, 8), spacing_mm=(2, 2, 2), hu_window=(-200, 300), unit="HU", crop="foreground")
    monkeypatch.setattr(sources, "read", lambda record: raw)
    done = cut(Record(Path("x"), "nifti", "p", "t"), params=params)
    assert isinstance(done, Cut)
    encoder = encoder_of(tmp_path, "ct", params, "resnet3d", 1)
    assert np.array_equal(encoder.pieces(Volume(x, (2, 1, 1), "HU")).samples, done.samples)


def test_patches_are_samples_with_measures_and_the_encoder_averages_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x = np.full((8, 24, 24), -1000, np.float32)
    x[:, :16] = np.random.default_rng(0).uniform(-100, 200, (8, 16, 24))  # the last third is air
    raw = Volume(x, (2.0, 1.0, 1.0), "HU")
    params = VolumeIngest(samples="patches", size=(8, 8, 8), hu_window=(-200, 300), unit="HU", normalise="zscore")
    monkeypatch.setattr(sources, "read", lambda record: raw)
    done = cut(Record(Path("x"), "nifti", "p", "t", anatomy={"age_years": 60.0}), params=params)
    assert isinstance(done, Cut)
    assert done.samples.shape == (6, 1, 8, 8, 8)
    assert [reason for reason, _ in done.refused] == ["blank"] * 3
    assert done.refused[0][1] == "patch 6 is constant"
    assert done.rows[4]["_anatomy"]["position_back"] == pytest.approx(11.5 / 23)
    assert done.rows[4]["_anatomy"]["age_years"] == 60
    assert {row["_anatomy"]["body_share"] for row in done.rows} == {1.0}
    encoder = encoder_of(tmp_path, "ct", params, "resnet3d", 1)
    parts = encoder.pieces(Volume(x, (2, 1, 1), "HU")).samples
    assert np.array_equal(parts[:6], done.samples)
    assert encoder.embed(x, spacing_mm=(2, 1, 1)).shape == (1, 4)


def test_an_encoder_of_an_earlier_version_embeds_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-100, 200, (8, 8, 8)).astype(np.float32)
    params = VolumeIngest(size=(8, 8, 8), hu_window=(-200, 300), unit="HU")
    monkeypatch.setattr(sources, "read", lambda record: Volume(x, (1.0, 1.0, 1.0), "HU"))
    records = [Record(Path("x"), "nifti", "p", "t")]
    build(records, tmp_path / "store", key="ct", params=params, secret=b"0" * 32, progress=False)
    encoder = as_of_earlier(encoder_of(tmp_path / "encoder", "ct", params, "resnet3d", 1), contracts.IMAGE_OPTIONS)
    assert len(recordings.embed(encoder, tmp_path / "store")) == 1
    encoder.contract["crop"] = "foreground"
    with pytest.raises(ValueError, match="in crop"):
        recordings.embed(encoder, tmp_path / "store")


def encoder_of(
    folder: Path, modality: str, params: SignalIngest | VolumeIngest, name: str, channels: int
) -> hub.Encoder:
    architecture = {"name": name, "in_channels": channels, "widths": [4, 4, 4, 4], "depth": 1}
    with torch.random.fork_rng():
        module = models.build(**architecture)  # type: ignore[arg-type]
    facts = {"modality": modality, "unit": params.unit, "params": params.model_dump(mode="json")}
    contract = hub.contract_of(facts, 4)
    hub.save_encoder(folder / "e", module, architecture=architecture, contract=contract, provenance={}, card="")
    return hub.load_encoder(folder / "e")


def as_of_earlier(encoder: hub.Encoder, options: dict[str, Any]) -> hub.Encoder:
    """Return the encoder as an earlier version left it, whose contract does not name the options."""
    contract = {k: v for k, v in encoder.config["contract"].items() if k not in options}
    assert len(contract) == len(encoder.config["contract"]) - len(options)
    return hub.Encoder(encoder.folder, {**encoder.config, "contract": contract}, encoder.module)


def organs() -> Volume:
    mask = np.zeros((6, 8, 8), int)
    mask[2:4, 1:3, 1:4] = 1
    mask[4:, 5:, 5:] = 2
    x = np.where(mask == 1, 50.0, np.where(mask == 2, -700.0, 10.0)).astype(np.float32)
    return Volume(x, (5.0, 2.0, 2.0), "HU", mask)


def test_organs_that_go_on_outside_are_flagged_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    params: dict[str, Any] = {"size": (8, 8), "samples": "slices", "hu_window": (-1000, 1000), "unit": "HU"}
    params["mask_labels"] = {1: "spleen", 2: "lung", 3: "liver"}
    kept = cut_this(monkeypatch, organs(), **params)
    missing = cut_this(monkeypatch, organs(), **params, truncated="missing")
    assert isinstance(kept, Cut)
    assert isinstance(missing, Cut)
    for done in (kept, missing):
        for row in done.rows:
            assert {k: v for k, v in row.items() if k.endswith("truncated")} == {
                "quality_truncated": 1,
                "quality_spleen_truncated": 0,
                "quality_lung_truncated": 1,
            }
    anatomy = kept.rows[0]["_anatomy"]
    assert anatomy["lung_ml"] == pytest.approx(18 * 20 / 1000)
    assert anatomy["lung_hu"] == pytest.approx(-700)
    assert anatomy["spleen_hu"] == pytest.approx(50)
    assert not {k for k in missing.rows[0]["_anatomy"] if k in ("lung_ml", "lung_hu")}
    assert missing.rows[0]["_anatomy"]["spleen_ml"] == anatomy["spleen_ml"]


def test_refused_windows_do_not_decide_the_scale_of_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = heart()
    raw.values[:, 7 * RATE : 7 * RATE + 20] += 50
    plain, scaled = (
        cut_this(monkeypatch, raw, "ecg", **BASE, max_out_of_range=0.005, normalise=how) for how in ("none", "record")
    )
    assert isinstance(plain, Cut) and isinstance(scaled, Cut)
    assert [reason for reason, _ in scaled.refused] == ["out_of_range"]
    assert np.square(scaled.samples).mean() == pytest.approx(1, rel=1e-4)
    total = sum(((c - c.mean()) ** 2).sum() for w in plain.samples for c in w.astype(float))
    number = (total / plain.samples.size) ** 0.5
    for before, after in zip(plain.samples, scaled.samples, strict=True):
        np.testing.assert_allclose(after, (before - before.mean(axis=1, keepdims=True)) / number, atol=1e-4)


def test_the_columns_reach_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raw = heart()
    monkeypatch.setattr(sources, "read", lambda record: raw)
    records = [Record(tmp_path / f"{i}.hea", "wfdb", str(i), "t", "s") for i in range(2)]
    store = build(records, tmp_path / "s", key="ecg", params=SignalIngest(**BASE), secret=b"k", progress=False)
    table = store.table
    shares = [c for c in table.columns if c.startswith("quality_") and c not in ("quality_psqi", "quality_rms")]
    assert len(shares) == 5
    assert table[shares].to_numpy().min() >= 0
    assert table[shares].to_numpy().max() <= 1
    assert np.allclose(table["quality"], 1 - table["quality_flat"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cut": "beats", "overlap": 0.5}, "overlap: 0.5 is for cut: windows"),
        ({"notch_hz": 55}, "50 or 60"),
        ({"absent": "nan"}, "'refuse' or 'derive'"),
        ({"max_clipped": 1.5}, "less than or equal to 1"),
    ],
)
def test_params_that_cannot_be(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SignalIngest(**BASE | wrong)
