"""Any encoder on any store, without DVC: the same evaluation as a run's, by one function."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl import hub
from medssl import table as tables
from medssl.config import TRAINED, Evaluate
from medssl.curate import dedup, split
from medssl.evaluate import frozen, labels, outcome, trust
from medssl.evaluate.results import Predictions
from medssl.evaluate.tasks import Task
from medssl.models.embed import device_of
from medssl.store import Store, read_parquet

FOLDS = re.compile(r"(\d+)(?:x(\d+))?")


def splits(store: Store, wanted: str | None, *, seed: int = 0) -> pd.DataFrame:
    """Return ``sample_id`` and the splits of a store: ``split``, or ``split@0`` and on for folds.

    Args:
        store: with its table.
        wanted: a Parquet file of such columns; ``5`` or ``5x2`` for 5 folds, in 2 repeats; the name of a published
            split; None: ``split.parquet`` beside the store, else 5 folds.
        seed: of folds.

    Raises:
        ValueError: none of these, or a file of other samples.
    """
    table, beside = store.table, store.folder.parent / "split.parquet"
    if wanted is None and not beside.is_file():
        wanted = "5"
    path = beside if wanted is None else Path(wanted)
    if path.is_file():
        read = read_parquet(path)
        tables.join(table, read, str(path))
        return read.set_index("sample_id").loc[table["sample_id"]].reset_index()
    if wanted in split.PUBLISHED:
        parts = pd.DataFrame({"split": split.published(table, str(wanted))})
    elif match := FOLDS.fullmatch(str(wanted)):
        number, repeats = int(match[1]), int(match[2] or 1)
        parts = split.folds(table, folds=number, repeats=repeats, seed=seed)
    else:
        named = ", ".join(split.PUBLISHED)
        raise ValueError(f"--split {wanted}: expected a Parquet file, folds such as 5 or 5x2, or one of {named}")
    return table[["sample_id"]].join(parts)


def evaluate(
    encoders: Sequence[hub.Encoder],
    store: Store,
    parts: pd.DataFrame,
    wanted: Evaluate,
    *,
    out: Path,
    key: bytes,
    cache: Path | None = None,
    accelerator: str = "auto",
    progress: bool = True,
) -> tuple[dict[str, Any], list[trust.Check]]:
    """Evaluate encoders, each of another training, and write `outcome.FILES` to ``out``; return metrics and checks.

    Args:
        encoders: of one kind; their inputs are converted by their contracts.
        store: the samples and labels.
        parts: of `splits`.
        wanted: labels (none: all the store has), budgets, protocols.
        key: of the project, for the codes of patients.
        cache: folder of features.
        accelerator: as of ``compute``.
        progress: show bars.

    Raises:
        ValueError: a protocol that trains a network is asked for; the stages of a run do that.
    """
    if trained := [name for name in wanted.protocols or () if name in TRAINED]:
        raise ValueError(
            f"protocols {', '.join(trained)} train networks, which a run of the pipeline does: give it the encoder as "
            "runs.<name>.encoder_from"
        )
    store.table = tables.join(store.table, parts, "split")
    if "method" not in store.table:
        one = dedup.originals(store.table)
        store.table = store.table.assign(method=["" if first else "exact" for first in one])
    whole, results, said = store.table, Predictions(), []
    names = wanted.labels or tuple(tables.tasks(whole))
    folds: list[int | None] = [*range(len(tables.folds(whole)))] or [None]
    repeats = 1 if folds == [None] else _repeats(whole)
    for fold in folds:
        store.table = tables.of_fold(whole, fold)
        left_out = labels.left_out(store.table, names)
        part = frozen.Part(
            store,
            [Task.of(store.table, name) for name in names if name not in left_out],
            wanted,
            results,
            fold=fold or 0,
            repeat=(fold or 0) * repeats // len(folds),
            cache=cache,
            device=device_of(accelerator),
            progress=progress,
        )
        said.append(outcome.notes(left_out, frozen.evaluate(part, encoders, key=key)))
    reads = [name for encoder in encoders[:1] for name in encoder.config.get("provenance", {}).get("reads", ())]
    return outcome.write(out, out.name, results.frame(), said, store.table, reads=reads, draws=wanted.bootstrap)


def _repeats(table: pd.DataFrame) -> int:
    """Return how often each patient is tested."""
    return int(np.sum([table[name] == "test" for name in tables.folds(table)], axis=0).max())
