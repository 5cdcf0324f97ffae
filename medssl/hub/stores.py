"""Embeddings of a store that was cut otherwise than an encoder asks: its samples are converted as far as they can be.

What the store's own preparation took away does not come back; `differences` says what, in sentences for people.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from medssl.config import SignalIngest, VolumeIngest
from medssl.hub import Encoder, EncoderError, images, windows
from medssl.ingest import contract
from medssl.models.embed import embed_samples
from medssl.sources.record import BadRecord
from medssl.store import Store


def embed_store(
    encoder: Encoder,
    store: Store,
    rows: np.ndarray | None = None,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    progress: bool = False,
) -> np.ndarray:
    """Return embeddings float32 (n, embedding_dim) of the given rows of a store, brought to the encoder's contract.

    A store that meets the contract is embedded as it is, by `medssl.models.embed.embed_samples`. Otherwise channels are
    re-ordered and left out, rates, units, filters, spacing and intensities follow the contract, and a stored sample
    longer than the encoder's is cut into samples whose embeddings are averaged. Where the encoder's windows are longer,
    samples of a trial that follow one another without a gap are joined; each then has the mean over the windows that
    show it, by the seconds they show. A stretch is cut end to end, with one more window that ends where it does. Limits
    on quality are not applied: the store had its own. Values in a unit are divided by what the encoder divides by,
    whatever the store's ``scale``. Memory holds one batch, or one trial that is joined.

    Args:
        rows: positions in ``store.table``; None: all.
        device: where the encoder runs, and stays.
        batch_size: samples at a time.

    Returns:
        Embeddings; a row is NaN where a stretch is shorter than the encoder's window, or holds no beat or no contrast.

    Raises:
        EncoderError: as `differences`.
    """
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    if not contract.differences(encoder.contract, store.facts):
        held = store.scaled_by(encoder.scale)
        return embed_samples(encoder.module, held, rows, device=device, batch_size=batch_size, progress=progress)
    differences(encoder, store)
    encoder.module.to(device)
    wanted, back = np.unique(rows, return_inverse=True)
    place = np.full(len(store), -1)
    place[wanted] = np.arange(len(wanted))
    total = np.zeros((len(wanted), encoder.contract["embedding_dim"]))
    weight = np.zeros(len(wanted))
    bar = tqdm(total=len(wanted), desc="embed", disable=None if progress else True, leave=False)
    for made in _made(encoder, store.scaled_by(1.0), wanted, batch_size):
        if len(made.samples):
            z = encoder.encode(made.samples, batch_size=batch_size)
            of, known = place[made.row], place[made.row] >= 0  # a joined trial may have rows that nobody asked for
            np.add.at(total, of[known], made.share[known, None] * z[made.piece[known]])
            np.add.at(weight, of[known], made.share[known])
        bar.update(int((place[np.unique(made.row)] >= 0).sum()))
    bar.close()
    with np.errstate(invalid="ignore"):
        return (total / weight[:, None]).astype(np.float32)[back]


def differences(encoder: Encoder, store: Store) -> list[str]:
    """Return what the samples of a store lack of what the encoder's contract asks, a sentence each; empty for none.

    Raises:
        EncoderError: another modality, channels that the store does not have, units that do not convert, samples of a
            kind that cannot become the encoder's, or none that is long enough.
    """
    if not contract.differences(encoder.contract, store.facts):
        return []
    modality, asked = store.facts["modality"], encoder.contract["modality"]
    if modality != asked:
        raise EncoderError(f"{store.folder}: holds {modality}, the encoder takes {asked}")
    want, have = encoder.params, store.facts["params"]
    try:
        if isinstance(want, SignalIngest):
            return windows.lost(want, SignalIngest(**have), store)
        return images.lost(want, VolumeIngest(**have))
    except BadRecord as bad:
        raise EncoderError(f"{store.folder}: {bad.detail} ({bad.reason})") from None


def _made(encoder: Encoder, store: Store, rows: np.ndarray, batch_size: int) -> Iterator[windows.Made]:
    want, have = encoder.params, store.facts["params"]
    if isinstance(want, SignalIngest):
        return windows.of(want, SignalIngest(**have), store, rows, batch_size, scale=encoder.scale)
    return images.of(want, VolumeIngest(**have), store, rows, batch_size)
