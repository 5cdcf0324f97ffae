"""Embeddings of stored samples, in batches, without gradient, on the device that ``compute`` names."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from medssl.store import Store


def device_of(accelerator: str) -> torch.device:
    """Return the device of ``compute.accelerator``; ``auto`` is the GPU or, without one, the CPU, as for pretraining.

    Raises:
        ValueError: the machine has no such device.
    """
    gpu, cpu = torch.accelerator.current_accelerator(check_available=True), torch.device("cpu")
    names = {"auto": gpu or cpu, "cpu": cpu} | ({"gpu": gpu, gpu.type: gpu} if gpu else {})
    if accelerator not in names:
        raise ValueError(f"compute.accelerator is {accelerator}; on this machine it can be {', '.join(names)}")
    return names[accelerator]


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
    out = np.empty((len(rows), int(module.embedding_dim)), np.float32)  # type: ignore[arg-type]
    training = module.training
    module.eval().to(device)
    try:
        starts = tqdm(range(0, len(rows), batch_size), desc="embed", disable=None if progress else True, leave=False)
        for start in starts:
            batch = slice(start, start + batch_size)
            out[batch] = module(torch.from_numpy(store.read(rows[batch])).to(device)).float().cpu().numpy()
    finally:
        module.train(training)
    return out
