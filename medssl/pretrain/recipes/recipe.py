"""What a recipe is: functions of the network and the batch, and the words that tell of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from medssl.config import Batch as Composition
from medssl.config import Pretrain
from medssl.models.heads import Projection
from medssl.models.joined import Joined, crop_of
from medssl.pretrain.data import Batch
from medssl.pretrain.memory import Memory
from medssl.pretrain.net import Net
from medssl.pretrain.recipes import predict

Losses = dict[str, Tensor]


class Sizes(NamedTuple):
    """What heads and state are made for.

    Attributes:
        embedding: channels of the encoder's output.
        samples: rows of the store; ``Batch.row`` is below.
        shape: of a sample, (C, ...).
        measures: shapes of the factors in ``Batch.anatomy`` (`medssl.pretrain.data.Measures`).
        anatomy: (n, K) of some training samples.
        channels: their names, where the cohort names them.
        label: (n, L) of the samples of ``anatomy``.
        drawn: table of the samples that batches are drawn from; its index are their rows.
        told: how many features ``pretrain.predict: {name: handcrafted}`` has the encoder tell.
        earlier: how many of the first numbers of an embedding are of encoders that are no longer trained.
    """

    embedding: int
    samples: int
    shape: tuple[int, ...]
    measures: tuple[tuple[int, ...], ...] = ()
    anatomy: Tensor = torch.empty(0, 0)
    channels: tuple[str, ...] = ()
    label: Tensor = torch.empty(0, 0)
    drawn: pd.DataFrame = pd.DataFrame()
    told: int = 0
    earlier: int = 0


class Views(NamedTuple):
    """How many random views a step reads: of the whole sample, and of small crops of it (behind the others)."""

    whole: int = 2
    small: int = 0


def projection(sizes: Sizes, params: Pretrain, **changes: Any) -> Projection:
    """Return the head that ``projection_dim``, ``projection_hidden`` and ``projection_norm`` describe."""
    chosen: dict[str, Any] = {"hidden": params.projection_hidden, "norm": params.projection_norm, **changes}
    return Projection(sizes.embedding, params.projection_dim, **chosen)


def one_projection(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the heads of most recipes."""
    return {"projection": projection(sizes, params)}


def groups(net: Net, params: Pretrain, *, apart: str | None = None) -> list[dict[str, Any]]:
    """Return groups of parameters: matrices and kernels, which decay; biases and norms, which do not; and a head.

    Args:
        net: gives the parameters.
        params: gives the decay.
        apart: a head with a group of its own, the last one, without decay, such as prototypes of fixed length.
    """
    mine = [] if apart is None else list(net.heads[apart].parameters())
    fixed = {id(p) for p in mine}
    trained = [p for p in net.parameters() if p.requires_grad and id(p) not in fixed]
    out = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return out if apart is None else [*out, {"params": mine, "weight_decay": 0.0}]


def continued(encoder: nn.Module, start: nn.Module | None) -> nn.Module:
    """Return a fresh encoder with the weights of the one that the run starts from, if it starts from one."""
    if isinstance(start, Joined):
        raise ValueError("start: an encoder of several stages (recipe mcl), and this recipe trains one; take mcl")
    if start is not None:
        encoder.load_state_dict(start.state_dict())
    return encoder


