"""Fine-tune an encoder on few labels, or train the same network from scratch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from medssl.evaluate.tasks import Task
from medssl.models.heads import Classifier
from medssl.store import Store


def finetune(
    encoder: nn.Module,
    store: Store,
    task: Task,
    units: np.ndarray,
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Train a copy of ``encoder`` and a linear layer on the samples of ``units``; return test predictions (n_test, K).

    AdamW, cosine decay, ``steps`` steps of ``batch`` samples whatever the number of labels, no early stopping, so that
    the test patients decide nothing. Predictions are averaged over a unit's samples.

    Args:
        encoder: pretrained, or freshly initialised for the supervised control; not changed.
        store, task, units: where the samples are, what to predict, and the units to train on.
        steps, batch, lr, device: optimisation.
        seed: of the linear layer, the order of samples and dropout.
    """
    wanted = np.isin(task.member, units)
    rows, member = task.rows[wanted], task.member[wanted]
    outputs = len(task.classes) if task.kind != "number" else 1
    mean, std = torch.zeros(1), torch.ones(1)
    if task.kind == "class":
        unit_class = np.searchsorted(task.classes, task.truth)
        truth = torch.from_numpy(unit_class)
    else:
        truth = torch.from_numpy(task.truth.astype(np.float32).reshape(len(task.truth), -1))
    if task.kind == "number":
        mean, std = truth[units].mean(0), truth[units].std(0).clamp_min(1e-6) if len(units) > 1 else torch.ones(1)
        truth = (truth - mean) / std
    rng = np.random.default_rng([seed, 13])
    # One patient, one vote: samples are drawn with equal weight per unit, classes balanced.
    weight = 1 / np.bincount(member, minlength=len(task.patient))[member]
    if task.kind == "class":
        weight = weight / np.bincount(unit_class[units], minlength=outputs)[unit_class[member]]
    weight = weight / weight.sum()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier(copy.deepcopy(encoder), outputs).to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            pick = rng.choice(len(rows), size=min(batch, max(2, len(rows))), p=weight)
            x = torch.from_numpy(store.read(rows[pick])).to(device)
            y = truth[member[pick]].to(device)
            predicted = model(x)
            if task.kind == "class":
                loss = functional.cross_entropy(predicted, y)
            elif task.kind == "multilabel":
                loss = functional.binary_cross_entropy_with_logits(predicted, y)
            else:
                loss = functional.huber_loss(predicted, y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return _predict(model, store, task, mean, std, device)


@torch.inference_mode()
def _predict(
    model: nn.Module, store: Store, task: Task, mean: torch.Tensor, std: torch.Tensor, device: str | torch.device
) -> np.ndarray:
    """Return predictions per test unit, averaged over its samples."""
    model.eval()
    test = task.part("test")
    wanted = np.isin(task.member, test)
    rows, member = task.rows[wanted], task.member[wanted]
    parts = []
    for start in range(0, len(rows), 256):
        out = model(torch.from_numpy(store.read(rows[start : start + 256])).to(device)).float().cpu()
        if task.kind == "class":
            out = out.softmax(1)
        elif task.kind == "multilabel":
            out = out.sigmoid()
        else:
            out = out * std + mean
        parts.append(out.numpy())
    values = np.concatenate(parts).astype(np.float64)
    position = np.searchsorted(test, member)
    sums = np.zeros((len(test), values.shape[1]))
    np.add.at(sums, position, values)
    pooled: np.ndarray = sums / np.bincount(position, minlength=len(test))[:, None]
    return pooled
