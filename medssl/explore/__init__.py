"""One self-contained page per run: samples as points, their traces or slices, their neighbours, and what is selected.

A point's place comes of its embedding (`layout`), its colours of the sample table (`columns`), its picture of the
store (`pictures`); `page` writes the file, which needs no network.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from medssl import config
from medssl import table as tables
from medssl.explore.layout import lay_out
from medssl.explore.page import Page, write
from medssl.explore.pictures import draw
from medssl.store import Store

__all__ = ["explore", "of_run", "points"]


def points(frame: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return a frame of embeddings with places and neighbours in the embedding's stead.

    Args:
        frame: column ``embedding`` with rows of equal length, as `medssl embed` and the stage ``probe`` write them.
        seed: of UMAP.

    Returns:
        The other columns, then ``x, y`` in [-1, 1], and ``neighbours`` and ``cosine``: positions in the frame and
        likeness of the nearest other rows, the nearest first.
    """
    layout = lay_out(_stacked(frame["embedding"]), seed=seed)
    return frame.drop(columns="embedding").assign(
        x=layout.xy[:, 0], y=layout.xy[:, 1], neighbours=list(layout.neighbours), cosine=list(layout.cosine)
    )


def explore(
    run_folder: Path, store: Store, *, out: Path, limit: int = 20000, seed: int = 0, thumbnails: bool = True
) -> list[str]:
    """Write the page of a run, and return in lines what it holds.

    Args:
        run_folder: such as ``data/runs/<run>``, with ``probe/embeddings.parquet``.
        store: of the run's cohort, opened with whatever receipts and split shall be colours.
        out: the HTML file.
        limit: samples at most; where there are more, so many of them at random.
        seed: of that draw and of UMAP.
        thumbnails: whether traces or slices go in.

    Raises:
        FileNotFoundError: the run has no embeddings.
        ValueError: they are not those of this store.
    """
    path = run_folder / "probe" / "embeddings.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; the run has no embeddings yet. Run `dvc repro probe`.")
    ids = pq.read_table(path, columns=["sample_id"], use_threads=False)["sample_id"].to_numpy()
    total = len(ids)
    # In random order, so that no class lies on top of the others because it is last in the table.
    chosen = np.random.default_rng(seed).permutation(total)[:limit]
    rows = pd.Index(store.table["sample_id"]).get_indexer(ids[chosen])
    if (rows < 0).any():
        raise ValueError(f"{path}: {(rows < 0).sum()} samples are not in {store.folder}; run `dvc repro`")
    layout = lay_out(_chosen(path, chosen), seed=seed, progress=True)
    table = store.table.iloc[rows].reset_index(drop=True)
    pictures = draw(store, rows, progress=True) if thumbnails else None
    units = store.facts.get("anatomy_units", {})
    return write(Page(run_folder.name, store.facts["modality"], table, layout, pictures, units, total), out)


def of_run(root: Path, run: str, *, out: Path | None = None, pictures: bool = True) -> list[str]:
    """Write the page of a run of the project in ``root``, by default as ``data/explore/<run>.html``.

    Raises:
        ConfigError: ``params.yaml`` has no such run.
        FileNotFoundError: the run has no embeddings yet.
    """
    params = config.load(root / "params.yaml")
    cohort = root / "data" / config.part(params, "runs", run).modality
    extra = [cohort / name for name in ("split.parquet", "dedup.parquet") if (cohort / name).is_file()]
    store = Store(cohort / "store", *extra)
    store.table = tables.of_fold(store.table, None)
    page = out or root / "data" / "explore" / f"{run}.html"
    return explore(root / "data" / "runs" / run, store, out=page, seed=params.seed, thumbnails=pictures)


def _chosen(path: Path, chosen: np.ndarray) -> np.ndarray:
    """Return some rows (n, d) of a file of embeddings, in the order asked for; it is read in parts."""
    at = np.full(chosen.max(initial=-1) + 1, -1)
    at[chosen] = np.arange(len(chosen))
    out: np.ndarray | None = None
    start = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1024, columns=["embedding"], use_threads=False):
        here = np.arange(start, min(start + len(batch), len(at)))
        start += len(batch)
        here = here[at[here] >= 0]
        if len(here):
            part = _stacked(batch["embedding"].take((here - start + len(batch)).tolist()).to_pylist())
            out = np.empty((len(chosen), part.shape[1]), np.float32) if out is None else out
            out[at[here]] = part
    return np.empty((0, 1), np.float32) if out is None else out


def _stacked(embeddings: Iterable[list[float]]) -> np.ndarray:
    return np.stack([np.asarray(z, np.float32) for z in embeddings])
