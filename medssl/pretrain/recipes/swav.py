"""SwAV with multi-crop: the code of one view is predicted from every other crop.

Source: Caron et al. 2020, as used by Wolf et al. 2024: 2 whole views and 6 small crops, 500 prototypes, temperature
0.1, Sinkhorn with eps 0.05 and 3 rounds. Prototypes are held fixed for the first ``freeze_steps`` *steps* (the public
code counts epochs by mistake). ``queue`` keeps embeddings of earlier batches, which take part in the assignment once it
is full: a batch well below a quarter of the prototypes cannot be spread evenly over them.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.models.heads import Prototypes
from medssl.pretrain.data import Batch
from medssl.pretrain.memory import Memory
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, Views, groups, one_projection


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the projection and the prototypes."""
    options: Any = params.options
    return one_projection(sizes, params) | {"prototypes": Prototypes(params.projection_dim, options.prototypes)}


def memory(sizes: Sizes, params: Pretrain) -> Memory | None:
    """Return the queue; embeddings are kept and scored with the prototypes of the moment."""
    options: Any = params.options
    return Memory(options.queue, params.projection_dim) if options.queue else None


def held(net: Net, params: Pretrain) -> list[dict[str, Any]]:
    """Return the parameters, prototypes apart: they do not decay, and do not move for the first steps."""
    *others, prototypes = groups(net, params, apart="prototypes")
    frozen = net.options.freeze_steps
    return [*others, prototypes | {"schedule": lambda step, usual: usual if step >= frozen else 0.0}]


def step(net: Net, batch: Batch) -> Losses:
    """Return the swapped prediction over all crops."""
    options, prototypes = net.options, net.heads["prototypes"]
    z = net.project_all(batch.views)
    queue = None
    if options.queue:
        queue = prototypes(net.memory.z).detach() if net.memory.full else None
        net.memory.push(net.gather(z[0].detach()), net.gather(batch.row), net.gather(batch.patient))
    loss = O.multi_crop(
        [net.gather(prototypes(one)) for one in z],
        targets=2,
        temperature=net.params.temperature,
        eps=options.eps,
        iterations=options.iterations,
        queue=queue,
    )
    return {"loss": loss}


def after(net: Net, step: int) -> None:
    """Bring the prototypes back to unit length."""
    prototypes: Any = net.heads["prototypes"]
    prototypes.renormalise()


RECIPE = Recipe(
    step,
    positives="codes of two views, predicted from all crops",
    objective="swapped prediction, Sinkhorn",
    source="Caron 2020, Wolf 2024",
    heads=heads,
    memory=memory,
    after=after,
    groups=held,
    views=lambda options: Views(2, options.crops),
    duplicates="it predicts codes and has no negatives to take them out of",
)
