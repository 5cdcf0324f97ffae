"""Participant contrast of the wearable foundation models: cross-view keys, KoLeo, momentum branch.

Source: Abbaspourazad et al. 2024 (ICLR). ``participant_pairs`` is the share of participants whose positive is
another segment of theirs (1 in the paper); the others get a second view of the same segment, so that 0 is the segment
control. ``momentum: null`` takes the keys from the online branch, with gradient; ``koleo: 0`` drops the spread.
KoLeo, too, looks for neighbours in the whole batch of all processes. The two segments of a participant are a positive
pair even where they are near-duplicates; ``pretrain.duplicates`` is about those of different participants.
"""

from __future__ import annotations

import torch

from medssl import objectives as O
from medssl.config import Batch as Composition
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe


def step(net: Net, batch: Batch) -> Losses:
    """Return contrast plus KoLeo, and each. Rows 2i and 2i + 1 of the batch are two segments of participant i."""
    first, second = batch.views[0][0::2], batch.views[0][1::2]
    ids = [batch.duplicate[0::2], batch.duplicate[1::2]]
    share = net.options.participant_pairs
    if share < 1:
        participant = net.draws.fork(20).uniform()[0::2] < share
        second = torch.where(participant.view(-1, *[1] * (first.ndim - 1)), second, batch.views[1][0::2])
        ids[1] = torch.where(participant, ids[1], ids[0])
    duplicates = net.duplicates(*ids)
    q1, q2 = (net.gather(net.project(x)) for x in (first, second))
    temperature = net.params.temperature
    if net.teacher is None:
        contrast = O.nt_xent(q1, q2, temperature=temperature, duplicates=duplicates)
    else:
        k1, k2 = (net.gather(net.teach(x)) for x in (first, second))
        contrast = O.wearable.info_nce(q1, q2, k1, k2, temperature=temperature, duplicates=duplicates)
    spread = (O.koleo(q1) + O.koleo(q2)) / 2
    return {"loss": contrast + net.options.koleo * spread, "contrast": contrast, "koleo": spread}


def two_segments(batch: Composition) -> Composition:
    """Keep the patients and draw two segments of each."""
    return Composition(patients=batch.patients, trials=2, samples=1)


RECIPE = Recipe(
    step,
    positives="two segments of a participant, keys from a momentum branch",
    objective="InfoNCE + KoLeo",
    source="Abbaspourazad 2024",
    momentum=lambda options, progress: options.momentum,
    plan="wearable",
    batch=two_segments,
    partners="it draws two segments of a participant (pretrain.options.participant_pairs)",
)
