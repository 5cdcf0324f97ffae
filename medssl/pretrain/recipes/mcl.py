"""MCL: a new encoder learns by contrast among samples that look alike to the earlier ones, and stands beside them.

Contrast stops at the features that tell samples apart most easily. So the embeddings of ``runs.<name>.start`` are
clustered, each of its stages by k-means of its own, and every batch is drawn inside one pseudo label (previous label
times K, plus cluster): negatives share all features found so far, and others have to be found. The encoder that is
left is that of all stages: their unit embeddings side by side. Without a ``start`` this is stage 0, ordinary contrast;
a chain of runs adds a stage each.

Source: Zhang et al. 2024 (MCL). Ours: the new encoder always starts from random weights (there: fresh or continued); a
cluster with fewer patients than a batch joins the nearest one; windows of one patient are no negatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.models.joined import Joined
from medssl.objectives import clusters
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, projection


class Newest(nn.Module):
    """A head (B, d) -> (B, e) that reads the newest stage alone: all of an embedding but the ``earlier`` columns."""

    def __init__(self, head: nn.Module, earlier: int) -> None:
        super().__init__()
        self.head, self.earlier = head, earlier

    def forward(self, embedding: Tensor) -> Tensor:
        """Return the head's output."""
        out: Tensor = self.head(embedding[:, self.earlier :])
        return out


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the projection of the newest stage."""
    own = sizes._replace(embedding=sizes.embedding - sizes.earlier)
    return {"projection": Newest(projection(own, params), sizes.earlier)}


def beside(encoder: nn.Module, start: nn.Module | None) -> nn.Module:
    """Return a fresh encoder beside those of the earlier stages, which stay as they are."""
    return encoder if start is None else Joined([start.requires_grad_(False), encoder])


def inside(table: pd.DataFrame, z: np.ndarray | None, params: Pretrain) -> pd.DataFrame:
    """Return the table with the pseudo label of each sample as column ``stage``; one for all where nothing is known.

    Args:
        table: of the training samples.
        z: (S, n, d) embeddings by each stage so far.
        params: give the number of clusters and of patients in a batch.
    """
    if z is None:
        return table.assign(stage=0)
    options: Any = params.options
    patients = table["patient"].to_numpy()
    label = clusters.nested(z, options.clusters)
    least = min(params.batch.patients, len(np.unique(patients)))
    return table.assign(stage=clusters.merged(label, clusters.joined(z), patients, least))


def step(net: Net, batch: Batch) -> Losses:
    """Return the NT-Xent of a batch whose samples have one pseudo label."""
    z1, z2 = (net.gather(z) for z in net.project_all(batch.views))
    group, duplicates = net.gather(batch.patient), net.duplicates(batch.duplicate, batch.second.duplicate)
    return {"loss": O.nt_xent(z1, z2, temperature=net.params.temperature, group=group, duplicates=duplicates)}


RECIPE = Recipe(
    step,
    positives="two views of a sample, among samples that earlier stages (`start`) cannot tell apart",
    objective="NT-Xent inside one cluster; embeddings of all stages side by side",
    source="Zhang 2024",
    heads=heads,
    begin=beside,
    arrange=inside,
    within="stage",
)
