"""What workers leave of finished records: one file each, read back in the source's order, found again by a restart.

A part is a line of JSON, which holds the shape of the samples, the table rows and the refusals, then the samples,
float32. It appears under its name in one step, so what is there is whole. Its name is a keyed hash of the record and
of the size and time of its files: a file that changed since is read again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

import medssl
from medssl import table
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest.cut import Cut, cut
from medssl.sources import manifest
from medssl.sources.record import Record

ALIGN = 64  # bytes; the samples of a part begin at a multiple, or NumPy would copy them to read them
# Suffixes of the files of one recording that lie beside the one that names it, by format.
COMPANIONS = {
    "wfdb": (".hea", ".dat", ".mat"), "brainvision": (".eeg",), "eeglab": (".fdt",), "nifti": (".img",),
    "metaimage": (".raw", ".zraw"),
}  # fmt: skip


@contextmanager
def folder_for(store: Path, key: str, params: SignalIngest | VolumeIngest) -> Iterator[Path]:
    """Give the folder of parts beside ``store``, named by all that decides a part but the record.

    It outlives an interrupted ingest, or one with too many refusals, and is removed with all its siblings when the
    block ends without an error.
    """
    decides = params.model_dump(mode="json", exclude={"max_reject_share"})
    package = Path(medssl.__file__).parent  # the code that reads and prepares records decides too
    code = [file.read_bytes() for room in ("ingest", "sources") for file in sorted((package / room).glob("*.py"))]
    said = json.dumps([key, decides], sort_keys=True).encode()
    digest = hashlib.blake2b(b"".join([said, *code]), digest_size=8).hexdigest()
    folder = store.with_name(f".{store.name}.{digest}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    for old in store.parent.glob(f".{store.name}.*.parts"):
        shutil.rmtree(old, ignore_errors=True)


def name_of(record: Record, secret: bytes) -> str:
    """Return the name of the record's part; it says nothing without the key."""
    said = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name != "row"}
    return table.keyed_name(secret, repr(sorted(said.items())), repr(_states(record)))


def _states(record: Record) -> list[tuple[int, int]]:
    """Return size and time of change of every file of the record that is there."""
    named = [(record.path, record.format)]
    named += [(path, manifest.format_of(path)) for path in (record.mask, record.events) if path is not None]
    files = [path for path, _ in named]
    with suppress(OSError, ValueError):  # a name too long: reading it will be refused
        files += sorted(record.path.iterdir()) if record.path.is_dir() else []
        for path, form in named:
            for base in dict.fromkeys((path.with_suffix(""), path)):
                files += [Path(f"{base}{suffix}") for suffix in COMPANIONS.get(form, ())]
    states = []
    for file in files:
        with suppress(OSError, ValueError):
            found = file.stat()
            states.append((found.st_size, found.st_mtime_ns))
    return states


def make(task: tuple[Record, Path], *, params: SignalIngest | VolumeIngest, modality: str) -> Path:
    """Cut one record and leave its part, unless it is there; return its path. Runs in a worker."""
    record, path = task
    if path.exists():
        return path
    result = cut(record, params=params, modality=modality)
    if isinstance(result, Cut):
        samples, said = result.samples, {"rows": result.rows, "refused": result.refused}
        for row, sample in zip(result.rows, samples, strict=True):
            row["content"] = table.content_hash(np.ascontiguousarray(sample, dtype="<f4"))
    else:
        samples, said = np.zeros(0), {"reason": result}
    # In one step; two workers that were given one record leave the same.
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    text = json.dumps({"shape": samples.shape, **said}, default=lambda number: number.item()).encode()
    with temporary.open("wb") as file:
        file.write(text.ljust(-(-(len(text) + 1) // ALIGN) * ALIGN - 1) + b"\n")
        file.write(np.ascontiguousarray(samples, dtype="<f4").data)
    temporary.replace(path)
    return path


def read(path: Path) -> Cut | tuple[str, str]:
    """Return what one record became."""
    data = path.read_bytes()
    end = data.index(b"\n") + 1
    said = json.loads(data[:end])
    if "reason" in said:
        return tuple(said["reason"])
    samples = np.frombuffer(data, dtype="<f4", offset=end).reshape(said["shape"])
    return Cut(samples, said["rows"], [tuple(pair) for pair in said["refused"]])
