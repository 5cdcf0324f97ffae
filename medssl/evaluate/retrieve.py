"""Whether a short crop of a recording finds, by its embedding, the window and the recording that it was cut from.

Letters: n windows, q crops, d embedding channels, k results.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import hypergeom

from medssl.evaluate import intervals, metrics
from medssl.hub import Encoder, EncoderError
from medssl.ingest import contract
from medssl.models.embed import device_of, embed_samples
from medssl.store import Store


class Index:
    """Exact search by cosine; memory holds 4 d bytes a window.

    Args:
        dim: d.

    Raises:
        ValueError: FAISS is not installed.

    Source: Douze et al. 2024 (FAISS), flat index of inner products.
    """

    def __init__(self, dim: int) -> None:
        try:
            import faiss
        except ImportError:
            raise ValueError("search needs FAISS; pip install 'medssl[search]'") from None
        self._flat = faiss.IndexFlatIP(dim)

    def add(self, z: np.ndarray) -> None:
        """Add embeddings (n, d) behind those that are there."""
        self._flat.add(_unit(z))

    def search(self, z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the cosines (q, k), falling, and the positions (q, k) of the nearest of what was added."""
        if not 1 <= k <= self._flat.ntotal:
            raise ValueError(f"k {k}: expected 1 to {self._flat.ntotal}, the number of windows")
        return self._flat.search(_unit(z), k)


def _unit(z: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def windows(encoder: Encoder, store: Store, *, device: str | torch.device = "cpu") -> Index:
    """Return an index of all samples of a store, in order; one block of samples is in memory at a time.

    Raises:
        EncoderError: the samples are not cut as the encoder's contract says.
    """
    if others := contract.differences(encoder.contract, store.facts):
        raise EncoderError(f"{store.folder}: {', '.join(others)} not as the encoder asks; ingest the recordings so")
    held, index = store.scaled_by(encoder.scale), Index(int(encoder.contract["embedding_dim"]))
    for rows in store.blocks():
        index.add(embed_samples(encoder.module, held, rows, device=device))
    return index


@torch.inference_mode()
def crops(
    encoder: Encoder, store: Store, rows: np.ndarray, *, share: float, seed: int = 0, device: str | torch.device = "cpu"
) -> np.ndarray:
    """Return embeddings (q, d) of a random crop of each of the given samples, in their order.

    Args:
        share: of a sample along each axis of time or space, in (0, 1]. The encoder gets the crop as it is, nothing
            padded.
        seed: of where crops lie.

    Raises:
        ValueError: a share that is none, or an encoder that takes samples of one size alone.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share}: expected more than 0 and at most 1")
    held, module, rng = store.scaled_by(encoder.scale), encoder.module.to(device), np.random.default_rng(seed)
    size = [max(1, round(share * n)) for n in store.facts["shape"][1:]]
    starts = np.stack(
        [rng.integers(0, n - m + 1, len(rows)) for n, m in zip(store.facts["shape"][1:], size, strict=True)]
    )
    out = np.empty((len(rows), int(encoder.contract["embedding_dim"])), np.float32)
    for begin in range(0, len(rows), 256):
        block = range(begin, min(begin + 256, len(rows)))
        cut = [held[int(rows[i])][(slice(None), *map(slice, starts[:, i], starts[:, i] + size))] for i in block]
        try:
            out[begin : block.stop] = module(torch.from_numpy(np.stack(cut)).to(device)).float().cpu().numpy()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"the encoder cannot read crops of {size} steps: {error}; take a larger share") from None
    return out


def retrieve(
    encoder: Encoder,
    store: Store,
    *,
    share: float = 0.5,
    tolerance_s: float = 0.0,
    ks: Sequence[int] = (1, 5, 10),
    seed: int = 0,
    draws: int = 2000,
    accelerator: str = "cpu",
) -> pd.DataFrame:
    """Search a random crop of every test recording among all windows of a store.

    Args:
        encoder: whose contract the store's samples meet.
        store: with a column ``split``: crops are of test recordings; without: of all.
        share: length of a crop, of its window.
        tolerance_s: a window of the same recording that begins within so many seconds of the crop's is a hit too.
        ks: how many results are looked at.
        seed: which window of a recording, and where its crop lies.
        draws: of patients, for the intervals.
        accelerator: as ``compute.accelerator``.

    Returns:
        A row for each ``of`` (``window``: the crop's own; ``recording``: any of its recording) and ``k``: ``recall``,
        the share of crops with a hit among the k nearest, ``lo`` and ``hi`` of its 95 % interval over patients (NaN of
        too few), the ``chance`` of a random order, and the numbers of ``crops``, ``patients`` and ``windows``.
    """
    table, ks = store.table, sorted(set(ks))
    device = device_of(accelerator)
    recording = table.groupby(["patient", "trial"], sort=False).ngroup().to_numpy()
    tested = (table["split"] == "test").to_numpy() if "split" in table else np.ones(len(table), dtype=bool)
    if not tested.any():
        raise ValueError(f"{store.folder}: no test recordings; name another split")
    index = windows(encoder, store, device=device)
    order = np.random.default_rng(seed).permutation(len(table))
    order = order[tested[order]]
    rows = np.sort(order[np.unique(recording[order], return_index=True)[1]])  # one window a recording
    _, found = index.search(crops(encoder, store, rows, share=share, seed=seed + 1, device=device), ks[-1])
    same = recording[found] == recording[rows, None]
    start = table["start_s"].to_numpy(float)
    hits = {
        "window": (found == rows[:, None]) | (same & (np.abs(start[found] - start[rows, None]) <= tolerance_s)),
        "recording": same,
    }
    number = {
        "window": _within(recording, start, rows, tolerance_s),
        "recording": np.bincount(recording)[recording[rows]],
    }
    patients, out = table["patient"].to_numpy()[rows], []
    for of, hit in hits.items():
        for k in ks:
            chance = hypergeom.sf(0, len(table), number[of], k).mean()
            out.append({"of": of, "k": k, **recall(hit[:, :k].any(1), patients, draws=draws), "chance": chance})
    return pd.DataFrame(out).assign(crops=len(rows), windows=len(table))


def _within(recording: np.ndarray, start: np.ndarray, rows: np.ndarray, tolerance_s: float) -> np.ndarray:
    """Return how many windows would be a hit of each row: itself, and those that begin near it."""
    order = np.lexsort((start, recording))
    first = np.searchsorted(recording[order], recording[rows])
    last = np.searchsorted(recording[order], recording[rows], side="right")
    near = [np.abs(start[order[a:b]] - start[r]) <= tolerance_s for r, a, b in zip(rows, first, last, strict=True)]
    return np.array([max(1, int(n.sum())) for n in near])


def recall(hit: np.ndarray, patients: np.ndarray, *, draws: int = 2000) -> dict[str, float]:
    """Return ``recall``, the share of hits (q,), ``lo`` and ``hi`` of its 95 % interval, and how many ``patients``."""
    n, mean = len(np.unique(patients)), float(hit.mean())
    weights = intervals.draw_weights(patients, draws)[1:]
    variance = intervals.of_draws(weights @ hit / weights.sum(1), n - 1)
    if metrics.too_few(n):
        low = high = float("nan")
    elif variance.value < 1e-18:
        low, high = intervals.never(mean, n, bounds=(0, 1))
    else:
        low, high = intervals.interval(mean, variance, bounds=(0, 1))
    return {"recall": mean, "lo": float(low), "hi": float(high), "patients": n}
