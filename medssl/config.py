"""Typed sections of ``params.yaml``: the only module that reads YAML.

Every section is a frozen pydantic model that forbids unknown keys, so a typing mistake is one clear line
that names the key, the value and what is allowed. Functions elsewhere get plain values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MODALITIES = ("ecg", "ppg", "eeg", "ct", "mri")
SIGNALS = ("ecg", "ppg", "eeg")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(ValueError):
    """A value in ``params.yaml`` or the environment that cannot be used; the message names it and the fix."""


class Section(BaseModel):
    """A frozen section whose unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Tracking(Section):
    """Where runs are recorded. ``MLFLOW_TRACKING_URI`` wins over ``uri``; null means ``mlflow.db`` of the project."""

    uri: str | None = None
    experiment: str = "medssl"


class Compute(Section):
    """How work is spread over workers, devices and nodes.

    The loss does not depend on the number of processes: contrast is over the whole batch. Precision does change what is
    trained, and so does batch normalisation on CPU processes, which see their own share (on GPUs it is synchronised).
    """

    workers: Count = 1
    executor: Literal["serial", "process", "dask"] = "serial"
    address: str | None = None
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    devices: Count | Literal["auto"] = 1
    nodes: Count = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    loader_workers: Annotated[int, Field(ge=0)] = 0
    compile: bool = False
    checkpoint_minutes: Positive = 10.0
    progress: bool = True


class Cohort(Section):
    """Size and planted defects of one synthetic cohort (truth table in ``data/README.md``)."""

    patients: Count = 100
    trials: Count = 2
    exact_duplicates: Annotated[int, Field(ge=0)] = 3
    near_duplicates: Annotated[int, Field(ge=0)] = 3
    corrupt: Annotated[int, Field(ge=0)] = 3


class Source(Section):
    """Raw recordings: ``manifest`` (a table of files) or the published layout of a named public set."""

    name: str = "manifest"
    root: str
    limit: Count | None = None


class SignalIngest(Section):
    """Raw signal to samples of ``window_s`` seconds at ``rate_hz`` with the listed channels.

    ``cut: beats`` centres a window on each R peak (ECG) or systolic peak (PPG) instead of laying them end to end.
    ``notch_hz`` removes the mains and its harmonics. ``absent: derive`` computes limb leads that lack from I and II.
    Each ``max_*`` is the largest share, in the worst channel, that a window (``max_missing``: a recording) may have;
    null refuses nothing. All shares are columns ``quality_*`` of the table, refused or not (`medssl.ingest.quality`).
    """

    rate_hz: Positive
    channels: tuple[str, ...] = Field(min_length=1)
    unit: str
    window_s: Positive
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    cut: Literal["windows", "beats"] = "windows"
    absent: Literal["refuse", "derive"] = "refuse"
    notch_hz: Literal[50, 60] | None = None
    band_hz: tuple[float, float] | None = None
    normalise: Literal["none", "sample", "channel"] = "sample"
    max_missing: Share = 0.05
    max_flat: Share = 0.9
    max_clipped: Share | None = None
    max_out_of_range: Share | None = None
    max_line_noise: Share | None = None
    max_reject_share: Share = 0.5

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.band_hz is not None:
            low, high = self.band_hz
            if not 0 < low < high < self.rate_hz / 2:
                raise ValueError(
                    f"band_hz {list(self.band_hz)} must satisfy 0 < low < high < rate_hz/2 = {self.rate_hz / 2:g}"
                )
        if self.cut == "beats" and self.overlap:
            raise ValueError(f"overlap: {self.overlap:g} is for cut: windows; beats decide where theirs begin")
        return self


