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
        out: folder of the store.
        key: name of the cohort, such as ``ecg`` or ``ecg-holter``.
        params: how to cut.
        secret: key of the hashes that replace identifiers.
        executor, workers, address, progress: how to spread the work; they do not change a byte.

    Raises:
        IngestError: no sample came out, or the share of refused records exceeds ``max_reject_share``.
    """
    shape = (
        [len(params.channels), round(params.window_s * params.rate_hz)]
        if isinstance(params, SignalIngest)
        else [1, *params.size]
    )
    facts: dict[str, Any] = {
        "modality": modality_of(key),
        "shape": shape,
        "unit": params.unit,
        "params": params.model_dump(mode="json"),
    }
    facts["anatomy_units"] = {}
    seen: set[tuple[int, int]] = set()
    refused_records = 0
    with parts.folder_for(Path(out), key, params) as folder, store.Writer(out, facts) as writer:
        finished: Iterator[Path | tuple[str, str]] = ordered_map(
            partial(parts.make, params=params, modality=modality_of(key)),
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
        same = _constants(key, params)
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
            common = {"patient": patient, "trial": trial, **same, **_columns(record)}
            for index, (sample, row) in enumerate(zip(result.samples, result.rows, strict=True)):
                anatomy = row.pop("_anatomy")
                facts["anatomy_units"].update({name: unit_of_measure(name) for name in anatomy})
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
        writer.facts["anatomy_units"] = dict(sorted(facts["anatomy_units"].items()))
    return store.open_store(out)


def _constants(key: str, params: SignalIngest | VolumeIngest) -> dict[str, Any]:
    """Return the columns that all samples of a store share."""
    return {
        "modality": modality_of(key),
        "duration_s": params.window_s if isinstance(params, SignalIngest) else float("nan"),
        "rate_hz": params.rate_hz if isinstance(params, SignalIngest) else float("nan"),
        "spacing_mm": None if isinstance(params, SignalIngest) else list(map(float, params.spacing_mm or ())),
        "unit": params.unit,
        "channels": list(params.channels) if isinstance(params, SignalIngest) else [params.unit],
    }


def _columns(record: Record) -> dict[str, Any]:
    """Return the columns that all samples of a record share."""
    return {
        "source": record.source,
        "fold": float("nan") if record.fold is None else float(record.fold),
        **{
            f"label_{task}": list(value) if isinstance(value, tuple) else value for task, value in record.labels.items()
        },
    }


def unit_of_measure(name: str) -> str:
    """Return the unit that the suffix of a measure names."""
    units = {
        "_ml": "ml",
        "_mm3": "mm^3",
        "_mm2": "mm^2",
        "_cm2": "cm^2",
        "_years": "year",
        "_mm": "mm",
        "_hu": "HU",
        "_share": "1",
    }
    return next((unit for suffix, unit in units.items() if name.endswith(suffix)), "1")
