"""G-SimCLR: batches of samples of different clusters, so that a negative is rarely a sample of the same kind.

The samples are clustered by k-means of their embeddings by the encoder of ``runs.<name>.start``, and a batch holds at
most one sample of each cluster. Without a ``start`` the patients are the clusters.

Source: Chakraborty et al. 2020 (G-SimCLR). Ours: an encoder of the project in place of a denoising auto-encoder, whose
weights are not taken over; windows of one patient, which may lie in two clusters, are no negatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medssl import objectives as O
from medssl.config import Batch as Composition
from medssl.config import Pretrain
from medssl.objectives import clusters
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe


def apart(table: pd.DataFrame, z: np.ndarray | None, params: Pretrain) -> pd.DataFrame:
    """Return the table with clusters in the place of patients, of whom a batch holds different ones."""
    if z is None:
        return table
    options: Any = params.options
    label = clusters.labels(clusters.joined(z), options.clusters)
    return table.assign(patient=label, trial=label)


def singles(batch: Composition) -> Composition:
    """Return a composition of as many samples, one of each patient or cluster."""
    return Composition(patients=batch.patients * batch.trials * batch.samples, trials=1, samples=1)


def step(net: Net, batch: Batch) -> Losses:
    """Return the NT-Xent of a batch of different clusters."""
    z1, z2 = (net.gather(z) for z in net.project_all(batch.views))
    group, duplicates = net.gather(batch.patient), net.duplicates(batch.duplicate)
    return {"loss": O.nt_xent(z1, z2, temperature=net.params.temperature, group=group, duplicates=duplicates)}


RECIPE = Recipe(
    step,
    positives="two views of a sample, against samples of other clusters of `start`",
    objective="NT-Xent over one sample of each cluster",
    source="Chakraborty 2020",
    batch=singles,
    begin=lambda encoder, start: encoder,
    arrange=apart,
    partners="its batches are drawn by cluster, not by patient",
)
