"""2D Matryoshka: the first numbers of an embedding, and earlier stages of the encoder, do by themselves.

``loss = L(whole) + mean_k L(first k) + mean_k L(first k of stage i) / (1 + ln(1 + i)) + distil * KL``, where L is
NT-Xent of embeddings that are made unit after they are cut, and i is one of the stages before the last, drawn anew for
each step. KL is from how similar a sample is to those of other patients by the whole embedding, without gradient, to
how similar by its first numbers, as distributions.

Source: Kusupati et al. 2022 (Matryoshka), Li et al. 2024 (2D Matryoshka, Espresso). Deliberate differences: one stage a
step instead of all; KL compares similarities, not the axes of a principal component analysis, which have no sign. The
embedding itself is contrasted, without a head, as what is searched by cosine is what was trained.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.models.embed import embed_at, stages
from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, continued


@without_autocast
def likeness_lost(part: Tensor, whole: Tensor, *, group: Tensor, temperature: float) -> Tensor:
    """Return the mean over rows of the KL divergence of similarities by ``part`` from those by ``whole``.

    Args:
        part: (n, k) of any length.
        whole: (n, d) of any length, without gradient.
        group: (n,); a row is compared with the rows of other groups.
        temperature: divides cosines.
    """
    part, whole = full_precision(part, whole.detach())
    own = group[:, None] == group
    some = ~own.all(1, keepdim=True)

    def logs(z: Tensor) -> Tensor:
        unit = normalize(z, dim=1)
        scores = (unit @ unit.T / temperature).masked_fill(own & some, -torch.inf)
        return functional.log_softmax(scores, 1)

    p, q = logs(whole), logs(part)
    return torch.where(~own, p.exp() * (p - q), 0).sum(1).mean()


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the embedding itself as the projection.

    Raises:
        ValueError: a prefix that is no shorter than the embedding.
    """
    prefixes: tuple[int, ...] = params.options.prefixes  # type: ignore[attr-defined]
    if max(prefixes) >= sizes.embedding:
        given = f"pretrain.options.prefixes {list(prefixes)}"
        raise ValueError(f"{given}: the embedding has {sizes.embedding} numbers; give smaller ones")
    return {"projection": nn.Identity()}


def by_its_end(encoder: nn.Module, start: nn.Module | None) -> nn.Module:
    """Return the encoder to train, whose first numbers are of its last stage.

    Raises:
        ValueError: they are of its first stages.
    """
    if getattr(getattr(encoder, "pool", None), "kind", None) == "stages":
        raise ValueError(
            "encoder.pool: stages begins with early stages, which a prefix would be; take mean or mean_std"
        )
    return continued(encoder, start)


def step(net: Net, batch: Batch) -> Losses:
    """Return the sum, and its terms: of the whole, of prefixes, of those of a stage, of the likeness they lose."""
    group, duplicates = net.gather(batch.patient), net.duplicates(batch.duplicate, batch.second.duplicate)
    temperature, prefixes = net.params.temperature, net.options.prefixes

    def contrast(z: Tensor, dims: int) -> Tensor:
        first, second = (normalize(view[:, :dims], dim=1) for view in z.chunk(2))
        return O.nt_xent(first, second, temperature=temperature, group=group, duplicates=duplicates)

    early = list(stages(net.encoder))[:-1] or list(stages(net.encoder))
    draw = int(net.gather(net.draws.fork(11).integers(len(early))[:1])[0])  # the first sample's, on all processes
    h, at_stage = embed_at(net.encoder, early[draw], torch.cat(batch.views))
    h = net.noted("projection", net.noted("embedding", h))
    # [view 1; view 2] of all processes.
    z, shallow = (torch.cat([net.gather(view) for view in x.chunk(2)]) for x in (h, at_stage))
    whole = contrast(z, z.shape[1])
    prefix = torch.stack([contrast(z, k) for k in prefixes]).mean()
    stage = torch.stack([contrast(shallow, k) for k in prefixes]).mean() / (1 + math.log(2 + draw))
    lost = [likeness_lost(z[:, :k], z, group=group.repeat(2), temperature=temperature) for k in prefixes]
    distilled = torch.stack(lost).mean()
    loss = whole + prefix + stage + net.options.distil * distilled
    return {"loss": loss, "whole": whole, "prefix": prefix, "stage": stage, "likeness": distilled}


RECIPE = Recipe(
    step,
    positives="two views of a sample; windows of one patient are no negatives",
    objective="NT-Xent of the embedding, of its first numbers, and of those of an earlier stage",
    source="Kusupati 2022, Li 2024",
    heads=heads,
    begin=by_its_end,
)
