"""What a recipe's step may use, on one page: the encoder, its heads, and what a method keeps between steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medssl.config import Pretrain
from medssl.objectives.pairs import Duplicates
from medssl.pretrain.gather import gather, processes
from medssl.pretrain.memory import Memory
from medssl.views.draws import Draws


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
        """Write a tensor, or its entries ``row``. Nothing happens in eval mode: to measure changes no state.

        Every process must write the same, so compute it from gathered rows.
        """
        if self.training:
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

    Attributes:
        draws: random numbers of the batch in hand; ``fork`` a stream of your own, from 10 to 99.
        step: optimiser steps so far.
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
    ) -> None:
        super().__init__()
        self.encoder, self.heads, self.params = encoder, nn.ModuleDict(heads), params
        self.options: Any = params.options
        self.state, self._memory = State(state or {}), memory
        self._followed = 0.0
        self.teacher: AveragedModel | None = None
        if taught:
            # Running statistics of batch normalisation are averaged like weights; the teacher's passes move them too.
            self.teacher = AveragedModel(self._online(), multi_avg_fn=self._average, use_buffers=True)
            self.teacher.requires_grad_(False)
            # The first update of AveragedModel is a copy, which would skip the initial weights.
            self.teacher.n_averaged.fill_(1)
        self.draws = Draws(torch.zeros(1, dtype=torch.int64), seed=0)
        self.step = 0

    def _online(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "heads": self.heads})

    def _average(self, teacher: Any, online: Any, number: Any) -> None:
        get_ema_multi_avg_fn(self._followed)(teacher, online, number)

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

    def project(self, x: Tensor, head: str = "projection", *, unit: bool = True) -> Tensor:
        """Return projections (B, projection_dim), as unit rows unless said otherwise."""
        z: Tensor = self.heads[head](self.encoder(x))
        return functional.normalize(z, dim=1) if unit else z

    def project_all(self, views: Sequence[Tensor], head: str = "projection", *, unit: bool = True) -> list[Tensor]:
        """Return the projections of several views, by one pass for all of equal size, which share batch statistics."""
        sizes: dict[torch.Size, list[int]] = {}
        for k, view in enumerate(views):
            sizes.setdefault(view.shape[1:], []).append(k)
        out: dict[int, Tensor] = {}
        for which in sizes.values():
            z = self.project(torch.cat([views[k] for k in which]), head, unit=unit)
            out |= dict(zip(which, z.chunk(len(which)), strict=True))
        return [out[k] for k in range(len(views))]

    @torch.no_grad()
    def teach(self, x: Tensor, head: str = "projection", *, unit: bool = True) -> Tensor:
        """Return the teacher's projections."""
        assert self.teacher is not None, "this recipe asked for no teacher"
        branch: Any = self.teacher.module
        z: Tensor = branch["heads"][head](branch["encoder"](x))
        return functional.normalize(z, dim=1) if unit else z

    def features(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the feature map (B, T, embedding_dim) of a dense encoder; ``keep`` masks its inputs."""
        out: Tensor = self.encoder.features(x, keep)  # type: ignore[operator]
        return out

    def follow(self, momentum: float) -> None:
        """Move the teacher: ``momentum`` of it stays."""
        assert self.teacher is not None
        self._followed = momentum
        self.teacher.update_parameters(self._online())

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the encoder's forward and feature map in place; names of weights stay."""
        self.encoder.compile(*args, **kwargs)
        if hasattr(self.encoder, "features"):
            self.encoder.features = torch.compile(self.encoder.features)  # type: ignore[assignment, arg-type]
