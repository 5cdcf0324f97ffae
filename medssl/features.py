"""Features of all samples of a store, computed once: kept on disk by the hash of what they are made of."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

from medssl.store import Store

MOST_BYTES = 4 * 2**30  # of a cache; the oldest files go first
CODE = ("models", "hub", "ingest", "handcrafted", "evaluate/baselines")  # what features are computed by


@functools.cache
def _code() -> str:
    """Return a hash of the code that features depend on."""
    digest = hashlib.blake2b(digest_size=8)
    package = Path(__file__).parent
    for folder in CODE:
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def of_samples(
    name: str,
    store: Store,
    compute: Callable[[np.ndarray], np.ndarray],
    *,
    cache: Path | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Return float32 features (n, d) of all samples, memory-mapped where they are cached.

    Args:
        name: all that decides them besides the samples and the code, such as the checksum of an encoder.
        store: where the samples are; in another scale they are others.
        compute: (rows, d) of a run of positions; called block by block, in order.
        cache: folder; None computes in memory.
        progress: show a bar.
    """
    said = f"{store.content_hash}/{store.scale!r}/{name}/{_code()}"
    key = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
    path = None if cache is None else cache / f"{key}.npy"
    if path is not None and path.is_file():
        os.utime(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    bar = tqdm(store.blocks(), desc=name.split("/")[0], disable=None if progress else True, leave=False)
    out: np.ndarray | None = None
    part = None if path is None else path.with_suffix(f".{os.getpid()}.part")
    try:
        for rows in bar:
            values = np.asarray(compute(rows), dtype=np.float32)
            if out is None:
                shape = (len(store), values.shape[1])
                if part is not None:
                    part.parent.mkdir(parents=True, exist_ok=True)
                    out = open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
                else:
                    out = np.empty(shape, np.float32)
            out[rows] = values
    except BaseException:
        if part is not None:
            part.unlink(missing_ok=True)
        raise
    assert out is not None, f"{store.folder}: no samples"
    if path is None or part is None:
        return out
    out.flush()  # type: ignore[attr-defined]
    part.replace(path)
    _keep_within(path.parent)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _keep_within(folder: Path) -> None:
    """Remove the files that were used longest ago until the rest fits."""
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
    sizes = np.cumsum([file.stat().st_size for file in files])
    for file in (file for file, size in zip(files, sizes, strict=True) if size > MOST_BYTES):
        file.unlink(missing_ok=True)
