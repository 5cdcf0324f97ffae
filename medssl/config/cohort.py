"""Sections of a cohort: synthetic or real recordings, how they are cut, deduplicated and split."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.config.section import Count, Positive, Section, Share, in_encoders


class Synthetic(Section):
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
    Each ``max_*`` is the largest share, in the worst channel, that a window may have; null refuses nothing. A
    recording that lacks a channel throughout is refused. All shares are columns ``quality_*`` of the table, refused
    or not (`medssl.ingest.quality`).
    ``normalise`` says what one number scales (`medssl.ingest.signals.scale`): a channel of a sample, a sample, a
    recording, or a cohort, whose number follows from the training patients of a split (`medssl.store.Store`).
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
    normalise: Literal["none", "cohort", "record", "sample", "channel"] = "sample"
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
    """Raw volume to samples: whole volumes ``(D, H, W)``, its axial slices ``(H, W)`` or patches ``(D, H, W)``.

    ``spacing_mm`` (same length as ``size``) respaces and then crops or pads; null resizes to ``size``, for sets
    that publish no spacing (patches keep their voxels). ``hu_window`` clips and maps to [0, 1]; null takes the 1st and
    99.5th percentile of the volume, for units without a scale (MRI). ``normalise: zscore`` then maps the mean of the
    body to 0.5 and 3 standard deviations to either side to 0 and 1. ``crop: foreground`` first cuts to the box around
    the body. ``overlap`` is the share of a patch that the next one repeats.
    ``truncated: missing`` leaves out the measures of an organ that reaches the first or last slice, of which the mask
    holds a part; either way a column ``quality_<organ>_truncated`` says which do. ``max_blank`` is the largest share of
    a sample that may be 0, background or padding; a constant one is always refused.
    """

    samples: Literal["volume", "slices", "patches"] = "volume"
    size: tuple[Count, ...] = Field(min_length=2, max_length=3)
    spacing_mm: tuple[Positive, ...] | None = None
    hu_window: tuple[float, float] | None = None
    normalise: Literal["range", "zscore"] = "range"
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    crop: Literal["foreground"] | None = None
    truncated: Literal["keep", "missing"] = "keep"
    unit: str = "1"
    max_blank: Share | None = None
    max_reject_share: Share = 0.5

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        need = 2 if self.samples == "slices" else 3
        if len(self.size) != need:
            raise ValueError(f"size {list(self.size)} must have {need} numbers for samples: {self.samples}")
        if self.spacing_mm is not None and len(self.spacing_mm) != need:
            raise ValueError(f"spacing_mm {list(self.spacing_mm)} must have {need} numbers, one per axis of size")
        if self.hu_window is not None and self.hu_window[0] >= self.hu_window[1]:
            raise ValueError(f"hu_window {list(self.hu_window)} must be [low, high] with low < high")
        if self.overlap and self.samples != "patches":
            raise ValueError(f"overlap: {self.overlap:g} is for samples: patches; remove it for {self.samples}")
        return self


OfImages = Literal["dhash", "ahash", "phash", "slices", "dhash3d", "ssim", "mutual_information"]
OfSignals = Literal["beats", "bands", "overlap"]


class Dedup(Section):
    """Redundancy removal: exact copies always, then near-duplicates by ``method`` within ``scope``.

    A pair at most ``threshold`` apart is redundant (null: the method's own); ``keep_ratio`` finds the threshold that
    keeps such a share instead. ``every`` is for ``every_n``, ``encoder`` for ``embedding``: a folder in
    ``data/encoders``, which the stage depends on. ``keeper`` stays of several: the first by position, or the one of
    best quality. ``published`` orders positions as text and scales each slice by itself, as the release of Less is More
    does.
    """

    method: Literal["none", "every_n", OfImages, "embedding", OfSignals, "copies"] = "none"
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
        if self.encoder is not None:
            in_encoders("encoder", self.encoder)
        return self

    def fitted(self) -> bool:
        """Say whether what is removed of one patient depends on others."""
        return self.method not in ("none", "every_n") and (self.scope == "global" or self.keep_ratio is not None)


class SplitParams(Section):
    """Shares of patients; ``publisher_folds`` follows the data set's own folds where it has any.

    ``publisher_parts`` says what these folds keep apart: ``patients`` refuses folds that divide a patient;
    ``as_published`` takes them as they are, such as those of COVID-CT, which are by picture. Results are then not
    patient-safe, and every output says so.

    ``published`` takes a split that others report results on: ``ptbxl`` (folds 1-8, 9, 10), ``papagei`` of PPG-BP,
    ``eegmat``. Patients whom it leaves out are in no part. ``folds`` is cross-validation beside the fixed split:
    every patient is tested once in each of ``repeats``, the first by the publisher's folds where there are any; ``val``
    is there a share of the patients who are not tested. With ``published``, ``train`` and ``test`` decide nothing.

    ``copies``: look for copies in another form across the parts too, by content. Off unless asked for: it takes
    seconds for two thousand windows, minutes for hundreds of volumes, and holds features of all samples in memory.
    """

    train: Share = 0.6
    val: Share = 0.1
    test: Share = 0.3
    stratify: tuple[str, ...] = ()
    publisher_folds: dict[Literal["val", "test"], tuple[int, ...]] | None = None
    publisher_parts: Literal["patients", "as_published"] = "patients"
    published: Literal["ptbxl", "papagei", "eegmat"] | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    repeats: Count = 1
    copies: bool = False

    @model_validator(mode="after")
    def _decided_once(self) -> Self:
        if self.publisher_folds and self.published:
            raise ValueError("publisher_folds and published each decide who is tested; keep one")
        if self.repeats > 1 and self.folds is None:
            raise ValueError(f"repeats: {self.repeats} needs folds, such as 5")
        if self.folds is not None and self.val == 1:
            raise ValueError("val: 1 leaves nobody to train; with folds it is a share of the patients not tested")
        total = self.train + self.val + self.test
        if self.published is None and abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test = {total:g}; expected 1")
        if self.publisher_parts == "as_published" and not self.publisher_folds:
            raise ValueError("publisher_parts: as_published needs publisher_folds, such as {val: [1], test: [2]}")
        return self


class Cohort(Section):
    """One cohort of recordings from raw files to a patient split."""

    source: Source
    ingest: SignalIngest | VolumeIngest
    dedup: Dedup = Dedup()
    split: SplitParams = SplitParams()

    def unlike(self, other: Cohort) -> str:
        """Return in what samples of another cohort differ that an encoder depends on; empty: in nothing."""
        one, two = self.ingest, other.ingest
        if isinstance(one, SignalIngest) and isinstance(two, SignalIngest):
            return " and ".join(key for key in ("channels", "rate_hz") if getattr(one, key) != getattr(two, key))
        return ""
