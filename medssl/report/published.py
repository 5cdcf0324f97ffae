"""Published figures on the public sets, to stand beside ours: value, what was done on whom, where it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medssl.evaluate.metrics import known, protocols


@dataclass(frozen=True)
class Figure:
    """A figure of somebody else, and which of our results it can be compared with."""

    model: str
    metric: str  # as in metrics.json
    value: float
    protocol: str  # of ours that does the same
    fraction: float = 1.0  # of the labelled patients
    lo: float | None = None  # their own interval, where they give one
    hi: float | None = None


@dataclass(frozen=True)
class Setting:
    """How a group of published figures was made."""

    sources: tuple[str, ...]  # names of `medssl.sources`
    named: str  # the published split (`split.published` of a cohort); empty: any cross-fitting
    task: str
    split: Literal["fixed split", "cross-fitted"]
    tested: int  # patients whom our result must at least test to be on their cohort
    words: str
    written: str
    figures: tuple[Figure, ...]


# "Not recorded": the figure was noted from a published comparison whose page is not at hand any more.
NOT_RECORDED = "noted from a published comparison, page not recorded"
PTBXL = ("ptbxl", "ptbxl_500")
PAPAGEI = "PaPaGei, Pillai et al. 2025, arXiv 2410.20542"

PUBLISHED = (
    Setting(
        PTBXL, "ptbxl", "superclass", "fixed split", 1500,
        "21,799 records, folds 1-8 train, 9 validates, 10 tests; linear probe", NOT_RECORDED,
        (
            Figure("ECGFounder", "auroc", 0.924, "probe"),
            Figure("ECG-JEPA", "auroc", 0.911, "probe"),
            Figure("ST-MEM", "auroc", 0.896, "probe"),
            Figure("MERL", "auroc", 0.887, "probe"),
            Figure("HuBERT-ECG", "auroc", 0.877, "probe"),
            Figure("ECG-FM", "auroc", 0.873, "probe"),
            Figure("S4 from scratch", "auroc", 0.932, "supervised"),
            Figure("SimCLR, another report", "auroc", 0.634, "probe", 0.01),
            Figure("SimCLR, another report", "auroc", 0.735, "probe"),
            Figure("MERL, another report", "auroc", 0.845, "probe", 0.01),
            Figure("MERL, another report", "auroc", 0.880, "probe"),
        ),
    ),
    Setting(
        PTBXL, "ptbxl", "superclass", "fixed split", 1500, "21,799 records, folds 1-8 train, 9 validates, 10 tests",
        "Strodthoff et al. 2021, doi 10.1109/jbhi.2020.3022989 (helme/ecg_ptbxl_benchmarking)",
        (
            Figure("wavelet features and network", "auroc", 0.874, "handcrafted", lo=0.867, hi=0.881),
            Figure("resnet1d_wang from scratch", "auroc", 0.930, "supervised", lo=0.925, hi=0.935),
        ),
    ),
    Setting(
        ("ppg_bp",), "papagei", "sbp_120", "fixed split", 30,
        "123 subjects train, 82 validate and test; systolic pressure >= 120", PAPAGEI,
        (
            Figure("PaPaGei-S", "auroc", 0.77, "probe", lo=0.68, hi=0.87),
            Figure("demographics", "auroc", 0.77, "demographics"),
            Figure("PaPaGei-S and demographics", "auroc", 0.80, "demographics_probe"),
        ),
    ),
    Setting(
        ("ppg_bp",), "", "sbp_120", "cross-fitted", 200, "219 subjects, 20 x 5 folds; systolic pressure >= 120",
        NOT_RECORDED,
        (
            Figure("PaPaGei-S", "auroc", 0.701, "probe"),
            Figure("demographics", "auroc", 0.702, "demographics"),
            Figure("PaPaGei-S and demographics", "auroc", 0.749, "demographics_probe"),
        ),
    ),
    Setting(
        ("eegmat",), "eegmat", "condition", "fixed split", 4,
        "subjects 00-27 train, 28-31 validate, 32-35 test, windows of 5 s", "OpenEEGBench",
        (
            Figure("REVE", "balanced_accuracy", 0.648, "probe"),
            Figure("BIOT", "balanced_accuracy", 0.553, "probe"),
            Figure("EEGPT", "balanced_accuracy", 0.551, "probe"),
            Figure("LaBraM", "balanced_accuracy", 0.499, "probe"),
            Figure("CBraMod", "balanced_accuracy", 0.499, "probe"),
            Figure("BIOT", "balanced_accuracy", 0.674, "finetune"),
            Figure("REVE", "balanced_accuracy", 0.661, "finetune"),
        ),
    ),
    Setting(
        ("eegmat",), "", "condition", "cross-fitted", 36, "36 subjects, cross-validated by subject, frozen encoder",
        "arXiv 2606.06647",
        (
            Figure("LaBraM", "balanced_accuracy", 0.736, "probe"),
            Figure("REVE", "balanced_accuracy", 0.733, "probe"),
            Figure("CBraMod", "balanced_accuracy", 0.722, "probe"),
            Figure("log band power", "balanced_accuracy", 0.666, "handcrafted"),
        ),
    ),
)  # fmt: skip


def compared(
    setting: Setting, figure: Figure, of_task: Mapping[str, Any], split: str, named: str
) -> tuple[str, dict[str, Any]]:
    """Return what our interval says of a published figure, and our value (empty without one).

    ``agrees``: theirs lies in our interval; ``ours is higher``, ``ours is lower``; or why it cannot be told: no such
    result, another split, another cohort, too few patients.

    Args:
        setting, figure: published.
        of_task: our results on the label.
        split, named: how our patients were held out, and the name of the published split if it was that.
    """
    fractions = protocols(of_task).get(figure.protocol, {})
    same = [share for share in fractions if abs(float(share) - figure.fraction) < 1e-9]
    if not same or figure.metric not in fractions[same[0]]:
        at = "" if figure.fraction == 1 or not fractions else f" at {100 * figure.fraction:g} % of labels"
        return f"not evaluated: {figure.protocol}{at}", {}
    value = fractions[same[0]][figure.metric]
    if value["n_patients"] < setting.tested:
        return f"not comparable: n = {value['n_patients']}, another cohort", value
    if split != setting.split or (setting.named and named != setting.named):
        return f"not comparable: ours is {'another ' * (split == setting.split)}{split}", value
    if not (known(value["lo"]) and known(value["hi"])):
        return f"cannot be told: {value.get('too_few', 'no interval')}", value
    if value["lo"] <= figure.value <= value["hi"]:
        return "agrees", value
    return "ours is higher" if figure.value < value["lo"] else "ours is lower", value
