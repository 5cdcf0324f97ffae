"""COCONUT: a run goes on with samples of new sites and rehearses a few of the earlier ones, so as not to forget them.

Samples of ``sites`` are trained on, with those of a share of the patients of the sites ``before``. All rows are
contrasted as ever. Rehearsed rows are contrasted once more, embeddings of now with positives by the encoder of
``runs.<name>.start`` and negatives of now, and stay near that encoder's embeddings: 1 - cosine. Without a ``start``
this is ordinary contrast on ``sites``: the first run of a sequence.

Source: COCONUT (Cappellazzo et al. 2023), by its description. Ours: two views in place of two modalities, the patient
in place of a label, embeddings in place of logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.objectives.rehearsal import rehearsal
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes


def remembered(table: pd.DataFrame, z: np.ndarray | None, params: Pretrain) -> pd.DataFrame:
    """Return the rows of the new sites and of the rehearsed patients, which a column ``rehearsed`` tells."""
    options: Any = params.options
    asked = (*options.sites, *options.before)
    if asked and options.column not in table:
        raise ValueError(f"pretrain.options.column: no '{options.column}'; the table has: {', '.join(table.columns)}")
    value = table[options.column].astype(str) if asked else pd.Series("", index=table.index)
    if unknown := sorted(set(asked) - set(value)):
        have = ", ".join(sorted(set(value)))
        raise ValueError(f"pretrain.options: no training sample of {options.column} {unknown}; there are: {have}")
    old = value.isin(options.before)
    new = value.isin(options.sites) if options.sites else ~old
    patients = table.loc[old, "patient"].unique()  # by appearance: codes depend on the key for patient names
    kept = np.random.default_rng(0).permutation(patients)[: int(np.ceil(options.share * len(patients)))]
    return table.assign(rehearsed=old)[new | (old & table["patient"].isin(kept))]


def state(sizes: Sizes, params: Pretrain) -> dict[str, Tensor]:
    """Return which rows of the store are rehearsed."""
    rehearsed = torch.zeros(sizes.samples, dtype=torch.bool)
    if "rehearsed" in sizes.drawn:
        rehearsed[sizes.drawn.index[sizes.drawn["rehearsed"]].to_numpy()] = True
    return {"rehearsed": rehearsed}


def step(net: Net, batch: Batch) -> Losses:
    """Return the contrast of all rows, plus both terms of the rehearsed ones, and each."""
    group, temperature = net.gather(batch.patient), net.params.temperature
    e1, e2 = (net.noted("embedding", net.encoder(view)) for view in batch.views)
    projected = [normalize(net.noted("projection", net.heads["projection"](e)), dim=1) for e in (e1, e2)]
    duplicates = net.duplicates(batch.duplicate, batch.second.duplicate)
    z1, z2 = (net.gather(z) for z in projected)
    contrast = O.nt_xent(z1, z2, temperature=temperature, group=group, duplicates=duplicates)
    if not net.started:
        return {"loss": contrast}
    rehearsed = net.gather(net.state["rehearsed"][batch.row])
    now, other = (net.gather(normalize(e, dim=1))[rehearsed] for e in (e1, e2))
    before = net.gather(normalize(net.start(batch.views[1]), dim=1))[rehearsed]
    kept = rehearsal(now, other, before, group[rehearsed], temperature=temperature)
    near = (1 - (other * before).sum(1)).sum() / rehearsed.sum().clamp_min(1)
    loss = contrast + net.options.rehearse * kept + net.options.distil * near
    return {"loss": loss, "contrast": contrast, "rehearsal": kept, "distillation": near}


RECIPE = Recipe(
    step,
    positives="two views of a sample; of rehearsed samples also the embeddings by `start`",
    objective="NT-Xent + supervised contrast with an earlier encoder + distillation",
    source="Cappellazzo 2023",
    state=state,
    arrange=remembered,
    recalls=True,
    duplicates="it rehearses embeddings of an earlier encoder, which its terms compare by patient alone",
)
