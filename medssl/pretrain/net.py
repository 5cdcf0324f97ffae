"""What a recipe's step may use, on one page: the encoder, its heads, and what a method keeps between steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.config import Pretrain
from medssl.objectives import sigreg
from medssl.objectives.pairs import Duplicates
from medssl.pretrain.gather import gather, processes
from medssl.pretrain.memory import Memory
from medssl.views.draws import Draws


def still_copy(module: nn.Module) -> nn.Module:
    """Return a copy that is not trained."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def approach(average: nn.Module, online: nn.Module, share: float) -> None:
    """Move an average by a share of its way to another module, running statistics of normalisations too.

    torch's own averages ask the device how often they were moved, and wait for the answer.
    """
    pairs = list(zip(average.state_dict().values(), online.state_dict().values(), strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], share)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)


class State(nn.Module):
    """Named tensors that a method keeps between steps: buffers, checkpointed by themselves."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)

    @torch.no_grad()
    def put(self, name: str, value: Tensor, row: Tensor | None = None) -> None:
        """Write a tensor, or its entries ``row``; one that is given several values gets their mean.

        Nothing happens in eval mode: to measure changes no state. Every process must write the same, so compute it from
        gathered rows.
        """
        if not self.training:
            return
        if row is not None:
            same = (row[:, None] == row).to(torch.float64 if value.dtype == torch.float64 else torch.float32)
            total = same @ value.to(same.dtype).reshape(len(row), -1)
            value = (total / same.sum(1, keepdim=True)).view_as(value)
        self[name][... if row is None else row] = value.to(self[name].dtype)


class Net(nn.Module):
    """An encoder with heads.

    Args:
        encoder: (B, C, ...) -> (B, embedding_dim).
        heads: by name; ``projection`` is the one the losses see.
        params: section ``runs.<name>.pretrain``; ``params.options`` are the recipe's.
        state: tensors kept between steps; those of samples have one entry for each row of the store.
        memory: keys of earlier batches.
        taught: whether there is a teacher: a second encoder and heads that follow the first, without gradient.
        start: the encoder that training starts from, to be kept as it is.

    Attributes:
        draws: random numbers of the batch in hand; ``fork`` a stream of your own, from 10 to 99.
        step: optimiser steps so far.

    Raises:
        ValueError: ``pretrain.regulariser`` is on a projection that there is not.
    """

    def __init__(
        self,
        encoder: nn.Module,
        heads: dict[str, nn.Module],
        params: Pretrain,
        *,
        state: dict[str, Tensor] | None = None,
        memory: Memory | None = None,
        taught: bool = False,
        start: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.heads, self.params = encoder, nn.ModuleDict(heads), params
        self.options: Any = params.options
        self.state, self._memory = State(state or {}), memory
        self.teacher = still_copy(self._online()) if taught else None
        self._start = None if start is None else still_copy(start).train()
        self.draws = Draws(torch.zeros(1, dtype=torch.int64), seed=0)
        self.step = 0
        self._noted: list[Tensor] = []
        self._embedded: list[tuple[Tensor, Tensor]] = []
        if params.regulariser is not None and params.regulariser.of not in ("embedding", *heads):
            raise ValueError("pretrain.regulariser.of: projection: this recipe has none; take of: embedding")

    def _online(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "heads": self.heads})

    @property
    def memory(self) -> Memory:
        """The keys of earlier batches."""
        assert self._memory is not None, "this recipe asked for no memory"
        return self._memory

    @property
    def whole(self) -> bool:
        """Whether the batch in hand is the whole batch: one process, or measuring outside training."""
        return not self.training or processes() == 1

    def gather(self, x: Tensor) -> Tensor:
        """Return the rows of all processes, see `medssl.pretrain.gather`: do so with all that is contrasted."""
        return x if self.whole else gather(x)

    def duplicates(self, first: Tensor, second: Tensor | None = None) -> Duplicates | None:
        """Return what ``pretrain.duplicates`` makes of near-duplicates in the batch of all processes; None: nothing.

        Args:
            first: (B,) class of each item in view 1.
            second: in view 2; None: the same.
        """
        if self.params.duplicates == "remove":
            return None
        first, second = (self.gather(ids) for ids in (first, first if second is None else second))
        return Duplicates(first, second, self.params.duplicate_weight if self.params.duplicates == "weight" else None)

    def noted(self, what: Literal["embedding", "projection"], x: Tensor) -> Tensor:
        """Return ``x``, and note it where `regulariser` is on what encoder or head gave: of a map the mean over time.

        `embed` and `features` do so; a step that calls the encoder or a projection itself has to.
        """
        regulariser = self.params.regulariser
        if regulariser is not None and regulariser.of == what and self.training:
            self._noted.append(x if x.ndim == 2 else x.mean(1))
        return x

    def regulariser(self, rows: int) -> Tensor:
        """Return the term that ``pretrain.regulariser`` asks for, of all that the step in hand noted; which it forgets.

        Args:
            rows: of a view in a pass of several. The term is the mean over views, as each grows with its rows.
        """
        params = self.params.regulariser
        assert params is not None
        views, self._noted = [view for x in self._noted for view in x.split(rows)], []
        directions = self.directions(params.directions, views[0].shape[1])
        return torch.stack([sigreg(self.gather(view), directions) for view in views]).mean()

    def directions(self, number: int, dim: int) -> Tensor:
        """Return random directions (number, dim), normal numbers: others for each batch, the same on all processes."""
        first = self.gather(self.draws.fork(9).integers(2**39)[:1])[:1]
        return Draws(first, seed=0).normal(number, dim)[0]

    def embed(self, *views: Tensor) -> Tensor:
        """Return the embeddings (V B, embedding_dim) of V views (B, C, ...) of equal size, by one pass for all."""
        z = self.noted("embedding", self.encoder(torch.cat(views) if len(views) > 1 else views[0]))
        if self.training and self.params.predict is not None and self.params.predict.name == "handcrafted":
            self._embedded += zip(views, z.chunk(len(views)), strict=True)
        return z

    def embedded(self, view: Tensor) -> Tensor:
        """Return the embeddings of a view: what `embed` made of it in the step in hand, else by a pass of its own.

        Whatever else the step embedded is forgotten.
        """
        known, self._embedded = self._embedded, []
        for x, z in known:
            if x is view:
                return z
        out: Tensor = self.encoder(view)
        return out

    def project(self, *views: Tensor, head: str = "projection", unit: bool = True) -> Tensor:
        """Return projections (V B, projection_dim) of views as for `embed`, as unit rows unless said otherwise."""
        z = self.noted("projection", self.heads[head](self.embed(*views)))
        return functional.normalize(z, dim=1) if unit else z

    def project_all(self, views: Sequence[Tensor], head: str = "projection", *, unit: bool = True) -> list[Tensor]:
        """Return the projections of several views, by one pass for all of equal size, which share batch statistics."""
        sizes: dict[torch.Size, list[int]] = {}
        for k, view in enumerate(views):
            sizes.setdefault(view.shape[1:], []).append(k)
        out: dict[int, Tensor] = {}
        for which in sizes.values():
            z = self.project(*(views[k] for k in which), head=head, unit=unit)
            out |= dict(zip(which, z.chunk(len(which)), strict=True))
        return [out[k] for k in range(len(views))]

    @torch.no_grad()
    def teach(self, x: Tensor, head: str = "projection", *, unit: bool = True) -> Tensor:
        """Return the teacher's projections."""
        assert self.teacher is not None, "this recipe asked for no teacher"
        branch: Any = self.teacher
        z: Tensor = branch["heads"][head](branch["encoder"](x))
        return functional.normalize(z, dim=1) if unit else z

    @property
    def started(self) -> bool:
        """Whether training started from another run's encoder, which `start` then asks."""
        return self._start is not None

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """Return the embeddings (B, embedding_dim) of the encoder that training started from."""
        assert self._start is not None, "this run started from no other, or its recipe recalls none"
        out: Tensor = self._start.eval()(x)  # its normalisations stay as they were
        return out

    def features(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the feature map (B, T, embedding_dim) of a dense encoder; ``keep`` masks its inputs."""
        return self.noted("embedding", self.encoder.features(x, keep))  # type: ignore[operator]

    def follow(self, momentum: float) -> None:
        """Move the teacher: ``momentum`` of it stays."""
        assert self.teacher is not None
        approach(self.teacher, self._online(), 1 - momentum)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the encoder's forward and feature map in place; names of weights stay."""
        self.encoder.compile(*args, **kwargs)
        if hasattr(self.encoder, "features"):
            self.encoder.features = torch.compile(self.encoder.features)  # type: ignore[assignment, arg-type]
