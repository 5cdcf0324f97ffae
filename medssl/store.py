"""The Store: a folder of plain arrays with one table row per sample, opened without copying.

``samples.parquet`` (one row a sample), ``shard-00000.npy`` ... (float32 ``(n, C, T)``, ``(n, 1, H, W)`` or
``(n, 1, D, H, W)``, memory-mapped read-only), ``rejects.parquet``, ``store.json``. Its bytes depend on the inputs
and the parameters alone. It is written under a temporary name and takes its own when it is whole.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medssl import table as tables

FORMAT = 1
SHARD_BYTES = 256 * 2**20
TABLE_ROWS = 1024  # of a table that are written at once, which bounds the memory it takes
BLOCK_BYTES = 64 * 2**20  # of samples that are held at once


class StoreError(ValueError):
    """A store that is missing, damaged or of another format."""


@contextmanager
def _tight() -> Iterator[None]:
    """Have pyarrow take memory from the system: its own pool holds tens of megabytes for a table of one.

    Whoever asks for it takes one thread too, as each thread keeps a heap of its own.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


@contextmanager
def parquet_parts(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Give a function that writes a table part by part, without pandas' own metadata; an error leaves no file."""
    # Those metadata would carry library versions into the bytes.
    writer: pq.ParquetWriter | None = None

    def write(part: pd.DataFrame) -> None:
        nonlocal writer
        arrow = pa.Table.from_pandas(part, preserve_index=False, nthreads=1).replace_schema_metadata(None)
        writer = writer or pq.ParquetWriter(path, arrow.schema, compression="zstd", version="2.6")
        writer.write_table(arrow, row_group_size=TABLE_ROWS)

    with _tight():
        try:
            yield write
        except BaseException:
            if writer is not None:
                path.unlink(missing_ok=True)
            raise
        finally:
            if writer is not None:
                writer.close()


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a whole table, as `parquet_parts` does."""
    with parquet_parts(path) as write:
        write(table)


def read_parquet(path: str | Path) -> pd.DataFrame:
    """Read a table that `write_parquet` wrote, in this thread alone: pyarrow's own may outlive the process."""
    return pd.read_parquet(path, use_threads=False, pre_buffer=False)


class Store:
    """A map-style view of a store folder: ``len(store)``, ``store[i]``, ``store.table``.

    What is read is divided by ``scale``, a number that is 1 but for ``ingest.normalise: cohort`` and a table with a
    split: there it is the median over training patients of the median ``quality_rms`` of their training samples, of
    those that are kept where the table has receipts. It follows the table: whoever sets ``table`` to that of a fold
    reads samples in the scale of that fold. It is 1 too without a split, and where nobody is trained on.

    Args:
        folder: the store.
        extra: further tables keyed by ``sample_id`` (dedup receipts, split), joined to ``table`` in order.

    Raises:
        StoreError: no store there, a format this version does not know, a shard of the wrong shape, or a cohort from
            whose table no scale follows.
    """

    def __init__(self, folder: str | Path, *extra: str | Path) -> None:
        self.folder = Path(folder)
        facts = self.folder / "store.json"
        if not facts.is_file():
            raise StoreError(f"{self.folder}: no store.json; expected a folder written by `medssl ingest`")
        self.facts: dict[str, Any] = json.loads(facts.read_text())
        if self.facts.get("format") != FORMAT:
            raise StoreError(f"{facts}: format {self.facts.get('format')}; this version reads {FORMAT}. Ingest again.")
        with _tight():
            table = read_parquet(self.folder / "samples.parquet")
        tables.check(table, str(self.folder / "samples.parquet"))
        for path in extra:
            table = tables.join(table, read_parquet(path), str(path))
        self.table = table
        self._shard = self.table["shard"].to_numpy()
        self._row = self.table["row"].to_numpy()
        self._shards: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.table)

    @property
    def table(self) -> pd.DataFrame:
        """One row a sample."""
        return self._table

    @table.setter
    def table(self, table: pd.DataFrame) -> None:
        self._table = table
        fitted = self.facts.get("params", {}).get("normalise") == "cohort" and "split" in table
        self.scale = _scale(table, str(self.folder)) if fitted else 1.0

    def scaled_by(self, scale: float) -> Store:
        """Return the store as it is read divided by ``scale`` instead: an encoder's, or 1 for the unit of the store."""
        other = copy.copy(self)
        other.scale = scale
        return other

    def __getstate__(self) -> dict[str, Any]:
        # Open maps stay behind: every worker opens its own, lazily.
        return {**self.__dict__, "_shards": {}}

    def shard(self, index: int) -> np.ndarray:
        """Return one shard, memory-mapped read-only: what is stored, in the unit of the store."""
        if index not in self._shards:
            path = self.folder / f"shard-{index:05d}.npy"
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (EOFError, OSError, ValueError) as error:  # EOFError: an empty file
                raise StoreError(f"{path}: cannot be mapped ({type(error).__name__}); ingest again") from None
            if list(array.shape[1:]) != self.facts["shape"] or array.dtype != np.float32:
                raise StoreError(f"{path}: {array.dtype} {array.shape[1:]}; expected float32 {self.facts['shape']}")
            self._shards[index] = array
        return self._shards[index]

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a copy of sample ``index``: float32 ``(C, T)``, ``(1, H, W)`` or ``(1, D, H, W)``."""
        return self._scaled(np.array(self.shard(int(self._shard[index]))[int(self._row[index])]))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return samples ``rows`` (positions in ``table``) as one float32 array ``(n, ...)``."""
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self.facts["shape"]), dtype=np.float32)
        for shard in np.unique(self._shard[rows]):
            here = np.flatnonzero(self._shard[rows] == shard)
            out[here] = self.shard(int(shard))[self._row[rows[here]]]
        return self._scaled(out)

    def _scaled(self, samples: np.ndarray) -> np.ndarray:
        if self.scale != 1:
            samples /= self.scale
        return samples

    def blocks(self) -> list[np.ndarray]:
        """Return all rows in order, in runs of ``TABLE_ROWS``, halved until the samples of one fit ``BLOCK_BYTES``."""
        n = TABLE_ROWS
        while n > 1 and n * 4 * math.prod(self.facts["shape"]) > BLOCK_BYTES:
            n //= 2
        return np.split(np.arange(len(self)), range(n, len(self), n))

    @property
    def rejects(self) -> pd.DataFrame:
        """What was refused, with reasons."""
        return read_parquet(self.folder / "rejects.parquet")

    @property
    def content_hash(self) -> str:
        """Hash of samples and table; names this data in runs and checkpoints."""
        return str(self.facts["content_hash"])


