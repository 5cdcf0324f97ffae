"""Embeddings of stored samples and their inner stages, in batches, without gradient, on the device of ``compute``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from medssl.models.crops import starts
from medssl.models.joined import crop_of
from medssl.store import Store

STAGES = 4  # of an encoder that are read where no names are given


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


@contextmanager
def _evaluating(module: nn.Module, device: str | torch.device) -> Iterator[None]:
    """Have a module in eval mode on a device; its mode comes back."""
    training = module.training
    module.eval().to(device)
    try:
        yield
    finally:
        module.train(training)


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
    with _evaluating(module, device):
        starts = tqdm(range(0, len(rows), batch_size), desc="embed", disable=None if progress else True, leave=False)
        for start in starts:
            batch = slice(start, start + batch_size)
            out[batch] = module(torch.from_numpy(store.read(rows[batch])).to(device)).float().cpu().numpy()
    return out


def stages(module: nn.Module) -> dict[str, nn.Module]:
    """Return the inner stages of an encoder, in order, by name.

    They are its ``stages`` if it says so in a dictionary, as all encoders here do. Of any other module they are the
    children that have weights, inside the wrappers that have one such child only; a list of modules counts as its
    parts.

    Raises:
        ValueError: a module that is one layer.
    """
    if isinstance(own := getattr(module, "stages", None), dict):
        return dict(own)
    inner = _children(module)
    while len(inner) == 1:
        inner = _children(next(iter(inner.values())))
    if not inner:
        raise ValueError(
            f"{type(module).__name__} has no inner stages; give it an attribute `stages`, {{name: module}}"
        )
    return inner


def _children(module: nn.Module) -> dict[str, nn.Module]:
    """Return the children that have weights, and those of lists, which are never called themselves."""
    found: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            found |= {f"{name}.{inner}": part for inner, part in _children(child).items()}
        elif any(True for _ in child.parameters()):
            found[name] = child
    return found


def _mean(stage: nn.Module, x: Tensor) -> Tensor:
    """Return (B, d): a stage's output, averaged over positions.

    Positions follow the channels, except where a stage normalises the last axis of three, as transformers do.
    """
    last = [m for m in stage.modules() if getattr(m, "normalized_shape", None) == (x.shape[-1],)]
    return x.float().mean(1 if x.ndim == 3 and last else [*range(2, x.ndim)]) if x.ndim > 2 else x.float()


def embed_at(module: nn.Module, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return embeddings (B, embedding_dim) and what an inner stage says, averaged over positions and crops: (B, d).

    Args:
        module: any encoder, see `stages`.
        name: of a stage.
        x: samples (B, C, ...).
    """
    stage, seen = stages(module)[name], []
    hook = stage.register_forward_hook(lambda _, inputs, output: seen.append(output))
    try:
        whole = module(x)
    finally:
        hook.remove()
    (value,) = seen
    early = _mean(stage, value[0] if isinstance(value, tuple) else value)
    return whole, early.unflatten(0, (len(x), -1)).mean(1)


@torch.inference_mode()
def embed_stages(
    module: nn.Module,
    store: Store,
    rows: np.ndarray | None = None,
    *,
    names: Sequence[str] | None = None,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """Return what the inner stages of an encoder say of samples, averaged over positions: float32 (n, d) by name.

    Those of an encoder of crops are averaged over the crops of a sample too.

    Early stages keep what the pretext threw away; which one serves a label is for a probe to say.

    Args:
        module: any encoder, see `stages`; in eval mode meanwhile.
        store, rows: the samples, as for `embed_samples`.
        names: stages; None for `STAGES` of them, evenly spread, the last among them.
        batch_size, device: as for `embed_samples`.

    Raises:
        ValueError: a name that is no stage, or a stage that says nothing of each sample: its output is no (B, ...).
    """
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    known = stages(module)
    if names is None:
        count = min(STAGES, len(known))
        names = [list(known)[len(known) * k // count - 1] for k in range(1, count + 1)]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{type(module).__name__} has no stage {', '.join(unknown)}; it has {', '.join(known)}")
    seen: dict[str, Tensor] = {}

    def keep(name: str, stage: nn.Module, _: Any, output: Any) -> None:
        seen[name] = output[0] if isinstance(output, tuple) else output

    out: dict[str, np.ndarray] = {}
    hooks = [known[name].register_forward_hook(partial(keep, name)) for name in names]
    try:
        with _evaluating(module, device):
            for start in range(0, len(rows), batch_size):
                x = torch.from_numpy(store.read(rows[start : start + batch_size])).to(device)
                seen.clear()
                module(x)
                crop = crop_of(module)
                crops = 1 if crop is None else len(starts(x.shape[2], crop))
                inner = crops * len(x)
                for name in names:
                    if not isinstance(value := seen.get(name), Tensor) or value.ndim < 2 or len(value) != inner:
                        raise ValueError(f"stage '{name}' of {type(module).__name__} gives no (B, ...); leave it out")
                    found = _mean(known[name], value).unflatten(0, (-1, crops)).mean(1).cpu().numpy()
                    out.setdefault(name, np.empty((len(rows), found.shape[1]), np.float32))
                    out[name][start : start + len(x)] = found
    finally:
        for hook in hooks:
            hook.remove()
    return out
