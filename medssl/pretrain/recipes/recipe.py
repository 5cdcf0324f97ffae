"""What a recipe is: a step and the few facts the trainer has to know beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from medssl.config import Batch as BatchParams
from medssl.pretrain.data import Batch

if TYPE_CHECKING:
    from medssl.pretrain.module import Contrast

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """A row of the table.

    Attributes:
        step: batch -> losses; ``loss`` is the one to minimise, others are curves.
        pairs: batches are pairs of segments of distinct participants.
        momentum: keep an exponential average of encoder and head as target, unless ``pretrain.momentum`` is null.
        averaged: export the equal-weight average of all iterates instead of the last one.
        head: train a projection on top of the encoder.
        dense: needs an encoder with a feature map.
        measures: needs ``pretrain.anatomy.measures``.
        prototypes: needs ``pretrain.swav``: prototypes and small crops.
        drawn: whether the step reads random views of signals, ``v1`` and ``v2``.
        duplicates: why near-duplicates can only be removed beforehand (``pretrain.duplicates``); empty: they need not.
        views: plan of random views of signals where ``pretrain.views`` is null; ``wearable`` follows the modality.
    """

    step: Callable[[Contrast, Batch], Losses]
    pairs: bool = False
    momentum: bool = False
    averaged: bool = False
    head: bool = True
    dense: bool = False
    measures: bool = False
    prototypes: bool = False
    drawn: bool = True
    duplicates: str = ""
    views: str = "default"

    def batch(self, batch: BatchParams) -> BatchParams:
        """Return the composition this recipe needs: pairs keep the patients and draw two segments of each."""
        return BatchParams(patients=batch.patients, trials=2, samples=1) if self.pairs else batch

    def plan(self, views: str | None, modality: str) -> str:
        """Return the name of the plan of random views.

        Channels of a PPG are interchangeable colours; leads of an ECG or sites of an EEG are not.
        """
        chosen = views or self.views
        return chosen if chosen != "wearable" else "wearable_ppg" if modality == "ppg" else "wearable_ecg"
