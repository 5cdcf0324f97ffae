"""Which encoder is kept, and when a run ends early."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medssl.config import Pretrain
from medssl.models import build
from medssl.pretrain.callbacks import Selection
from medssl.pretrain.module import Contrast
from medssl.pretrain.recipes import RECIPES


def chosen(
    scores: list[float], *, select: str, patients: int = 25, patience: int | None = None
) -> tuple[int, int, float]:
    """Return the kept epoch, the epochs run, and the weight kept, which is the number of its epoch."""
    encoder = build("dilated1d", in_channels=1, widths=(2, 2), depth=1)
    net = Contrast(encoder, RECIPES["simclr"], Pretrain(projection_dim=2), steps=10)
    monitors: Any = SimpleNamespace(history=[])
    strategy = SimpleNamespace(reduce_boolean_decision=lambda value, all: value)
    trainer: Any = SimpleNamespace(is_global_zero=True, strategy=strategy, should_stop=False)
    selection = Selection(monitors, select=select, patients=patients, patience=patience)
    for epoch, score in enumerate(scores):
        with torch.no_grad():
            net.encoder.inputs.bias.fill_(epoch)  # type: ignore[union-attr, operator]
        monitors.history.append({"val/knn": score, "val/loss": -score} if score == score else {})
        selection.on_train_epoch_end(trainer, net)
        if trainer.should_stop:
            break
    return selection.epoch, len(monitors.history), float(selection.weights["inputs.bias"][0])


@pytest.mark.parametrize(
    ("scores", "select", "expected"),
    [
        ([0.5, 0.8, 0.79, 0.75], "knn", 3),  # within one standard error (0.08) of the best: the latest
        ([0.5, 0.8, 0.79, 0.60], "knn", 2),  # a real decline
        ([0.5, 0.9, 0.6, 0.7], "knn", 1),
        ([0.5, 0.8, 0.79, 0.75], "loss", 1),  # a loss has no such slack
        ([0.5, 0.8, 0.79, 0.6], "last", 3),
        ([float("nan")] * 3, "knn", 2),  # nothing to choose by
        ([float("nan"), 0.9, 0.5], "knn", 1),
    ],
)
def test_the_latest_that_is_as_good_as_the_best(scores: list[float], select: str, expected: int) -> None:
    epoch, _, weight = chosen(scores, select=select)
    assert epoch == expected
    assert weight == expected


def test_few_patients_leave_more_to_noise() -> None:
    scores = [0.5, 0.8, 0.7]
    assert chosen(scores, select="knn", patients=10)[0] == 2
    assert chosen(scores, select="knn", patients=100)[0] == 1


def test_patience_counts_epochs_without_a_new_choice() -> None:
    scores = [0.5, 0.9, 0.4, 0.4, 0.4, 0.95]
    assert chosen(scores, select="knn", patience=2)[:2] == (1, 4)
    assert chosen(scores, select="knn", patience=4)[:2] == (5, 6)
