"""Where points lie: exact cosine neighbours, and UMAP on exactly those."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

NEIGHBOURS = 8  # shown of a sample
OF_UMAP = 15  # of the graph that UMAP draws, a point itself among them; its authors' default
FEW = 3 * OF_UMAP  # samples below which a graph of neighbours is nearly complete and PCA says as much
BLOCK_BYTES = 64 * 2**20  # of similarities that are held at once


@dataclass(frozen=True)
class Layout:
    """Places ``xy`` (n, 2) in [-1, 1], ``neighbours`` (n, k) nearest first, their ``cosine`` (n, k), and the method."""

    xy: np.ndarray
    neighbours: np.ndarray
    cosine: np.ndarray
    method: str  # UMAP | PCA


def lay_out(z: np.ndarray, *, seed: int = 0, progress: bool = False) -> Layout:
    """Lay out embeddings (n, d) in the plane: by UMAP, or by PCA where it is not installed or there are few.

    Equal embeddings and seeds give equal places on one machine.

    Raises:
        ValueError: fewer than two samples, or embeddings that are not finite.
    """
    if len(z) < 2:
        raise ValueError(f"{len(z)} embeddings; expected at least 2 to lay out")
    if not np.isfinite(z).all():
        bad = int((~np.isfinite(z).all(1)).sum())
        raise ValueError(f"embeddings: {bad} of {len(z)} are not finite; expected numbers. Train again.")
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    found, cosine = nearest(unit, min(OF_UMAP - 1, len(z) - 1), progress=progress)
    xy, method = principal(unit), "PCA"
    if len(z) >= FEW and (drawn := _umap(unit, found, cosine, xy, seed, progress)) is not None:
        xy, method = drawn, "UMAP"
    k = min(NEIGHBOURS, len(z) - 1)
    return Layout(_fitted(xy), found[:, :k].astype(np.uint32), cosine[:, :k], method)


def nearest(unit: np.ndarray, k: int, *, progress: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and cosines (n, k) of the rows most like each of the unit rows (n, d), without itself."""
    n = len(unit)
    found, cosine = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    step = max(1, BLOCK_BYTES // (4 * n))
    for start in tqdm(range(0, n, step), "neighbours", disable=not progress, delay=5, unit="block"):
        rows = np.arange(start, min(start + step, n))
        likeness = unit[rows] @ unit.T
        likeness[rows - start, rows] = -np.inf
        best = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(likeness, best, 1)
        order = np.lexsort((best, -values), axis=1)
        found[rows] = np.take_along_axis(best, order, 1)
        cosine[rows] = np.take_along_axis(values, order, 1)
    return found, cosine


def principal(z: np.ndarray) -> np.ndarray:
    """Return the first two principal components (n, 2), each with its heaviest loading positive."""
    centred = z - z.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    xy = centred @ axes
    return xy if xy.shape[1] == 2 else np.c_[xy, np.zeros(len(xy))]  # embeddings of one number


def _umap(
    unit: np.ndarray, found: np.ndarray, cosine: np.ndarray, start: np.ndarray, seed: int, progress: bool
) -> np.ndarray | None:
    """Return places (n, 2) by UMAP from given neighbours, or None where it is not installed.

    It starts at the principal components: what is far apart at large stays so, as it would not from a random start.
    Source: McInnes et al., UMAP (2018); Kobak and Linderman, initialization is critical (2021).
    """
    with warnings.catch_warnings():
        # It speaks of TensorFlow at import and of `transform`, which neighbours found elsewhere rule out.
        warnings.simplefilter("ignore")
        try:
            from umap import UMAP
        except ImportError:
            return None
        itself = np.arange(len(unit))[:, None]
        known = (np.c_[itself, found], np.c_[np.zeros(len(unit)), np.maximum(1 - cosine, 0)].astype(np.float32), None)
        reducer = UMAP(
            n_neighbors=OF_UMAP,
            metric="cosine",
            precomputed_knn=known,
            force_approximation_algorithm=True,  # else known neighbours of fewer than 4,096 are found anew
            # A few samples far from all others would otherwise leave the rest a corner of the map.
            init=np.clip(start / np.maximum(start.std(0), 1e-12), -3, 3).astype(np.float32),
            random_state=seed,
            tqdm_kwds={"desc": "UMAP", "disable": not progress, "delay": 5},
            n_jobs=1,  # the order in which threads finish would decide
        )
        return np.asarray(reducer.fit_transform(unit))


def _fitted(xy: np.ndarray) -> np.ndarray:
    """Return places moved and scaled, both axes alike, into [-1, 1]."""
    xy = xy - (xy.max(0) + xy.min(0)) / 2
    return (xy / max(np.abs(xy).max(), 1e-12)).astype(np.float32)