class VolumeIngest(Section):
    """Raw volume to samples: whole volumes ``(D, H, W)`` or its axial slices ``(H, W)``.

    ``spacing_mm`` (same length as ``size``) respaces and then crops or pads; null resizes to ``size``, for sets
    that publish no spacing. ``hu_window`` clips and maps to [0, 1]; null takes the 1st and 99.5th percentile
    of the volume, for units without a scale (MRI). ``crop: foreground`` first cuts to the box around the body.
    ``truncated: missing`` leaves out the measures of an organ that reaches the first or last slice, of which the mask
    holds a part; either way a column ``quality_<organ>_truncated`` says which do.
    """

    samples: Literal["volume", "slices"] = "volume"
    size: tuple[Count, ...] = Field(min_length=2, max_length=3)
    spacing_mm: tuple[Positive, ...] | None = None
    hu_window: tuple[float, float] | None = None
    crop: Literal["foreground"] | None = None
    truncated: Literal["keep", "missing"] = "keep"
    unit: str = "1"
    max_reject_share: Share = 0.5

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        need = 3 if self.samples == "volume" else 2
        if len(self.size) != need:
            raise ValueError(f"size {list(self.size)} must have {need} numbers for samples: {self.samples}")
        if self.spacing_mm is not None and len(self.spacing_mm) != need:
            raise ValueError(f"spacing_mm {list(self.spacing_mm)} must have {need} numbers, one per axis of size")
        if self.hu_window is not None and self.hu_window[0] >= self.hu_window[1]:
            raise ValueError(f"hu_window {list(self.hu_window)} must be [low, high] with low < high")
        return self


class Dedup(Section):
    """Redundancy removal: exact copies always, then near-duplicates by ``method`` within ``scope``.

    A pair at most ``threshold`` apart is redundant (null: the method's own); ``keep_ratio`` finds the threshold that
    keeps such a share instead. ``every`` is for ``every_n``, ``encoder`` (a folder) for ``embedding``. ``keeper`` stays
    of several: the first by position, or the one of best quality. ``published`` orders positions as text and scales
    each slice by itself, as the release of Less is More does.
    """

    method: Literal[
        "none",
        "every_n",
        "dhash",
        "ahash",
        "phash",
        "slices",
        "dhash3d",
        "ssim",
        "mutual_information",
        "embedding",
        "beats",
        "bands",
        "overlap",
        "copies",
    ] = "none"
    threshold: Annotated[float, Field(ge=0)] | None = None
    keep_ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    every: Annotated[int, Field(ge=2)] = 4
    encoder: str | None = None
    scope: Literal["volume", "patient", "global"] = "volume"
    keeper: Literal["position", "quality"] = "position"
    published: bool = False
    min_per_patient: Count = 1

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.threshold is not None and self.keep_ratio is not None:
            raise ValueError(f"threshold: {self.threshold:g} and keep_ratio: {self.keep_ratio:g} both decide; take one")
        if self.method in ("none", "every_n") and (self.threshold is not None or self.keep_ratio is not None):
            raise ValueError(f"method: {self.method} has no threshold; remove threshold and keep_ratio")
        if self.method == "copies" and self.keep_ratio is not None:
            raise ValueError("method: copies finds copies, however many there are; remove keep_ratio")
        if (self.method == "embedding") != (self.encoder is not None):
            raise ValueError("method: embedding needs encoder, a folder, and no other method takes one")
        return self


class SplitParams(Section):
    """Shares of patients; ``publisher_folds`` follows the data set's own folds where it has any.

    ``copies``: look for copies in another form across the parts too, by content. Off unless asked for: it takes
    seconds for two thousand windows, minutes for hundreds of volumes, and holds features of all samples in memory.
    """

    train: Share = 0.6
    val: Share = 0.1
    test: Share = 0.3
    stratify: tuple[str, ...] = ()
    publisher_folds: dict[Literal["val", "test"], tuple[int, ...]] | None = None
    copies: bool = False

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test = {total:g}; expected 1")
        return self


class Modality(Section):
    """One cohort of recordings from raw files to a patient split."""

    source: Source
    ingest: SignalIngest | VolumeIngest
    dedup: Dedup = Dedup()
    split: SplitParams = SplitParams()


