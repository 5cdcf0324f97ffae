"""Embeddings of recordings in files, or of a store, one row a sample, with what else is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from medssl import project, sources, table
from medssl.hub import Encoder
from medssl.ingest import contract
from medssl.models.embed import device_of, embed_samples
from medssl.sources import events, manifest
from medssl.sources.record import BadRecord, Record, SourceError
from medssl.store import Store, open_store


def embed(
    encoder: Encoder, path: Path, *, records: Sequence[Record] | None = None, secret: bytes | None = None
) -> pd.DataFrame:
    """Return one row per sample with its ``embedding``; ``reason`` says why there is none.

    A store gives its identity columns (``sample_id``, ``patient``, ``trial``, ``index_in_trial``), ``start_s`` and
    labels. A table of files gives ``row``, the 1-based row of the table, and ``sample``, which counts the windows or
    slices of that file, refused ones too; ``patient`` and ``trial``, the codes that a store of the same table has in
    this project; ``start_s`` of windows; and the table's own ``label_<task>`` and ``anat_<measure>``. One file is row
    1, of no known patient; of a folder without a table rows are its recordings in order. Windows that ingest would
    refuse have a reason and no embedding. Names stay out.

    Args:
        path: a store, a table of files, a folder that holds one as its manifest, or one recording.
        records: what lies in ``path``, a folder without a table, in order; None: as ``path`` says.
        secret: key of the codes; None: the project's (`medssl.project.identity_key`).

    Raises:
        ValueError: a store whose samples do not fit the contract; a path that is none of these.
    """
    encoder.module.to(device := device_of("auto"))
    if (path / "store.json").exists():
        store = open_store(path)
        differing = contract.differences(encoder.contract, store.facts)
        if differing:
            raise ValueError(f"{path}: differs from the encoder's contract in {', '.join(differing)}; ingest it anew")
        z = embed_samples(encoder.module, store.scaled_by(encoder.scale), device=device, progress=True)
        return _known(store).assign(reason="", embedding=list(z))
    if records is not None:
        records, secret = [replace(record, row=row) for row, record in enumerate(records, start=1)], None
    elif (path.is_file() and path.suffix in (".csv", ".parquet")) or manifest.in_folder(path):
        try:
            records = manifest.list_records(path) if path.is_dir() else manifest.list_table(path)
        except SourceError as error:
            raise ValueError(
                f"{error}. A recording that is itself a table is embedded by a table of files: path, patient, trial, "
                "rate_hz, unit"
            ) from None
        secret = secret or project.identity_key(project.root())
    elif path.exists():
        records = [Record(path=path.resolve(), format=manifest.format_of(path), patient="", trial="", row=1)]
        secret = None
    else:
        raise ValueError(f"{path}: no such file or folder; expected a store, a table of files or one recording")
    rows = []
    for record in tqdm(records, desc="embed", disable=None, leave=False):
        of_record = _of_record(record, secret)
        rows += [{**of_record, **of_sample} for of_sample in _samples(encoder, record)]
    found = pd.DataFrame(rows).sort_values(["row", "sample"], ignore_index=True)
    first, last = ("row", "sample", "patient", "trial", "start_s"), ("reason", "embedding")
    between = sorted(set(found.columns) - {*first, *last}, key=lambda name: (name.startswith("anat_"), name))
    return found[[*(name for name in first if name in found), *between, *last]]


def _known(store: Store) -> pd.DataFrame:
    """Return what the table of a store says of its samples that a table of embeddings may say too."""
    return store.table[[*table.IDENTITY, "start_s", *(f"label_{task}" for task in table.tasks(store.table))]]


def _of_record(record: Record, secret: bytes | None) -> dict[str, Any]:
    """Return the columns that all samples of a record share."""
    out: dict[str, Any] = {"row": record.row}
    if secret is not None:
        out["patient"] = table.keyed_code(secret, record.source, record.patient)
        out["trial"] = table.keyed_code(secret, record.source, record.patient, record.trial)
    out |= {f"label_{task}": list(v) if isinstance(v, tuple) else v for task, v in record.labels.items()}
    return out | {f"anat_{measure}": value for measure, value in record.anatomy.items()}


def _samples(encoder: Encoder, record: Record) -> list[dict[str, Any]]:
    """Return the columns of each sample of a record, or one row with the reason why there is none."""
    signal = "rate_hz" in encoder.contract
    try:
        made = encoder.pieces(sources.read(record))
        starts = (record.start_s or 0.0) + np.array(made.places if signal else [], dtype=float)
        classes = events.labels_of(record, starts, encoder.contract["window_s"]) if signal else {}
    except (BadRecord, SourceError) as error:
        return [{"sample": 0, "start_s": np.nan, "reason": str(error), "embedding": None}]
    if not len(made.samples):
        none = made.outside or [("no_samples", "the recording holds no window")]
        return [{"sample": 0, "start_s": np.nan, "reason": ": ".join(none[0]), "embedding": None}]
    kept = made.kept
    embedded = dict(zip(kept, encoder.encode(made.samples[kept]) if kept else (), strict=True))
    return [
        {
            "sample": i,
            "start_s": float(starts[i]) if signal else np.nan,
            **{f"label_{task}": names[i] for task, names in classes.items()},  # stands over one of the record
            "reason": ": ".join(made.refused.get(i, ())),
            "embedding": embedded.get(i),
        }
        for i in range(len(made.samples))
    ]
