"""Which encoder is kept, when a run ends early, and how often it is measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medssl.config import OPTIONS, Pretrain
from medssl.models import build
from medssl.pretrain.callbacks import SHARE, Selection, spacing
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes


def chosen(
    scores: list[float], *, select: str, patients: int = 25, patience: int | None = None
) -> tuple[int, int, float]:
    """Return the measurement kept, how many there were, and the weight kept, which is the number of its measurement."""
    encoder = build("dilated1d", in_channels=1, widths=(2, 2), depth=1)
    params = Pretrain(projection_dim=2, options=OPTIONS["simclr"]())
    module = Training(RECIPES["simclr"].net(encoder, params, Sizes(2, 1, (1, 8))), RECIPES["simclr"], steps=10)
    monitors: Any = SimpleNamespace(history=[], now=True)
    strategy = SimpleNamespace(reduce_boolean_decision=lambda value, all: value)
    trainer: Any = SimpleNamespace(is_global_zero=True, strategy=strategy, should_stop=False)
    selection = Selection(monitors, select=select, patients=patients, patience=patience)
    for number, score in enumerate(scores):
        with torch.no_grad():
            module.net.encoder.inputs.bias.fill_(number)  # type: ignore[union-attr, operator]
        monitors.history.append({"val/knn": score, "val/loss": -score} if score == score else {})
        selection.on_train_batch_end(trainer, module)
        if trainer.should_stop:
            break
    return selection.chosen, len(monitors.history), float(selection.weights["inputs.bias"][0])


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
    number, _, weight = chosen(scores, select=select)
    assert number == expected
    assert weight == expected


def test_few_patients_leave_more_to_noise() -> None:
    scores = [0.5, 0.8, 0.7]
    assert chosen(scores, select="knn", patients=10)[0] == 2
    assert chosen(scores, select="knn", patients=100)[0] == 1


def test_patience_counts_measurements_without_a_new_choice() -> None:
    scores = [0.5, 0.9, 0.4, 0.4, 0.4, 0.95]
    assert chosen(scores, select="knn", patience=2)[:2] == (1, 4)
    assert chosen(scores, select="knn", patience=4)[:2] == (5, 6)


def test_measuring_takes_its_share_and_no_more() -> None:
    for measured, trained in ((700, 256), (3000, 16), (3000, 8192)):
        every = spacing(10**6, measured=measured, trained=trained)
        assert measured <= SHARE * 3 * trained * every
        assert every == 10 or measured > SHARE * 3 * trained * (every - 1)
    assert spacing(7, measured=3000, trained=16) == 7  # once, at the end
    assert spacing(1000, measured=0, trained=16) == 10