class EncoderParams(Section):
    """Architecture by name.

    ``widths`` are channels per stage, the last one being the embedding's dimension; null takes the published size.
    """

    name: Literal["resnet1d", "dilated1d", "efficientnet1d", "vit1d", "resnet2d", "resnet3d", "vit3d"]
    widths: tuple[Count, ...] | None = None
    depth: Count | None = None
    patch: Count | None = None


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
    levels: dict[Literal["patient", "trial", "sample", "observation"], Annotated[float, Field(ge=0)]] = {
        "patient": 0.25,
        "trial": 0.25,
        "sample": 0.25,
        "observation": 0.25,
    }
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


class Params(Section):
    """The whole of ``params.yaml``."""

    seed: Annotated[int, Field(ge=0)] = 0
    tracking: Tracking = Tracking()
    compute: Compute = Compute()
    synthetic: dict[str, Cohort] = {}
    modalities: dict[str, Modality]
    runs: dict[str, Run] = {}

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for section, names in (("modalities", self.modalities), ("synthetic", self.synthetic)):
            for key in names:
                if modality_of(key) not in MODALITIES:
                    raise ValueError(
                        f"{section}.{key}: '{modality_of(key)}' is not a modality; allowed: {', '.join(MODALITIES)}, "
                        "each with an optional suffix such as ecg-holter"
                    )
        for key, modality in self.modalities.items():
            signal = modality_of(key) in SIGNALS
            if signal != isinstance(modality.ingest, SignalIngest):
                raise ValueError(
                    f"modalities.{key}.ingest: keys of a {'volume' if signal else 'signal'} given; "
                    f"{key} needs those of a {'signal' if signal else 'volume'}"
                )
        for name, run in self.runs.items():
            if run.modality not in self.modalities:
                raise ValueError(
                    f"runs.{name}.modality '{run.modality}' is not in modalities; allowed: {', '.join(self.modalities)}"
                )
        return self


def modality_of(key: str) -> str:
    """Return the modality of a key of ``modalities``: ``ecg`` for ``ecg`` and for ``ecg-holter``."""
    return key.split("-", 1)[0]


def explain(error: ValidationError, where: str) -> str:
    """Turn the first failures of a validation into one line with key, value and what is allowed."""
    parts = []
    for item in error.errors()[:4]:
        # The union of ingest kinds adds its class names to the path; they mean nothing to a user.
        key = ".".join(str(p) for p in item["loc"] if p not in ("SignalIngest", "VolumeIngest"))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key; remove it or correct its name"
        value = item.get("input")
        shown = "" if isinstance(value, dict | BaseModel) or item["type"] == "missing" else f" = {value!r}"
        parts.append(f"{key}{shown}: {message}" if key else message)
    return f"{where}: " + "; ".join(parts)


def parse(text: str, where: str = "params.yaml") -> Params:
    """Read the text of a params file.

    Raises:
        ConfigError: not YAML, an unknown key, a wrong type or a value out of range.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: expected sections (seed, modalities, runs ...), found {type(raw).__name__}")
    for key, modality in (raw.get("modalities") or {}).items():
        # Choose the ingest model by modality first: a union would report the failures of both.
        if isinstance(modality, dict) and isinstance(modality.get("ingest"), dict):
            kind: type[Section] = SignalIngest if modality_of(str(key)) in SIGNALS else VolumeIngest
            try:
                modality["ingest"] = kind.model_validate(modality["ingest"])
            except ValidationError as error:
                raise ConfigError(explain(error, f"{where}: modalities.{key}.ingest")) from None
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, where)) from None


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check ``params.yaml``."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; run from the folder that holds params.yaml")
    return parse(path.read_text(), str(path))


def load_default() -> Params:
    """Read the project's ``params.yaml``: of this folder, else the one the package brings along."""
    here = Path("params.yaml")
    package = Path(__file__).parent
    homes = [here, package.parent / "params.yaml", package / "template" / "params.yaml"]
    return load(next((p for p in homes if p.is_file()), here))


def part(params: Params, section: str, key: str) -> Any:
    """Return ``params.<section>.<key>`` or say which keys exist."""
    table = getattr(params, section)
    if key not in table:
        raise ConfigError(f"{section}.{key}: no such entry; allowed: {', '.join(table) or 'none'}")
    return table[key]
