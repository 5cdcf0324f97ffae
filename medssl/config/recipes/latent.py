"""Options of methods that make, mix or choose embeddings instead of views."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from medssl.config.recipes.options import Momentum, Options
from medssl.config.section import Count, Positive, Share

Shape = Annotated[float, Field(gt=0.5)]
Weight = Annotated[float, Field(ge=0)]


class Transform(Options):
    """Keys in memory, and the shape a of Beta(a, a) for either transformation; null leaves one out.

    ``extrapolate`` pushes a query and its key apart by 1 + Beta(a, a), ``interpolate`` mixes keys in memory.
    """

    examples = ({"queue": 40, "momentum": 0.9},)
    momentum: Momentum = 0.999
    queue: Count = 4096
    extrapolate: Shape | None = 2.0
    interpolate: Shape | None = 1.6


class Halp(Options):
    """Keys in memory; ``prototypes`` of the ``newest`` of them, found again every ``refresh`` steps; what is made.

    ``made`` positives a key are pulled to with ``weight``. Each goes at least 1 - ``spread`` of the way to the border
    of its key's prototype.
    """

    examples = ({"queue": 40, "momentum": 0.9, "prototypes": 4, "newest": 24, "refresh": 2, "made": 8},)
    momentum: Momentum = 0.999
    queue: Count = 4096
    prototypes: Annotated[int, Field(ge=2)] = 20
    newest: Count = 256
    refresh: Count = 5
    made: Count = 100
    spread: Share = 0.8
    weight: Weight = 1.0

    @model_validator(mode="after")
    def _has_enough(self) -> Self:
        if not self.prototypes <= self.newest <= self.queue:
            raise ValueError(
                f"prototypes {self.prototypes}, newest {self.newest}, queue {self.queue}; "
                "expected no more prototypes than newest keys and no more of those than the queue holds"
            )
        return self


class Hallucinator(Options):
    """Keys in memory; how far at most beyond a key a positive is made; weight of being pulled to it."""

    examples = ({"queue": 40, "momentum": 0.9},)
    momentum: Momentum = 0.999
    queue: Count = 4096
    reach: Positive = 1.0
    weight: Weight = 1.0


class Cmim(Options):
    """Weight of the contrast next to the auto-encoder, and channels of the decoder."""

    examples = ({"width": 4},)
    weight: Weight = 1.0
    width: Count = 16


class Beclr(Options):
    """The memory, its partitions, and how many nearest keys of its partition a view is pulled to as well.

    Neighbours come once the memory is full and ``warmup_steps`` are over. ``inertia`` is what stays of a partition's
    prototype in a step. ``repulsion`` weighs the spread of embeddings. ``temperature`` is not used.
    """

    examples = ({"queue": 32, "partitions": 4, "neighbours": 3, "momentum": 0.9},)
    momentum: Momentum = 0.996
    queue: Count = 8192
    partitions: Count = 200
    neighbours: Count = 10
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    eps: Positive = 0.05
    iterations: Count = 10
    inertia: Momentum = 0.9
    repulsion: Weight = 0.1

    @model_validator(mode="after")
    def _has_enough(self) -> Self:
        if self.partitions > self.queue:
            raise ValueError(f"partitions {self.partitions} of a queue of {self.queue}; take fewer")
        return self


class Isr(Options):
    """Steps before views are matched, and the temperature by which a match's lead over the next best is trusted."""

    examples = ({"warmup_steps": 1},)
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    trust: Positive = 0.1


OPTIONS: dict[str, type[Options]] = {
    "transform": Transform,
    "halp": Halp,
    "hallucinator": Hallucinator,
    "cmim": Cmim,
    "beclr": Beclr,
    "isr": Isr,
}
