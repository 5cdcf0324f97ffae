"""The sample table: its columns, its checks and its keyed hashes.

One row a sample. Identity is three int64 codes: ``patient`` and ``trial`` are keyed hashes, unique over all
sources of a project, ``index_in_trial`` counts the samples of a trial. Which covariates and labels exist
differs by cohort: ``anat_<measure>`` (float, NaN = unknown) and ``label_<task>`` (float, string or list of
strings, null = unknown).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

IDENTITY = ("sample_id", "patient", "trial", "index_in_trial")
COLUMNS = (
    *IDENTITY,
    *("modality", "source", "shard", "row", "rate_hz", "spacing_mm", "unit", "channels", "start_s", "duration_s"),
    *("quality", "content", "fold"),
)
REJECT_COLUMNS = ("path", "stage", "reason", "detail")
SPLITS = ("train", "val", "test")
_OF_FOLD = re.compile(r"(split|kept|duplicate_of|distance|method)@\d+")


def keyed_code(key: bytes, *parts: str) -> int:
    """Return a positive int64 from a keyed hash (HMAC-SHA256) of ``parts``; without the key it cannot be undone."""
    digest = hmac.new(key, "\x1f".join(parts).encode(), "sha256").digest()
    return int.from_bytes(digest[:8], "big") >> 1


def keyed_name(key: bytes, *parts: str) -> str:
    """Return twelve hex digits from the same keyed hash, to name a file without showing its path."""
    return f"{keyed_code(key, *parts):016x}"[:12]


def patient_codes(patients: Iterable[int]) -> list[str]:
    """Return keyed codes of patients as text, each once, sorted."""
    return sorted({f"{int(code):016x}" for code in patients})


def seen_patients(patients: Iterable[int], key: bytes) -> dict[str, Any]:
    """Return what an encoder's folder says of the patients who decided its weights, or which of them were kept.

    Args:
        patients: keyed codes, of training and validation.
        key: of the project; only codes under an equal key can be compared.
    """
    return {"key": keyed_name(key, "identity"), "patients": patient_codes(patients)}


def content_hash(array: np.ndarray) -> str:
    """Return a hash of an array's content that forgives gain, offset and rounding.

    The array is centred, scaled to unit standard deviation, cut to +-8 and quantised to int16 in steps of 1/512.
    Equal recordings that were exported in other units or with another offset get the same hash. A constant array
    hashes by its shape alone.
    """
    values = np.array(array, dtype=np.float64)
    values -= values.mean()
    spread = np.sqrt(np.square(values).mean())
    values *= 512 / spread if spread > 1e-12 else 0.0
    quantised = np.rint(np.clip(values, -4096, 4096, out=values), out=values).astype("<i2")
    digest = hashlib.blake2b(quantised.tobytes(), digest_size=16, person=b"medssl-content")
    digest.update(repr(quantised.shape).encode())
    return digest.hexdigest()


def sample_id(content: str, patient: int, trial: int, index: int) -> str:
    """Return the 16 hex digits that name one sample: its content and where it belongs."""
    text = f"{content}/{patient}/{trial}/{index}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def tasks(table: pd.DataFrame) -> list[str]:
    """Return the names of the label columns, without prefix."""
    return [str(c).removeprefix("label_") for c in table.columns if str(c).startswith("label_")]


def measures(table: pd.DataFrame) -> list[str]:
    """Return the names of the anatomy columns, without prefix."""
    return [str(c).removeprefix("anat_") for c in table.columns if str(c).startswith("anat_")]


def folds(table: pd.DataFrame) -> list[str]:
    """Return the columns of cross-fitted splits in order: ``split@0``, ``split@1`` ..."""
    number = sum(str(c).startswith("split@") for c in table.columns)
    return [f"split@{fold}" for fold in range(number)]


def of_fold(table: pd.DataFrame, fold: int | None) -> pd.DataFrame:
    """Return the table with the split and the receipts of one fold, or of the fixed split (None), in their plain names.

    Raises:
        ValueError: a fold that the split does not have.
    """
    suffix = f"@{fold}"
    if fold is not None and f"split{suffix}" not in table:
        raise ValueError(f"fold {fold}: the split has {len(folds(table))} folds; see modalities.<name>.split.folds")
    of_folds = [c for c in map(str, table.columns) if _OF_FOLD.fullmatch(c)]
    chosen = {c.removesuffix(suffix): table[c] for c in of_folds if c.endswith(suffix)}
    return table.drop(columns=of_folds).assign(**chosen)


def check(table: pd.DataFrame, where: str) -> None:
    """Refuse a sample table that lacks columns, repeats a sample or has identities of another type.

    Raises:
        ValueError: with the column and what is expected.
    """
    missing = [c for c in COLUMNS if c not in table.columns]
    if missing:
        raise ValueError(f"{where}: columns {missing} are missing; expected {list(COLUMNS)}. Ingest again.")
    for column in ("patient", "trial", "index_in_trial"):
        if table[column].dtype != np.int64:
            raise ValueError(f"{where}: {column} is {table[column].dtype}; expected int64")
    repeated = table["sample_id"][table["sample_id"].duplicated()]
    if len(repeated):
        raise ValueError(f"{where}: sample_id {repeated.iloc[0]} appears more than once; ids must be unique")
    owners = table.groupby("trial")["patient"].nunique()
    if (owners > 1).any():
        raise ValueError(f"{where}: trial {owners.idxmax()} belongs to more than one patient; codes must be unique")


def join(table: pd.DataFrame, extra: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return ``table`` with the columns of ``extra`` (keyed by ``sample_id``), every row matched exactly once."""
    if len(extra) != len(table) or set(extra["sample_id"]) != set(table["sample_id"]):
        raise ValueError(
            f"{where}: {len(extra)} rows do not match the {len(table)} samples of the store; "
            "the store changed since: run `dvc repro`"
        )
    fresh = [c for c in extra.columns if c == "sample_id" or c not in table.columns]
    return table.merge(extra[fresh], on="sample_id", how="left", validate="one_to_one")


def unit_of(table: pd.DataFrame, column: str) -> str:
    """Return the coarsest unit (``patient``, ``trial`` or ``sample``) within which a label is constant.

    A disease belongs to a patient, rest or exercise to a trial. Embeddings are averaged over that unit before a
    linear model sees them, so that n is never the number of windows.
    """
    known = table[table[column].notna()]
    values = known[column].map(
        lambda v: tuple(map(str, v)) if isinstance(v, Sequence | np.ndarray) and not isinstance(v, str) else v
    )
    for unit in ("patient", "trial"):
        if (values.groupby(known[unit]).nunique() <= 1).all():
            return unit
    return "sample_id"