open_store = Store  # the verb that users know


def _scale(table: pd.DataFrame, where: str) -> float:
    """Return what the samples of a cohort are divided by, from those of training patients alone; see `Store`."""
    chosen = table["split"] == "train"
    if "kept" in table:
        chosen &= table["kept"]
    if not chosen.any():
        return 1.0
    if "quality_rms" not in table:
        raise StoreError(f"{where}: normalise is cohort, and the table has no quality_rms; ingest again")
    spread = float(table[chosen].groupby("patient")["quality_rms"].median().median())
    if not 0 < spread < math.inf:
        raise StoreError(f"{where}: quality_rms of the training patients is {spread:g}, which scales nothing")
    return spread


class Writer:
    """Append samples and publish a store in one step.

    Use as a context manager; leaving it without an error publishes ``folder``, an error leaves nothing.
    Memory is bounded by the table, 300 bytes a sample; samples go to disk at once.
    """

    def __init__(self, folder: str | Path, facts: Mapping[str, Any], *, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder = Path(folder)
        self.facts = dict(facts)
        self._shard_bytes = shard_bytes
        self._temporary = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.part")
        self._digest = hashlib.blake2b(digest_size=16)
        self._shard: BinaryIO | None = None
        self._shards = self._in_shard = 0
        # By column, not by row: 300 bytes a sample instead of 3,000.
        self._columns: dict[str, list[Any]] = {}
        self.n_samples = 0  # so far
        self._rejects: list[dict[str, str]] = []

    def __enter__(self) -> Writer:
        if self.folder.exists() and not (self.folder / "store.json").is_file() and any(self.folder.iterdir()):
            raise StoreError(f"{self.folder}: holds something that is not a store; name a new folder")
        # What earlier ones of this process left, and processes of this machine that are gone.
        for left in self.folder.parent.glob(f".{self.folder.name}.*.*"):
            *_, pid, kind = left.name.split(".")
            if kind in ("part", "old") and pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
                shutil.rmtree(left, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            if self._shard is not None:
                self._shard.close()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def add(self, sample: np.ndarray, row: Mapping[str, Any]) -> None:
        """Append one sample, float32 of the store's shape, with its table row (without shard and row)."""
        sample = np.ascontiguousarray(sample, dtype="<f4")
        if list(sample.shape) != list(self.facts["shape"]):
            raise ValueError(f"sample of shape {sample.shape}; this store holds {self.facts['shape']}")
        for name, value in {**row, "shard": self._shards, "row": self._in_shard}.items():
            column = self._columns.setdefault(name, [])
            column += [None] * (self.n_samples - len(column)) + [value]
        self.n_samples += 1
        if self._shard is None:
            self._shard = (self._temporary / f"shard-{self._shards:05d}.npy").open("wb")
            self._head()
        self._shard.write(sample.data)
        self._in_shard += 1
        self._digest.update(sample.data)
        if self._in_shard * sample.nbytes >= self._shard_bytes:
            self._finish_shard()

    def reject(self, path: str, stage: str, reason: str, detail: str) -> None:
        """Record an input that did not become a sample; ``path`` is a keyed name, never the path itself."""
        self._rejects.append({"path": path, "stage": stage, "reason": reason, "detail": detail})

    @property
    def reject_counts(self) -> Counter[str]:
        """Rejects so far by reason."""
        return Counter(item["reason"] for item in self._rejects)

    def _head(self) -> None:
        """Write the header of the open shard; it keeps its length while the number of samples grows."""
        assert self._shard is not None
        self._shard.seek(0)
        shape = (self._in_shard, *self.facts["shape"])
        np.lib.format.write_array_header_1_0(self._shard, {"descr": "<f4", "fortran_order": False, "shape": shape})

    def _finish_shard(self) -> None:
        if self._shard is not None:
            self._head()
            self._shard.close()
            self._shard, self._in_shard = None, 0
            self._shards += 1

    def _publish(self) -> None:
        self._finish_shard()
        for column in self._columns.values():
            column += [None] * (self.n_samples - len(column))
        table = pd.DataFrame(self._columns)
        self._columns.clear()  # the table holds it all; memory for both is not needed
        for name in ("patient", "trial", "index_in_trial"):
            table[name] = table[name].astype("int64")
        for name in ("shard", "row"):
            table[name] = table[name].astype("int32")
        head = [c for c in tables.COLUMNS if c in table.columns]
        table = table[head + sorted(set(table.columns) - set(head))]
        tables.check(table, str(self.folder))
        rejects = pd.DataFrame(self._rejects, columns=list(tables.REJECT_COLUMNS), dtype="str")
        write_parquet(table, self._temporary / "samples.parquet")
        write_parquet(rejects, self._temporary / "rejects.parquet")
        self._digest.update((self._temporary / "samples.parquet").read_bytes())
        facts = {"format": FORMAT, **self.facts, "n_samples": len(table), "content_hash": self._digest.hexdigest()}
        (self._temporary / "store.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        old = self._temporary.with_suffix(".old")
        if self.folder.exists():
            self.folder.rename(old)
        self._temporary.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)


def _alive(pid: int) -> bool:
    """Say whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
