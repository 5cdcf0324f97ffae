"""Sections of a run: encoder, pretraining and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.config.section import Count, Positive, Section, Share


class EncoderParams(Section):
    """Architecture by name.

    ``widths`` are channels per stage, the last one being the embedding's dimension; null takes the published size.
    """

    name: Literal["resnet1d", "dilated1d", "efficientnet1d", "vit1d", "resnet2d", "resnet3d", "vit3d"]
    widths: tuple[Count, ...] | None = None
    depth: Count | None = None
    patch: Count | None = None

    @model_validator(mode="after")
    def _has_stages(self) -> Self:
        if self.name.startswith("resnet") and self.widths is not None and len(self.widths) != 4:
            raise ValueError(f"widths {list(self.widths)}: a residual network has 4 stages; give 4 numbers")
        return self


class Batch(Section):
    """Composition of a batch: ``patients`` x ``trials`` per patient x ``samples`` per trial."""

    patients: Count = 16
    trials: Count = 2
    samples: Count = 2


class Factor(Section):
    """A kernel on some ``anat_*`` columns, standardised on the training patients.

    ``sigma`` is its width in standard deviations (null: the median distance), ``share`` its part among several factors.
    """

    measures: tuple[str, ...] = ()
    kernel: Literal["rbf", "cauchy"] = "rbf"
    sigma: Positive | None = None
    share: Positive = 1.0


class Anatomy(Factor):
    """What weights the pairs, and the kernel loss. ``factors`` are further kernels, such as one of age alone.

    ``combine: sum`` mixes the factors by their shares, ``product`` multiplies them, each to the power of its share, and
    leaves out what is unknown of a pair; ``losses`` takes a loss of each factor and mixes those, as AnatCL does with
    anatomy and age. Weights below ``minimum`` become 0.
    """

    loss: Literal["y_aware", "threshold", "exp_weighted"] = "y_aware"
    factors: tuple[Factor, ...] = ()
    combine: Literal["sum", "product", "losses"] = "sum"
    minimum: Share = 0.0


class Swav(Section):
    """Prototypes and small crops of the ``swav`` recipe."""

    prototypes: Count = 500
    crops: Annotated[int, Field(ge=0)] = 6
    eps: Positive = 0.05
    iterations: Count = 3
    freeze_steps: Annotated[int, Field(ge=0)] = 0


class Pretrain(Section):
    """Optimisation of one pretraining run.

    ``select`` says which epoch's encoder is kept: ``knn`` the latest whose nearest-neighbour score on validation
    patients is within one standard error of the best, ``loss`` the one of the lowest validation loss, or ``last``;
    null is ``knn`` where there is a ``monitor_label``, else ``last``. ``patience`` stops after that many epochs without
    a new choice.

    ``duplicates`` says what becomes of near-duplicates: ``remove`` leaves them out, ``mask`` trains on them and never
    takes two as negatives, ``weight`` makes them positives of each other, of ``duplicate_weight``; exact copies are
    always left out. ``length`` says what such runs have in common: ``equal_epochs`` counts an epoch on the samples
    trained on, so that removal saves steps (is it faster?); ``equal_steps`` takes as many as all training samples would
    (is it better?), and so does ``steps_per_epoch``, which fixes their number.
    """

    epochs: Count = 10
    length: Literal["equal_epochs", "equal_steps"] = "equal_epochs"
    steps_per_epoch: Count | None = None
    duplicates: Literal["remove", "mask", "weight"] = "remove"
    duplicate_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    batch: Batch = Batch()
    sampler: Literal["hierarchical", "comet_fixed"] = "hierarchical"
    within: str | None = None
    views: Literal["default", "wearable", "wearable_ppg", "wearable_ecg", "spectral", "leads"] | None = None
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    accumulate: Count = 1
    clip: Positive | None = 1.0
    temperature: Positive = 0.1
    decoupled: bool = False
    projection_dim: Count = 64
    projection_hidden: Count | None = None
    projection_norm: Literal["batch", "layer", "none"] = "batch"
    levels: dict[Literal["patient", "trial", "sample", "observation"], Annotated[float, Field(ge=0)]] = Field(
        default={"patient": 0.25, "trial": 0.25, "sample": 0.25, "observation": 0.25}
    )
    pool: Literal["time_cosine", "max", "mean"] = "time_cosine"
    mask: Literal["all_true", "continuous", "binomial", "channel_continuous", "channel_binomial"] = "continuous"
    share_views: bool = True
    anatomy: Anatomy = Anatomy()
    swav: Swav = Swav()
    koleo: Annotated[float, Field(ge=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = 0.99
    participant_pairs: Share = 1.0
    select: Literal["knn", "loss", "last"] | None = None
    patience: Count | None = None
    monitor_label: str | None = None

    @model_validator(mode="after")
    def _levels_sum_to_one(self) -> Self:
        total = sum(self.levels.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"levels {dict(self.levels)} sum to {total:g}; expected 1")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.length == "equal_steps" and self.steps_per_epoch is not None:
            raise ValueError(
                f"length: equal_steps counts the steps that steps_per_epoch: {self.steps_per_epoch} fixes; remove one "
                "(fixed steps are equal whatever was removed)"
            )
        return self

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if self.select == "knn" and self.monitor_label is None:
            raise ValueError("select: knn needs a monitor_label, a class label to score by; or take loss or last")
        if self.patience is not None and (self.select == "last" or (self.select or self.monitor_label) is None):
            raise ValueError("patience needs a choice by validation; take select: loss, or knn with a monitor_label")
        return self


class Evaluate(Section):
    """Which labels are predicted from the encoder, and how often."""

    labels: tuple[str, ...] = ()
    finetune_labels: tuple[str, ...] = ()
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.1, 0.01)
    seeds: Count = 3
    bootstrap: Count = 1000
    finetune_steps: Count = 60
    finetune_batch: Count = 32
    finetune_lr: Positive = 1e-3


class Run(Section):
    """One encoder: what it learns from, how, and what it is tested on."""

    modality: str
    recipe: Literal["simclr", "comet", "comet_code", "wearable", "anatomy", "swav"]
    encoder: EncoderParams
    pretrain: Pretrain = Pretrain()
    evaluate: Evaluate
