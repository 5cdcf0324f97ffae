"""Embeddings of recordings in files, or of a store, one row a sample."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from medssl import sources
from medssl.hub import Encoder
from medssl.ingest import contract
from medssl.models.embed import device_of, embed_samples
from medssl.sources import manifest
from medssl.sources.record import BadRecord, Record, SourceError
from medssl.store import open_store


def embed(encoder: Encoder, path: Path) -> pd.DataFrame:
    """Return one row per sample with its ``embedding``; ``reason`` says why there is none.

    A store gives ``sample_id``. A table of files gives ``row``, the 1-based row of the table, and ``sample``, which
    counts the windows or slices of that file; one file gives row 1. Windows that ingest would refuse have a reason and
    no embedding. Names stay out.

    Raises:
        ValueError: a store whose samples do not fit the contract; a path that is none of these.
    """
    encoder.module.to(device := device_of("auto"))
    if (path / "store.json").exists():
        store = open_store(path)
        differing = contract.differences(encoder.contract, store.facts)
        if differing:
            raise ValueError(f"{path}: differs from the encoder's contract in {', '.join(differing)}; ingest it anew")
        z = embed_samples(encoder.module, store, device=device, progress=True)
        return pd.DataFrame({"sample_id": store.table["sample_id"], "reason": "", "embedding": list(z)})
    if path.is_file() and path.suffix in (".csv", ".parquet"):
        try:
            records = manifest.list_table(path)
        except SourceError as error:
            raise ValueError(
                f"{error}. A recording that is itself a table is embedded by a table of files: path, patient, trial, "
                "rate_hz, unit"
            ) from None
    elif path.exists():
        records = [Record(path=path.resolve(), format=manifest.format_of(path), patient="", trial="", row=1)]
    else:
        raise ValueError(f"{path}: no such file or folder; expected a store, a table of files or one recording")
    rows = []
    for record in tqdm(records, desc="embed", disable=None, leave=False):
        embedded = {}
        try:
            made = encoder.pieces(sources.read(record))
        except (BadRecord, SourceError) as error:
            reasons = [str(error)]
        else:
            kept = made.kept
            embedded = dict(zip(kept, encoder.encode(made.samples[kept]) if kept else (), strict=True))
            none = made.outside or [("no_samples", "the recording holds no window")]
            reasons = [": ".join(made.refused.get(i, ())) for i in range(len(made.samples))] or [": ".join(none[0])]
        for i, reason in enumerate(reasons):
            rows.append({"row": record.row, "sample": i, "reason": reason, "embedding": embedded.get(i)})
    return pd.DataFrame(rows).sort_values(["row", "sample"], ignore_index=True)
