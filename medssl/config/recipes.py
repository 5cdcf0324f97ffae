"""Options of the recipes, one section each: what ``runs.<name>.pretrain.options`` may say.

The keys of `OPTIONS` are those of ``medssl.pretrain.recipes.RECIPES``; a run is checked by its recipe's section as soon
as params.yaml is read, long before anything is trained.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from medssl.config.section import Count, Positive, Section, Share

Level = Literal["patient", "trial", "sample", "observation"]


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0.05 <= pair[0] < pair[1]:
        raise ValueError(f"{list(pair)}; expected [low, high] with 0.05 <= low < high")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class Factor(Section):
    """A kernel on some ``anat_*`` columns.

    With ``regions`` (patterns such as ``lh_*``) the columns are ``<region>_<measure>`` of every region that has all the
    ``measures``, which are then endings such as ``mm``, ``mm3``, ``area_mm2``. ``local`` and ``global`` need regions:
    the mean over regions of the cosine between a region's measures, or over measures of the cosine between all regions.

    ``scale`` is ``standard`` (on the training patients), ``minmax`` (each subject's regions to [0, 1]) or ``raw``, as
    compositions and codes have to be. ``corrected`` measures, which grow with the head, are replaced by what a line on
    ``icv`` leaves of them. ``sigma`` is the width: in standard deviations for rbf and cauchy, of the divergence or the
    distance for jensen_shannon and aitchison, one over the sharpness for hellinger (null: the median over training
    samples; 1 for hellinger). rbf and cauchy need ``at_least`` so many measures known of both. ``off`` is what
    ``equal`` says of two different codes, ``mapping`` how cosines become weights, ``share`` the part among several
    factors.
    """

    measures: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    kernel: Literal["rbf", "cauchy", "equal", "hellinger", "jensen_shannon", "aitchison", "local", "global"] = "rbf"
    scale: Literal["standard", "minmax", "raw"] | None = None
    corrected: tuple[str, ...] = ()
    icv: str = "intracranial_mm3"
    mapping: Literal["raw", "shifted", "clipped"] = "shifted"
    sigma: Positive | None = None
    at_least: Count = 1
    off: Share = 0.5
    share: Positive = 1.0

    @property
    def scaling(self) -> str:
        """How measures are scaled: as asked, else raw for codes and compositions and standard for the rest."""
        raw = self.kernel in ("equal", "hellinger", "jensen_shannon", "aitchison")
        return self.scale or ("raw" if raw else "standard")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        kernel, scale = self.kernel, self.scaling
        if kernel in ("local", "global") and not self.regions:
            raise ValueError(f"kernel: {kernel} compares regions; name them, such as regions: [lh_*, rh_*]")
        if kernel in ("equal", "hellinger", "jensen_shannon", "aitchison") and scale != "raw":
            raise ValueError(f"kernel: {kernel} takes codes or parts as they are; remove scale: {scale}")
        if kernel == "equal" and (len(self.measures) > 1 or self.regions):
            raise ValueError(f"kernel: equal compares one code; give each of {list(self.measures)} a factor of its own")
        if self.measures and not self.regions and self.at_least > len(self.measures):
            raise ValueError(f"at_least: {self.at_least} of {len(self.measures)} measures can never be known; lower it")
        if scale == "minmax" and not self.regions:
            raise ValueError("scale: minmax is over the regions of a subject; name them, or take standard or raw")
        if self.mapping == "raw" and kernel in ("local", "global") and scale == "standard":
            raise ValueError("mapping: raw would give negative weights; take shifted or clipped, or scale: raw")
        if self.corrected and (scale != "standard" or not set(self.corrected) <= set(self.measures)):
            raise ValueError(
                f"corrected {list(self.corrected)}: expected some of measures {list(self.measures)} and scale: standard"
            )
        return self

    def names(self) -> tuple[str, ...]:
        """Return the names of the columns, with ``*`` where the cohort decides which regions there are."""
        named = tuple(f"{r}_{m}" for r in self.regions for m in self.measures) if self.regions else self.measures
        return named + ((self.icv,) if self.corrected else ())


class Options(Section):
    """What a recipe may be told; a recipe without options has this section itself.

    ``examples`` are small and one for each way in which the method can work: the tests train them all. A method that is
    ``labelled`` reads ``pretrain.labels``.
    """

    examples: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    labelled: ClassVar[bool] = False

    def covariates(self) -> dict[str, Factor]:
        """Return what is read of each patient by the key that names it, in the order of ``Batch.anatomy``."""
        return {}


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