@dataclass(frozen=True)
class Recipe:
    """A row of the table. All but the step has a default; words are those of ``docs/reference/recipes.md``.

    Attributes:
        step: network and batch -> losses; ``loss`` is the one to minimise, others are curves.
        positives, objective, source: what is pulled together, by which loss, from which papers.
        heads: modules on top of the encoder, by name.
        towers: names of further encoders, which start as copies of the first, are trained beside it and stand among the
            heads; the first alone is exported.
        state: tensors to keep between steps, by name (`medssl.pretrain.net.State`).
        memory: keys of earlier batches to keep.
        momentum: share of the teacher that stays in a step, by the run's progress from 0 to 1; None: no teacher.
        after: called after each optimiser step with the number of steps so far: renormalise, set a predictor.
        groups: parameters by learning rate and decay, as for an optimiser. A group's ``schedule``, a function of the
            step and the run's usual factor, replaces that factor of its learning rate.
        views: how many random views the step reads; none of them for the sample itself.
        place: whether views may move what they show; if not, places of all views correspond.
        plan: of random views of signals where ``pretrain.views`` is null (`medssl.views.signals.PLANS`).
        batch: composition of a batch that the recipe needs, from the one asked for; None: as asked.
        averaged: export the equal-weight average of all iterates instead of the last one.
        dense: needs an encoder with a feature map.
        begin: the encoder to train, from a fresh one and the one of ``runs.<name>.start`` (None: the run has none).
        arrange: the table to draw batches from, from that of the training samples, by row of the store, some of which
            it may leave out by what the table says, and their embeddings (S, n, d) by the S stages of the encoder of
            ``runs.<name>.start``, 1 but for `Joined` ones (None: the run has none).
        within: column of that table whose values do not meet in a batch, as for ``pretrain.within``.
        recalls: the step asks `Net.start` for embeddings of the encoder that training started from.
        partners: why a sample can only be pulled to its own views (``pretrain.positives``); empty: it need not.
        duplicates: why near-duplicates can only be removed beforehand (``pretrain.duplicates``); empty: they need not.
    """

    step: Callable[[Net, Batch], Losses]
    positives: str
    objective: str
    source: str
    heads: Callable[[Sizes, Pretrain], dict[str, nn.Module]] = one_projection
    towers: tuple[str, ...] = ()
    state: Callable[[Sizes, Pretrain], dict[str, Tensor]] = lambda sizes, params: {}
    memory: Callable[[Sizes, Pretrain], Memory | None] = lambda sizes, params: None
    momentum: Callable[[Any, float], float | None] = lambda options, progress: None
    after: Callable[[Net, int], None] | None = None
    groups: Callable[[Net, Pretrain], list[dict[str, Any]]] = groups
    views: Callable[[Any], Views] = lambda options: Views()
    place: bool = True
    plan: str = "default"
    batch: Callable[[Composition], Composition] | None = None
    averaged: bool = False
    dense: bool = False
    begin: Callable[[nn.Module, nn.Module | None], nn.Module] = continued
    arrange: Callable[[pd.DataFrame, np.ndarray | None, Pretrain], pd.DataFrame] | None = None
    within: str | None = None
    recalls: bool = False
    partners: str = ""
    duplicates: str = ""

    def net(self, encoder: nn.Module, params: Pretrain, sizes: Sizes, start: nn.Module | None = None) -> Net:
        """Return a network with all that this recipe keeps.

        Args:
            encoder: to train, made by ``begin``.
            params: section ``runs.<name>.pretrain``.
            sizes: of samples and embeddings.
            start: the encoder that training starts from; None: from random weights.

        Raises:
            ValueError: the recipe is dense and the encoder is not, a crop is longer than a sample, or `predict.head`'s.
        """
        crop = crop_of(encoder)
        if self.dense and crop is not None:
            raise ValueError(f"encoder.crop {crop}: this recipe reads every step of a sample; leave it out")
        if self.dense and not hasattr(encoder, "features"):
            raise ValueError("this recipe needs an encoder with a feature map; use encoder.name: dilated1d")
        if crop is not None and crop > sizes.shape[-1]:
            length = f"samples have {sizes.shape[-1]} steps (ingest.window_s)"
            raise ValueError(f"encoder.crop {crop}: {length}; take fewer, or null")
        heads = self.heads(sizes, params) | {name: copy.deepcopy(encoder) for name in self.towers}
        if params.predict is not None:
            heads["predict"] = predict.head(params, embedding=sizes.embedding, shape=sizes.shape, told=sizes.told)
        return Net(
            encoder,
            heads,
            params,
            state=self.state(sizes, params),
            memory=self.memory(sizes, params),
            taught=self.momentum(params.options, 0.0) is not None,
            start=start if self.recalls else None,
        )
