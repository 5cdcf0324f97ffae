"""Embeddings of stored samples, in batches, without gradient."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from medssl.store import Store


@torch.inference_mode()
def embed_samples(
    module: nn.Module,
    store: Store,
    rows: np.ndarray | None = None,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> np.ndarray:
    """Return float32 embeddings (n, embedding_dim) of the given rows of a store, with the module in eval mode."""
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    training = module.training
    module.eval().to(device)
    try:
        starts = tqdm(range(0, len(rows), batch_size), desc="embed", disable=None if progress else True, leave=False)
        parts = [
            module(torch.from_numpy(store.read(rows[start : start + batch_size])).to(device)).float().cpu().numpy()
            for start in starts
        ]
    finally:
        module.train(training)
    return np.concatenate(parts) if parts else np.zeros((0, int(module.embedding_dim)), np.float32)  # type: ignore[arg-type]
