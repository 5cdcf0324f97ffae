"""Records to a Store: read, prepare, name by keyed hash, write; every refusal becomes a row with its reason.

Workers leave what they made on disk (`medssl.ingest.parts`) and this process puts it together in order, so memory is
bounded by the largest record, the bytes do not depend on the workers, and a restart goes on where it was stopped. On
a cluster the folder of the store is one that all its machines see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medssl import store, table
from medssl.config import SignalIngest, VolumeIngest, modality_of
from medssl.ingest import parts
from medssl.parallel import Kind, ordered_map
from medssl.sources import manifest
from medssl.sources.record import Record

AT_ONCE = 16  # records that a worker is given in one batch, at most; of few, fewer, that all workers end together
CRASHED = ("crashed", "the process that read the recording died, twice; the file may be damaged or need more memory")

# Of measures, by the suffix of their names; 1 for all others.
UNITS = {
    "_ml": "ml", "_mm3": "mm^3", "_mm2": "mm^2", "_cm2": "cm^2", "_mm": "mm", "_years": "year", "_hu": "HU"
}  # fmt: skip


class IngestError(ValueError):
    """An ingest that must stop: nothing usable, or more rejects than allowed; the message counts the reasons."""


def build(
    records: Sequence[Record],
    out: str | Path,
    *,
    key: str,
    params: SignalIngest | VolumeIngest,
    secret: bytes,
    executor: Kind = "serial",
    workers: int = 1,
    address: str | None = None,
    progress: bool = True,
) -> store.Store:
    """Write the store of one cohort.

    Args:
        records: what the source lists, in its stable order; the store keeps that order.
        key: name of the cohort, such as ``ecg`` or ``ecg-holter``.
        secret: key of the hashes that replace identifiers.
        executor, workers, address, progress: how to spread the work; they do not change a byte.

    Raises:
        IngestError: no sample came out, or the share of refused records exceeds ``max_reject_share``.
    """
    modality = modality_of(key)
    units: dict[str, str] = {}  # of the measures
    same: dict[str, Any] = {"modality": modality, "unit": params.unit}  # for all samples
    if isinstance(params, SignalIngest):
        shape = [len(params.channels), round(params.window_s * params.rate_hz)]
        same |= {"channels": list(params.channels), "rate_hz": params.rate_hz, "duration_s": params.window_s}
        same["spacing_mm"] = None
    else:
        shape = [1, *params.size]
        same |= {"channels": [params.unit], "rate_hz": float("nan"), "duration_s": float("nan")}
        same["spacing_mm"] = list(map(float, params.spacing_mm or ()))
    facts = {
        "modality": modality,
        "shape": shape,
        "unit": params.unit,
        "params": params.model_dump(mode="json"),
        "anatomy_units": units,
    }
    seen: set[tuple[int, int]] = set()
    refused_records = 0
    with parts.folder_for(Path(out), key, params) as folder, store.Writer(out, facts) as writer:
        finished: Iterator[Path | tuple[str, str]] = ordered_map(
            partial(parts.make, params=params, modality=modality),
            ((record, folder / parts.name_of(record, secret)) for record in records),
            executor=executor,
            address=address,
            workers=workers,
            label=f"ingest {key}",
            total=len(records),
            progress=progress,
            died=CRASHED,
            at_once=min(AT_ONCE, 1 + len(records) // (32 * workers)),
        )
        for position, (record, part) in enumerate(zip(records, finished, strict=True), start=1):
            result = parts.read(part) if isinstance(part, Path) else part
            suffix = record.path.suffix if record.path.suffix in manifest.FORMATS else ""
            name = table.keyed_name(secret, record.source, record.patient, record.trial, record.path.name) + suffix
            where = f" (entry {position} of the source's sorted list)"
            patient = table.keyed_code(secret, record.source, record.patient)
            trial = table.keyed_code(secret, record.source, record.patient, record.trial)
            if not isinstance(result, tuple) and (patient, trial) in seen:
                result = ("repeated_trial", "a record of the same patient and trial came before")
            if isinstance(result, tuple):
                refused_records += 1
                writer.reject(name, "ingest", result[0], result[1] + where)
                continue
            seen.add((patient, trial))
            for reason, detail in result.refused:
                writer.reject(name, "ingest", reason, detail + where)
            fold = float("nan" if record.fold is None else record.fold)
            common = {"patient": patient, "trial": trial, "source": record.source, "fold": fold, **same}
            for task, value in record.labels.items():
                common[f"label_{task}"] = list(value) if isinstance(value, tuple) else value
            for index, (sample, row) in enumerate(zip(result.samples, result.rows, strict=True)):
                anatomy = row.pop("_anatomy")
                units |= {measure: _unit_of(measure) for measure in anatomy}
                writer.add(
                    sample,
                    {
                        "sample_id": table.sample_id(row["content"], patient, trial, index),
                        "index_in_trial": index,
                        **common,
                        **row,  # a label of the window stands over one of its record
                        **{f"anat_{name}": float(value) for name, value in anatomy.items()},
                    },
                )
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(writer.reject_counts.items())) or "none"
        if writer.n_samples == 0:
            raise IngestError(f"ingest {key}: no sample came out of {len(records)} records; rejects: {counts}")
        if refused_records > params.max_reject_share * len(records):
            raise IngestError(
                f"ingest {key}: {refused_records} of {len(records)} records refused ({counts}); "
                f"max_reject_share allows {params.max_reject_share:.0%}"
            )
    return store.open_store(out)


def _unit_of(measure: str) -> str:
    """Return the unit that the suffix of a measure names."""
    _, mark, suffix = measure.rpartition("_")
    return UNITS.get(mark + suffix, "1")
