"""What limits cost: counts of a store as ingest writes it against all samples measured without limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import costs
from medssl.ingest.build import build
from medssl.sources.record import Record, Signal, Volume

SHARES = (0.0, 0.08, 0.3, 0.3, 0.6, 0.95)


def still_for(share: float) -> Signal:
    """Return 10 s of noise at 100 Hz that stands still for a share of them."""
    x = np.random.default_rng(round(100 * share)).standard_normal((1, 1000)).astype(np.float32)
    x[0, : round(1000 * share)] = 0.5
    return Signal(x, 100, ("I",), "mV")


def store_of(folder: Path, monkeypatch: pytest.MonkeyPatch, max_flat: float) -> list[costs.Cost]:
    monkeypatch.setattr(sources, "read", lambda record: still_for(SHARES[int(record.patient)]))
    params = SignalIngest(
        rate_hz=100, channels=("I",), unit="mV", window_s=10, max_flat=max_flat, max_reject_share=1, normalise="none"
    )
    records = [Record(Path("x"), "wfdb", str(i), "t") for i in range(len(SHARES))]
    made = build(records, folder / str(max_flat), key="ecg", params=params, secret=b"0" * 32, progress=False)
    return costs.of_store(made.table, made.rejects, params)


def test_each_value_of_a_limit_has_its_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing, flat, *_ = store_of(tmp_path, monkeypatch, 1.0)
    assert (missing.limit, missing.value, missing.refused) == ("max_missing", 0.05, 0)
    assert set(missing.shares.values()) == {0.0}  # what refused nothing refuses nothing at looser values
    assert (flat.limit, flat.value, flat.refused) == ("max_flat", 1.0, 0)
    assert flat.shares == pytest.approx(
        {"0.05": 5 / 6, "0.1": 4 / 6, "0.25": 4 / 6, "0.5": 2 / 6, "0.75": 1 / 6, "0.9": 1 / 6}
    )


def test_a_limit_in_force_knows_no_looser_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = store_of(tmp_path, monkeypatch, 1.0)[1].shares
    _, flat, clipped, *_ = store_of(tmp_path, monkeypatch, 0.5)
    assert (flat.value, flat.refused) == (0.5, 2)
    assert flat.shares == {at: None if float(at) > 0.5 else pytest.approx(share) for at, share in known.items()}
    assert (clipped.limit, clipped.value) == ("max_clipped", None)
    assert set(clipped.shares.values()) == {0.0}


def test_blank_patches_cost_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.full((4, 16, 16), -1000, np.float32)
    x[:, :6] = np.random.default_rng(0).uniform(0, 100, (4, 6, 16))  # 6 of 16 rows: none, half or all of a patch
    monkeypatch.setattr(sources, "read", lambda record: Volume(x, (1, 1, 1), "HU"))
    base = {"samples": "patches", "size": (4, 4, 4), "hu_window": (-1000, 1000), "unit": "HU"}
    for limit, kept in ((None, 8), (0.4, 4)):
        params = VolumeIngest(**base, max_blank=limit)  # type: ignore[arg-type]
        records = [Record(Path("x"), "nifti", "p", "t")]
        made = build(records, tmp_path / f"{limit}", key="ct", params=params, secret=b"0" * 32, progress=False)
        assert len(made) == kept
        [cost] = costs.of_store(made.table, made.rejects, params)
        assert (cost.limit, cost.value) == ("max_blank", limit)
        assert cost.refused == 8 - kept  # the 8 of air alone are constant


def test_measures_without_limits() -> None:
    found = costs.of_measures({"flat": np.array([0.0, 0.2, 1.0, np.nan]), "clipped": np.array([np.nan])})
    assert [c.limit for c in found] == ["max_flat"]
    assert found[0].shares == {"0.05": 0.5, "0.1": 0.5, "0.25": 0.25, "0.5": 0.25, "0.75": 0.25, "0.9": 0.25}
