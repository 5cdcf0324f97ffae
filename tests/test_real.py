"""Real recordings, laid out as published: listed, ingested and split without an unexplained reject."""

import os
from pathlib import Path

import pytest
import yaml

from medssl import config, sources
from medssl.curate import dedup, leakage, split
from medssl.ingest.build import build
from medssl.workspace import params_for

REAL = os.environ.get("MEDSSL_REAL_DATA")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not REAL, reason="MEDSSL_REAL_DATA is unset")]
ROOT = Path(__file__).parents[1]
RAW = yaml.safe_load((ROOT / "params.real.yaml").read_text())


def test_params_for_real_data_find_every_set() -> None:
    params = config.parse(params_for("params.real.yaml", Path(str(REAL))))
    assert set(params.modalities) == set(RAW["modalities"])
    assert set(params.runs) == set(RAW["runs"])


@pytest.mark.parametrize("key", RAW["modalities"])
def test_a_real_set_becomes_a_store_and_a_split(key: str, tmp_path: Path) -> None:
    params = config.parse(params_for("params.real.yaml", Path(str(REAL))))
    wanted = params.modalities[key]
    records = sources.list_records(wanted.source.name, Path(wanted.source.root))
    # Patients apart: the first of the list are enough here, and test folds must be among them.
    records = records if key == "ecg" else records[:60]
    store = build(records, tmp_path / "store", key=key, params=wanted.ingest, secret=b"key", progress=False)
    # Every record is used; of the phone camera's, seconds in which its picture does not change are left out.
    assert set(store.rejects["reason"]) <= ({"flat"} if key == "ppg-camera" else set()), store.rejects.to_dict()
    assert store.table["trial"].nunique() == len(records)
    receipts = dedup.receipts(store.table)
    table = store.table.merge(receipts, on="sample_id")
    shares = {"train": wanted.split.train, "val": wanted.split.val, "test": wanted.split.test}
    folds = wanted.split.publisher_folds
    table["split"] = split.by_patient(table, shares=shares, stratify=(), seed=1, folds=folds)
    assert leakage.find(table) == []
    identifiers = {r.patient for r in records if len(r.patient) > 3}
    # Hashes hold any digits, and counters run through the numbers that PTB-XL gives to patients.
    text = store.table.drop(columns=["sample_id", "content", "row"]).to_csv(index=False)
    assert not [i for i in identifiers if f",{i}," in text]
