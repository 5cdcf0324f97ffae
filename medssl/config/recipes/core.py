"""Options of the methods that others build on: contrast, clusters, teachers, and what knows patients and anatomy."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.config.recipes.options import Factor, Level, Momentum, Options, Range
from medssl.config.section import Count, Positive, Share


class Simclr(Options):
    """``decoupled`` leaves the positive out of the denominator (DCL)."""

    examples = ({}, {"decoupled": True})
    decoupled: bool = False


class Comet(Options):
    """Weights of the four levels, how the identity levels pool time, the mask, and how many passes are shared."""

    examples = ({}, {"share_views": False, "pool": "mean", "mask": "channel_continuous"})
    levels: dict[Level, Annotated[float, Field(ge=0)]] = Field(
        default={"patient": 0.25, "trial": 0.25, "sample": 0.25, "observation": 0.25}
    )
    pool: Literal["time_cosine", "max", "mean"] = "time_cosine"
    mask: Literal["all_true", "continuous", "binomial", "channel_continuous", "channel_binomial"] = "continuous"
    share_views: bool = True

    @model_validator(mode="after")
    def _levels_sum_to_one(self) -> Self:
        total = sum(self.levels.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"levels {dict(self.levels)} sum to {total:g}; expected 1")
        return self


class Wearable(Options):
    """Weight of KoLeo, momentum of the key branch (null: no such branch), share of pairs of two segments."""

    examples = ({}, {"participant_pairs": 0.5}, {"momentum": None})
    koleo: Annotated[float, Field(ge=0)] = 0.1
    momentum: Momentum | None = 0.99
    participant_pairs: Share = 1.0


class Anatomy(Options, Factor):
    """What weights the pairs, and the kernel loss. ``factors`` are further kernels, such as one of age alone.

    ``combine: sum`` mixes the factors by their shares, ``product`` multiplies them, each to the power of its share, and
    leaves out what is unknown of a pair; ``losses`` takes a loss of each factor and mixes those, as AnatCL does with
    anatomy and age. Weights below ``minimum`` become 0. Slices of one trial whose ``position`` differs by at most
    ``neighbours_within`` are positives of weight 1.
    """

    examples = tuple(
        {"measures": ["liver_ml"], "sigma": 0.1, "factors": [{"measures": ["age_years"], "sigma": 0.1}], **more}
        for more in ({}, {"combine": "losses"}, {"combine": "product", "loss": "exp_weighted"}, {"loss": "threshold"})
    )
    loss: Literal["y_aware", "threshold", "exp_weighted"] = "y_aware"
    factors: tuple[Factor, ...] = ()
    combine: Literal["sum", "product", "losses"] = "sum"
    minimum: Share = 0.0
    neighbours_within: Positive | None = None

    def covariates(self) -> dict[str, Factor]:
        """Return all factors, the section itself first, and the position of slices last where it is needed."""
        position = Factor(measures=("position",), scale="raw")
        factors = {f"factors.{k}.measures": factor for k, factor in enumerate(self.factors)}
        return {"measures": self, **factors} | ({"neighbours_within": position} if self.neighbours_within else {})

    @model_validator(mode="after")
    def _has_measures(self) -> Self:
        empty = [key for key, factor in self.covariates().items() if not factor.measures]
        if empty:
            raise ValueError(f"{empty[0]}: name at least one, of the cohort's anat_ columns without that prefix")
        return self


class Swav(Options):
    """Prototypes, small crops, and a queue of earlier embeddings for batches small against the prototypes (0: none)."""

    examples = (
        {"prototypes": 12, "crops": 2, "eps": 0.5},
        {"prototypes": 12, "crops": 0, "queue": 24, "freeze_steps": 1},
    )
    prototypes: Count = 500
    crops: Annotated[int, Field(ge=0)] = 6
    eps: Positive = 0.05
    iterations: Count = 3
    freeze_steps: Annotated[int, Field(ge=0)] = 0
    queue: Annotated[int, Field(ge=0)] = 0


class Multiview(Options):
    """How many views a sample has, and whether denominators stay inside one view (``dhel``) or not (``info_nce``)."""

    examples = ({}, {"views": 3, "loss": "info_nce"})
    views: Annotated[int, Field(ge=2, le=8)] = 4
    loss: Literal["dhel", "info_nce"] = "dhel"


class Sogclr(Options):
    """Rate of the moving average; ``rho`` gives each sample a temperature of its own (iSogCLR), null none (SogCLR)."""

    examples = ({}, {"rho": 0.3})
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.9
    rho: Positive | None = None
    temperatures: Range = (0.05, 1.0)
    temperature_lr: Positive = 0.03
    temperature_rate: Annotated[float, Field(gt=0, le=1)] = 0.5


class Mochi(Options):
    """Keys in memory, how many hardest of them are mixed, and how many mixtures with each other and with the query."""

    examples = ({"queue": 40, "hardest": 8, "momentum": 0.9},)
    momentum: Momentum = 0.999
    queue: Count = 4096
    hardest: Count = 32
    mixed: Annotated[int, Field(ge=0)] = 16
    mixed_with_query: Annotated[int, Field(ge=0)] = 16
    warmup_steps: Annotated[int, Field(ge=0)] = 0


class Byol(Options):
    """The teacher's momentum at the start (null: no teacher, SimSiam), the predictor, and its learning rate.

    ``predictor: mlp`` is learned, ``direct`` follows from the correlation of its inputs (DirectPred), ``copy`` is that
    correlation itself (DirectCopy). ``predictor_lr`` multiplies the learning rate of a learned one; ``predictor_decay:
    false`` keeps it constant, as SimSiam does.
    """

    examples = (
        {"momentum": 0.9, "predictor_lr": 3.0},
        {"momentum": None, "predictor_decay": False},
        {"predictor": "direct"},
        {"predictor": "copy"},
    )
    momentum: Momentum | None = 0.996
    predictor: Literal["mlp", "direct", "copy"] = "mlp"
    predictor_hidden: Count | None = None
    predictor_lr: Positive = 1.0
    predictor_decay: bool = True
    projection_layers: Annotated[int, Field(ge=2, le=4)] = 2
    rho: Annotated[float, Field(ge=0, lt=1)] = 0.3
    eps: Positive = 0.01

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        learned = {"predictor_hidden", "predictor_lr", "predictor_decay"}
        unused = self.model_fields_set & ({"rho", "eps"} if self.predictor == "mlp" else learned)
        if unused:
            raise ValueError(f"{', '.join(sorted(unused))}: not of predictor: {self.predictor}; remove it")
        return self


class Amcl(Options):
    """Number of heads, range of the temperatures, weight of their regulariser times the projection's dimension."""

    examples = ({"temperatures": [0.05, 0.5]},)
    heads: Count = 3
    temperatures: Range = (0.05, 2.0)
    penalty: Annotated[float, Field(ge=0)] = 0.1


class Lejepa(Options):
    """Views and small crops of a sample, SIGReg's share ``lam`` of the loss (0: attraction alone), its directions.

    ``temperature`` is not used.
    """

    examples = ({"lam": 0.2}, {"views": 2, "crops": 2})
    views: Annotated[int, Field(ge=2, le=8)] = 4
    crops: Annotated[int, Field(ge=0)] = 0
    lam: Share = 0.02
    directions: Count = 256


class Vicreg(Options):
    """Weights of the three terms. ``temperature`` is not used."""

    invariance: Annotated[float, Field(ge=0)] = 25.0
    variance: Annotated[float, Field(ge=0)] = 25.0
    covariance: Annotated[float, Field(ge=0)] = 1.0


OPTIONS: dict[str, type[Options]] = {
    "simclr": Simclr,
    "comet": Comet,
    "comet_code": Comet,
    "wearable": Wearable,
    "anatomy": Anatomy,
    "swav": Swav,
    "multiview": Multiview,
    "sogclr": Sogclr,
    "mochi": Mochi,
    "byol": Byol,
    "amcl": Amcl,
    "lejepa": Lejepa,
    "vicreg": Vicreg,
}
