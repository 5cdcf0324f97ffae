"""Names of checkpoints: a run goes on only from what the same parameters, data, code and arithmetic left."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from medssl.config import Compute, Run
from medssl.pretrain.data import duplicate_classes, training_rows
from medssl.store import Store


def run_hash(run: Run, store: Store, seed: int, start: nn.Module | None = None) -> str:
    """Return the name of a run's checkpoints: parameters, data and their scale, split, seed, code and first weights.

    A run resumes only from a folder of its own name, so that changed parameters never start from old weights. How it is
    computed is the rest of that name (`arithmetic`).
    """
    code = hashlib.blake2b(digest_size=8)
    package = Path(__file__).parents[1]
    for folder in ("models", "objectives", "views", "handcrafted", "pretrain"):
        for path in sorted((package / folder).rglob("*.py")):
            code.update(path.read_bytes())
    split = hashlib.blake2b("".join(store.table["split"]).encode(), digest_size=8).hexdigest()
    receipts = hashlib.blake2b(store.table["kept"].to_numpy().tobytes(), digest_size=8)
    if run.pretrain.duplicates != "remove":
        receipts.update(training_rows(store.table, run.pretrain.duplicates).tobytes())
        receipts.update(duplicate_classes(store.table).tobytes())
    parameters = run.model_dump(mode="json", exclude={"evaluate"})
    facts = [parameters, store.content_hash, store.scale, split, receipts.hexdigest(), seed, code.hexdigest()]
    if start is not None:
        first = hashlib.blake2b(digest_size=8)
        for value in start.state_dict().values():
            first.update(value.cpu().numpy().tobytes())
        facts.append(first.hexdigest())
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


def arithmetic(compute: Compute, device: torch.device, *, size: int, processes: int) -> str:
    """Return what else decides a run's numbers, as the end of its checkpoint folder's name.

    Precision rounds each product. Kinds of device round differently and draw dropout from generators of their own, as
    does compiled code. Each process draws its own dropout, and on CPU normalises batches over its own share. A run that
    went on with another of these would be a mixture that no run without a stop equals, so it starts anew. Workers and
    the time between checkpoints change nothing that is learned.

    Args:
        compute: section of params.yaml.
        device: where the weights are.
        size: of a batch, over all processes.
        processes: their number.
    """
    compiled = "-compiled" if compute.compile else ""
    return f"{size}-{processes}x{device.type}-{compute.precision}{compiled}"
