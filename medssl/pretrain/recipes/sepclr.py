"""SepCLR: two encoders, one of what all people have in common, one of what only the sick have.

Source: Louiset et al. 2024; see `medssl.objectives.sepclr`. ``pretrain.labels`` names one label; samples whose value is
``healthy`` are the background, others the target, and those without it help the common code alone. ``export`` says
which encoder is kept, ``common`` or ``salient``; the encoder folder has it in ``provenance.pretrain.options``.
Deliberate differences: both encoders start alike, and codes are projections of the size of the other recipes. Windows
of one patient are not told apart (ours). ``pretrain.temperature`` is not used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.config import Pretrain
from medssl.objectives.sepclr import sepclr
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, projection


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return a projection of the encoder that is kept and one of the other.

    Raises:
        ValueError: not one label, or one that nobody, or everybody, has as ``healthy``.
    """
    if len(params.labels) != 1:
        raise ValueError(f"pretrain.labels {list(params.labels)}: recipe sepclr reads one label; name it")
    known, background = sizes.label[sizes.label.isfinite()], params.options.healthy  # type: ignore[attr-defined]
    if len(known) and (known == background).float().mean() in (0, 1):
        values = ", ".join(f"{value:g}" for value in known.unique()[:10].tolist())
        raise ValueError(
            f"pretrain.options.healthy {background:g}: {params.labels[0]} has the values {values}; name one of several "
            "(of classes, the place of its name in the alphabet, from 0)"
        )
    return {"projection": projection(sizes, params), "other_projection": projection(sizes, params)}


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted sum of the four terms, and each."""
    options = net.options
    views = torch.cat(batch.views[:2])
    codes = [net.project(views, unit=False), net.heads["other_projection"](net.heads["other"](views))]
    c, s = codes if options.export == "common" else codes[::-1]
    c1, c2, s1, s2 = (net.gather(one) for code in (normalize(c, dim=1), s) for one in code.chunk(2))
    label = net.gather(batch.label[:, 0])
    sick = torch.where(label.isfinite(), (label != options.healthy).float(), torch.nan)
    terms = sepclr((c1, c2), (s1, s2), sick, group=net.gather(batch.patient))._asdict()
    weights: dict[str, float] = {"common": 1.0} | {k: getattr(options, k) for k in ("salient", "uninformed", "joint")}
    total: Tensor = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return {"loss": total, **terms}


RECIPE = Recipe(
    step,
    positives="two views of a sample, in a code of all people and in one of the sick",
    objective="alignment, uniformity, joint entropy of both codes",
    source="Louiset 2024",
    heads=heads,
    towers=("other",),
    duplicates="it knows patients, not near-duplicates",
)
