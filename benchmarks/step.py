"""The library's training classes as the benchmarks see them: a batch, a network, a step, a loss over processes.

No other benchmark names those classes. With `Process` it runs on the ``medssl`` of another commit as well, also of one
before recipes had options of their own (744c827 and earlier).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

from benchmarks.published import LEVELS, PlainEncoder, plain_loss
from benchmarks.timing import measured
from medssl import objectives as O

CHANNELS, LENGTH = 15, 300
DENSE = ("comet", "comet_code")  # recipes that need an encoder with a feature map
SETTINGS: dict[str, dict[str, Any]] = {
    "comet": {"levels": LEVELS},
    "comet_code": {"levels": LEVELS},
    "anatomy": {"measures": ("age",), "sigma": 1.0},
}
RECIPES = ("simclr", "comet", "comet_code", "wearable", "anatomy", "swav")


def batch_of(size: int, draw: int = 0) -> Any:
    """Return a batch of noise: two samples a trial, four trials a patient; ``draw`` is the number of its first."""
    from medssl.pretrain.data import Batch

    x = torch.randn(size, CHANNELS, LENGTH, generator=torch.Generator().manual_seed(0))
    number = torch.arange(size)
    patient, trial, drawn = number // 8, number // 2, draw + number
    age = (number // 8 % 7).float()[:, None] - 3
    if "views" not in Batch.__dataclass_fields__:
        return Batch(x, x, x, x[:, None, :0], patient, trial, age, drawn, number)
    return Batch(x, patient, trial, drawn, number, number, age, x.new_zeros(size, 0), x.new_ones(size))


def net_of(recipe: str, *, dropout: bool = True) -> Any:
    """Return a network under a recipe, always of the same weights."""
    from medssl import config
    from medssl.models import build
    from medssl.pretrain import module
    from medssl.pretrain.fit import keep_freed_memory
    from medssl.pretrain.recipes import RECIPES as TABLE

    keep_freed_memory()
    torch.manual_seed(0)
    usual, settings = {"lr": 1e-4, "weight_decay": 0.01}, SETTINGS.get(recipe, {})
    encoder = build("dilated1d" if recipe in DENSE else "resnet1d", in_channels=CHANNELS)
    if not dropout:
        encoder.dropout.p = 0.0  # type: ignore[union-attr, assignment]
    if hasattr(module, "Contrast"):
        from medssl.pretrain.likeness import Likeness

        params = config.Pretrain(**usual, **({"anatomy": settings} if recipe == "anatomy" else settings))
        likeness = Likeness.fit(params.anatomy, torch.zeros(1, 1)) if recipe == "anatomy" else None
        return module.Contrast(encoder, TABLE[recipe], params, steps=100, likeness=likeness)
    from medssl.pretrain.recipes import Sizes

    params = config.Pretrain(**usual, options=config.OPTIONS[recipe].model_validate(settings))
    sizes = Sizes(encoder.embedding_dim, 2**20, (CHANNELS, LENGTH), ((1,),), torch.arange(-3.0, 4)[:, None])
    return module.Training(TABLE[recipe].net(encoder, params, sizes), TABLE[recipe], steps=100)


def encoder_of(net: Any) -> Any:
    """Return the encoder that is trained."""
    return getattr(net, "net", net).encoder


def loss_of(net: Any, batch: Any) -> Tensor:
    """Return the loss of a batch, its views and masks drawn on the way as in training."""
    shown = net.on_after_batch_transfer(net.on_before_batch_transfer(batch, 0), 0)
    loss: Tensor = net.training_step(shown, 0)
    return loss


def masks_of(net: Any) -> list[Tensor]:
    """Return the two masks (B, T) that the last loss of a COMET network was of."""
    from medssl.views.masks import MASKS

    draws = getattr(net, "net", net).draws
    return [MASKS["continuous"](draws.fork(10 + k), LENGTH, encoder_of(net).inputs.out_features) for k in range(2)]


# --- Steps -----------------------------------------------------------------------------------------------------------


@functools.cache
def stepper(recipe: str, size: int) -> Callable[[], None]:
    """Return what takes one step more of a run: loss, gradients, optimiser, averages.

    ``published`` is COMET as published, and ``comet_code-bf16`` that recipe under autocast.
    """
    name, _, half = recipe.partition("-")
    net = net_of("comet_code" if name == "published" else name)
    optimizer = net.configure_optimizers()["optimizer"]
    taken = 0

    def published() -> None:
        batch = batch_of(size)
        keep = [torch.rand(size, LENGTH) > 0.4 for _ in range(2)]
        loss = plain_loss(plain, batch.x.transpose(1, 2), {"patient": batch.patient, "trial": batch.trial}, keep)
        plain_optimizer.zero_grad()
        loss.backward()
        plain_optimizer.step()
        average.update_parameters(plain)

    def ours() -> None:
        nonlocal taken
        batch = batch_of(size, draw=taken * size)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(half)):
            loss = loss_of(net, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        net.after_step()
        taken += 1

    if name == "published":
        plain = PlainEncoder(CHANNELS)
        plain.load_state_dict(encoder_of(net).state_dict())
        plain_optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-4, weight_decay=0.01)
        average = torch.optim.swa_utils.AveragedModel(plain)
    return published if name == "published" else ours


def step(recipe: str, size: int) -> dict[str, float]:
    """Measure one step, see `stepper`; the first in a process prepares."""
    _, seconds, processor, _ = measured(stepper(recipe, size))
    return {"seconds": seconds, "processor": processor}


def comet_losses(size: int) -> dict[str, float]:
    """Return the losses of the published step and of ours, whole and half, without dropout and on the same masks."""
    net, batch, plain = net_of("comet_code", dropout=False), batch_of(size), PlainEncoder(CHANNELS)
    plain.load_state_dict(encoder_of(net).state_dict())
    plain.dropout.p = 0.0
    ids = {"patient": batch.patient, "trial": batch.trial}
    with torch.no_grad():
        ours = loss_of(net, batch)
        published = plain_loss(plain, batch.x.transpose(1, 2), ids, masks_of(net))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = loss_of(net, batch)
    return {"published": float(published), "comet_code": float(ours), "comet_code-bf16": float(half)}


# --- The loss over processes ------------------------------------------------------------------------------------------


def gathered_loss(rank: int, processes: int, meeting: str, rows: int) -> dict[str, float]:
    """Measure NT-Xent over the embeddings of all processes, forward and backward, in one of them.

    Blocks of the table are as large as on a GPU, so that its part of the memory stands out.

    Args:
        rank, processes: which one, of how many.
        meeting: file they find one another by; as many as there are processes may use it, once.
        rows: of the batch of all processes.
    """
    from medssl.pretrain import gather as gathering

    divided = getattr(gathering, "divided", contextlib.nullcontext)
    O.rows.block_cells = lambda z: 2**24
    torch.set_num_threads(1)  # one each, whatever their number
    if processes > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)

    def inputs(n: int) -> list[Tensor]:
        z = torch.nn.functional.normalize(torch.randn(2, n, 128, generator=torch.Generator().manual_seed(1)), dim=2)
        return [half.chunk(processes)[rank].clone().requires_grad_() for half in z]

    def work(of: list[Tensor]) -> float:
        with divided():
            loss = O.nt_xent(gathering.gather(of[0]), gathering.gather(of[1]), temperature=0.1)
        loss.backward()
        return float(loss.detach())

    work(inputs(8))
    mine = inputs(rows)
    value, seconds, _, gigabytes = measured(lambda: work(mine))
    if processes > 1:
        distributed.destroy_process_group()
    return {"value": value, "seconds": seconds, "gigabytes": gigabytes}
