"""Sections of a run: encoder, pretraining and evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from medssl.config.recipes import OPTIONS, Options
from medssl.config.section import Count, Positive, Section, Share, explain, in_encoders


class EncoderParams(Section):
    """Architecture by name.

    ``widths`` are channels per stage, the last one being the embedding's dimension; null takes the published size.
    ``pool`` (`medssl.models.pool`) of resnet and convnet1d: ``mean`` (null), ``mean_std``, or ``stages``, both of all
    stages. ``stem: small`` of a resnet keeps the resolution of small samples. ``kernels`` of convnet1d are odd numbers
    of steps, one per stage; ``front: spectrum`` has it read log-powers of bands, not waves, and ``scattering`` moduli
    of fixed wavelets. ``crop`` of encoders of signals is how many steps they read at a time: views are random crops,
    and the embedding of a sample is the mean over as many crops as cover it. ``ensemble`` is how many such encoders are
    trained, each alone from its own random weights, to stand side by side: noise of one is not that of another.
    Training, embedding and the folder take as many times as much.
    """

    name: Literal["resnet1d", "convnet1d", "dilated1d", "efficientnet1d", "vit1d", "resnet2d", "resnet3d", "vit3d"]
    widths: tuple[Count, ...] | None = None
    depth: Count | None = None
    patch: Count | None = None
    kernels: tuple[Count, ...] | None = None
    front: Literal["wave", "spectrum", "scattering"] | None = None
    stem: Literal["imagenet", "small"] | None = None
    pool: Literal["mean", "mean_std", "stages"] | None = None
    crop: Count | None = None
    ensemble: Annotated[int, Field(ge=2)] | None = None

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


class Regulariser(Section):
    """A further term of any recipe's loss: ``weight`` times how far a distribution is from what it should be.

    ``sigreg`` compares projections onto random ``directions`` with the standard Gaussian: those ``of`` the
    ``projection``, before it is made unit, or of the ``embedding`` itself, which an encoder that ends in a ReLU, as
    residual networks do, cannot bring there. The curve ``train/loss`` holds the term, ``val/loss`` does not.
    """

    name: Literal["sigreg"] = "sigreg"
    of: Literal["projection", "embedding"] = "projection"
    weight: Positive = 0.02
    directions: Count = 256


class Predict(Section):
    """A further term of any recipe's loss: ``weight`` times how badly what is hidden of a sample is told by the rest.

    About a ``share`` of each sample is hidden, in ``spans`` spans of a signal or boxes of an image. ``latent`` predicts
    the embedding of the whole sample, ``spectrum``, of signals alone, the power of the hidden part in bands of
    frequency. ``handcrafted`` hides nothing: a linear map of a view's embedding tells what the field measures in the
    sample (`medssl.handcrafted`), so that the embedding holds what the views do not touch. The curve ``train/predict``
    is the share of the variance between samples that is not predicted. ``train/loss`` holds the term, ``val/loss`` does
    not.
    """

    name: Literal["latent", "spectrum", "handcrafted"] = "latent"
    weight: Positive = 1.0
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    spans: Count = 4

    @model_validator(mode="after")
    def _hides_something(self) -> Self:
        # A value that is as it would be anyway may stand there, as in what a run wrote down of itself.
        changed = [n for n in ("share", "spans") if getattr(self, n) != type(self).model_fields[n].default]
        if self.name == "handcrafted" and changed:
            raise ValueError(f"{', '.join(changed)}: name handcrafted hides nothing; remove {', '.join(changed)}")
        return self


class Positives(Section):
    """How often a positive is the sample itself, another one of its trial, or one of another trial of its patient.

    The shares sum to 1. A positive that is the sample itself is another view of it.
    """

    view: Share = 0.0
    trial: Share = 0.0
    patient: Share = 0.0

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.view + self.trial + self.patient
        if abs(total - 1) > 1e-6:
            shares = f"view: {self.view:g}, trial: {self.trial:g}, patient: {self.patient:g}"
            raise ValueError(f"{{{shares}}} sum to {total:g}; expected 1")
        return self


class Pretrain(Section):
    """Optimisation of one pretraining run.

    ``options`` are the recipe's own (`medssl.config.recipes`); ``labels`` are what a supervised recipe may read.

    The encoder is measured every ``monitor_steps`` steps; null takes as many as keep measuring below a twentieth of the
    training. ``select`` says which measured encoder is kept: ``knn`` the latest whose nearest-neighbour score on
    validation patients is within one standard error of the best, ``loss`` the one of the lowest validation loss, or
    ``last``; null is ``knn`` where there is a ``monitor_label``, else ``last``. ``patience`` stops after that many
    measurements without a new choice.

    ``positives`` says what a sample is pulled to: null, which is ``{view: 1}``, to views of itself; else every second
    view is of a partner drawn by these shares, by a finer one where a trial or a patient has none.

    ``duplicates`` says what becomes of near-duplicates: ``remove`` leaves them out, ``mask`` trains on them and never
    takes two as negatives, ``weight`` makes them positives of each other, of ``duplicate_weight``; exact copies are
    always left out. ``length`` says what such runs have in common: ``equal_epochs`` counts an epoch on the samples
    trained on, so that removal saves steps (is it faster?); ``equal_steps`` takes as many as all training samples would
    (is it better?), and so does ``steps_per_epoch``, which fixes their number.

    ``views`` names what random views do to a sample (`medssl.views.signals.PLANS`; to slices and volumes all but
    ``mild`` and ``none`` do the same); null is what the recipe takes. ``view_strength`` scales all of it, from 0, which
    leaves samples as they are, as ``none`` does, to 2. Without views only other samples of a patient or trial make
    positives that differ.
    """

    epochs: Count = 10
    length: Literal["equal_epochs", "equal_steps"] = "equal_epochs"
    steps_per_epoch: Count | None = None
    positives: Positives | None = None
    duplicates: Literal["remove", "mask", "weight"] = "remove"
    duplicate_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    batch: Batch = Batch()
    sampler: Literal["hierarchical", "comet_fixed"] = "hierarchical"
    within: str | None = None
    views: (
        Literal["default", "wearable", "wearable_ppg", "wearable_ecg", "spectral", "leads", "mild", "none"] | None
    ) = None
    view_strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    accumulate: Count = 1
    clip: Positive | None = 1.0
    temperature: Positive = 0.1
    projection_dim: Count = 64
    projection_hidden: Count | None = None
    projection_norm: Literal["batch", "layer", "none"] = "batch"
    regulariser: Regulariser | None = None
    predict: Predict | None = None
    options: SerializeAsAny[Options] = Options()
    labels: tuple[str, ...] = ()
    select: Literal["knn", "loss", "last"] | None = None
    patience: Count | None = None
    monitor_label: str | None = None
    monitor_steps: Count | None = None

    @field_validator("positives")
    @classmethod
    def _views_alone_are_null(cls, positives: Positives | None) -> Positives | None:
        return None if positives is not None and positives.view == 1 else positives

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.length == "equal_steps" and self.steps_per_epoch is not None:
            raise ValueError(
                f"length: equal_steps counts the steps that steps_per_epoch: {self.steps_per_epoch} fixes; remove one "
                "(fixed steps are equal whatever was removed)"
            )
        if self.select == "knn" and self.monitor_label is None:
            raise ValueError("select: knn needs a monitor_label, a class label to score by; or take loss or last")
        if self.patience is not None and (self.select == "last" or (self.select or self.monitor_label) is None):
            raise ValueError("patience needs a choice by validation; take select: loss, or knn with a monitor_label")
        return self


# What is compared, and with what; `medssl.report.protocols` has a sentence on each.
ENCODER = (
    *("probe", "naive_bayes", "knn", "demographics_probe", "handcrafted_probe"),
    *("probe_subject_free", "probe_adapted", "stages", "head", "partial", "finetune"),
)
BASELINES = ("demographics", "handcrafted", "handcrafted_boosting", "minirocket", "scattering")
CONTROLS = ("random_init", "supervised", "permuted_labels")
TRAINED = ("head", "partial", "finetune", "supervised")  # by gradient, on ``finetune_labels``
ASKED = ("probe_subject_free", "probe_adapted", "stages", "head", "partial")  # only where they are named


class Evaluate(Section):
    """Which labels are predicted from the encoder, and how often.

    ``fractions`` are of the training patients, the smaller ones within the larger. ``seeds`` are draws of them, each
    with the encoder of another training where ``runs.<name>.seeds`` has several. ``protocols`` null are all that are
    not in `ASKED`. ``pooling``: how the samples of a unit become one row.

    ``finetune_steps`` are the most that any network trained by gradient takes, ``supervised`` included; validation
    patients of the same share choose how many. ``finetune_encoder_lr`` is a factor on ``finetune_lr`` for a pretrained
    encoder, ``finetune_loss`` another one than usual (`medssl.evaluate.terms`), and ``finetune_views`` trains on mildly
    varied samples.
    """

    labels: tuple[str, ...] = ()
    finetune_labels: tuple[str, ...] = ()
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.1, 0.01)
    finetune_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None
    seeds: Count = 3
    bootstrap: Count = 400
    protocols: tuple[str, ...] | None = None
    pooling: Literal["mean", "mean_std"] = "mean"
    finetune_steps: Count = 300
    finetune_batch: Count = 32
    finetune_lr: Positive = 1e-3
    finetune_encoder_lr: Positive = 1.0
    finetune_loss: Literal["label_smoothing", "ldr", "aldr", "core_tuning", "metric_mixup", "conr"] | None = None
    finetune_views: bool = False

    @field_validator("protocols")
    @classmethod
    def _are_known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = (*ENCODER, *BASELINES, *CONTROLS)
        if unknown := [name for name in names or () if name not in known]:
            raise ValueError(f"{', '.join(unknown)} unknown; allowed: {', '.join(known)}")
        return names

    def asked(self, name: str) -> bool:
        """Say whether a protocol is wanted."""
        return name not in ASKED if self.protocols is None else name in self.protocols


def _moved(key: str, recipe: str) -> str:
    """Return where a key that once stood in ``pretrain`` belongs; empty if it never stood there."""
    if key in Pretrain.model_fields:
        return ""
    if key in OPTIONS:
        fix = "now pretrain.options; rename it" if key == recipe else f"not of recipe {recipe}; remove it"
        return f"pretrain.{key}: {fix}"
    owners = [name for name, section in OPTIONS.items() if key in section.model_fields]
    if recipe in owners:
        return f"pretrain.{key}: now pretrain.options.{key}; move it there"
    return f"pretrain.{key}: an option of {', '.join(owners)}, not of {recipe}; remove it" if owners else ""


class Run(Section):
    """One encoder: what it learns from, how, and what it is tested on.

    ``seeds`` trainings differ in weights, batches and views alone; results are over all of them, and the first is the
    encoder that is left. ``encoder_from`` takes an encoder that was pretrained elsewhere (what `medssl.load_encoder`
    takes) in place of ``recipe``, ``encoder`` and ``pretrain``. ``start`` names a run with the same encoder: each
    training starts from its encoder of the same number, in place of random weights. In the same cohort that is the one
    of the same fold; a run of another cohort, of the same modality and, for signals, channels and rate, gives those of
    its fixed split, which must have seen nobody who is held out here.
    """

    modality: str
    recipe: str = ""
    encoder: EncoderParams | None = None
    pretrain: Pretrain = Pretrain()
    encoder_from: str | None = None
    start: str | None = None
    seeds: Count = 1
    evaluate: Evaluate

    @model_validator(mode="before")
    @classmethod
    def _options_of_the_recipe(cls, raw: Any) -> Any:
        """Check ``pretrain.options`` by the recipe's section, and say where keys went that stood in ``pretrain``."""
        if not isinstance(raw, dict) or not isinstance(given := raw.get("pretrain", {}), dict | Pretrain):
            return raw
        if raw.get("encoder_from") is not None:
            if own := [key for key in ("recipe", "encoder", "pretrain", "start", "seeds") if raw.get(key)]:
                raise ValueError(f"encoder_from takes a trained encoder; remove {', '.join(own)}")
            return raw
        if lacking := [key for key in ("recipe", "encoder") if not raw.get(key)]:
            raise ValueError(f"{', '.join(lacking)} missing; give them, or encoder_from for a trained encoder")
        given = dict(given)
        recipe = str(raw.get("recipe"))
        if moved := [where for key in given if (where := _moved(key, recipe))]:
            raise ValueError("; ".join(moved))
        section = OPTIONS.get(recipe)
        if section is None:
            return raw
        try:
            written = given.get("options") or {}
            options = section.model_validate(dict(written) if type(written) is Options else written)
        except ValidationError as error:
            raise ValueError(explain(error, "pretrain.options")) from None
        return raw | {"pretrain": given | {"options": options}}

    @field_validator("encoder_from")
    @classmethod
    def _is_followed(cls, reference: str | None) -> str | None:
        if reference is not None and ":" not in reference:
            in_encoders("encoder_from", reference)
        return reference

    @field_validator("recipe")
    @classmethod
    def _is_known(cls, recipe: str) -> str:
        if recipe and recipe not in OPTIONS:
            raise ValueError(f"unknown; allowed: {', '.join(map(repr, OPTIONS))}")
        return recipe

    @model_validator(mode="after")
    def _reads_labels(self) -> Self:
        if self.pretrain.labels and not self.pretrain.options.labelled:
            raise ValueError(f"pretrain.labels {list(self.pretrain.labels)}: recipe {self.recipe} reads no labels")
        return self

    @model_validator(mode="after")
    def _starts_alone(self) -> Self:
        if self.start is not None and self.encoder is not None and self.encoder.ensemble is not None:
            raise ValueError(f"encoder.ensemble {self.encoder.ensemble}: of a run with `start`; leave one of them out")
        return self

    @model_validator(mode="after")
    def _suits_the_options(self) -> Self:
        self.pretrain.options.suit(self)
        return self

    def alone(self) -> Run:
        """Return the run with one encoder in place of an ensemble, each of which is trained so."""
        if self.encoder is None or self.encoder.ensemble is None:
            return self
        return self.model_copy(update={"encoder": self.encoder.model_copy(update={"ensemble": None})})

    def reads(self) -> tuple[str, ...]:
        """Return what this pretraining reads of its patients besides the recordings: measures and labels.

        `Params.reads` adds what the runs that it starts from read.
        """
        measures = (name for factor in self.pretrain.options.covariates().values() for name in factor.names())
        return tuple(dict.fromkeys((*measures, *self.pretrain.labels)))
