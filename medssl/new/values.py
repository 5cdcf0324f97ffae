"""The values of a new project: how a cohort is cut, and the run of the published parameters that suits it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl import config, workspace
from medssl.check.folder import CLASSES, Balance, Findings
from medssl.new.look import HEART, PULSE
from medssl.sources.claims import VOLTS
from medssl.sources.electrodes import LEAD, SCALP, clean_name

TWELVE = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
TISSUES = ("fat_share", "lung_share", "bone_share")  # measured in every slice in HU
MOST = 48  # voxels along the longest side of a volume
SHOWN = re.compile(r"[A-Za-z_][\w-]*")
WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # what some reader of YAML takes for no text


@dataclass(frozen=True)
class Choice:
    """Sections of a cohort and of its run, by key."""

    ingest: dict[str, Any]
    dedup: dict[str, Any]
    run_name: str
    run: dict[str, Any]
    stratify: list[str]


def choose(key: str, found: Findings | None, measures: list[str]) -> Choice:
    """Return the values for a cohort as it was found; None: as in the published parameters.

    Args:
        key: of the cohort, a modality with or without a suffix.
        found: what lies in the folder.
        measures: ``anat_`` columns of the cohort, which the anatomy recipe weighs pairs by.
    """
    published = config.load(workspace.template("params.real.yaml"))
    modality = config.modality_of(key)
    signal = modality in config.SIGNALS
    labels = usable(found.labels) if found else []
    model = _model(modality, found)
    cohort, run = published.modalities[model], next(r for r in published.runs.values() if r.modality == model)
    like = cohort.ingest.model_dump(mode="json", exclude_unset=True)
    if found is not None:
        like = signal_ingest(like, modality, found) if signal else volume_ingest(like, modality, found)
    section = run.model_dump(mode="json", exclude_unset=True)
    section |= {"modality": key}
    section.pop("seeds", None)  # one training; several tell how much chance there is
    classes = [label.task for label in labels if label.kind == "class"]
    training = section["pretrain"] = dict(section["pretrain"])
    training.pop("monitor_label", None)
    if classes:
        training["monitor_label"] = classes[0]
    elif training.get("select") == "knn":
        training.pop("select")
    _fit_to_measures(section, modality, found, like, measures)
    if not training.get("options"):
        training.pop("options", None)
    tasks = [label.task for label in labels]
    section["evaluate"] = {"labels": tasks} | ({"finetune_labels": classes[:1] or tasks[:1]} if tasks else {})
    recipe = section["recipe"]
    return Choice(
        like, cohort.dedup.model_dump(mode="json", exclude_unset=True), f"{key}-{recipe}", section, classes[:1]
    )


def usable(labels: list[Balance]) -> list[Balance]:
    """Return labels that something can be learnt of: two classes or more and not as many as records, or numbers."""
    return [
        label for label in labels if label.unit == "records" and (label.quantiles or 2 <= len(label.counts) <= CLASSES)
    ]


def _model(modality: str, found: Findings | None) -> str:
    """Return the cohort of the published parameters that is most alike."""
    if found is None:
        return modality
    if modality == "ecg":
        return "ecg" if len([name for name in found.common if LEAD.fullmatch(clean_name(name))]) >= 8 else "ecg-single"
    if modality == "ppg":
        return "ppg-camera" if min(found.rates_hz) < 60 else "ppg"
    if modality == "eeg":
        return "eeg"
    if all(shape[0] == 1 for shape in found.shapes) and not found.units["HU"]:
        return "ct-slices"
    return modality


def signal_ingest(like: dict[str, Any], modality: str, found: Findings) -> dict[str, Any]:
    """Return rate, channels, unit and window that the recordings have, no more than those of ``like``."""
    rate = min(like["rate_hz"], *found.rates_hz)
    low, high = like["band_hz"]
    window = like["window_s"]
    if (short := float(np.quantile(found.durations_s, 0.1))) < window:
        window = math.floor(short * 10) / 10 or short
    volts = any(found.units[unit] for unit in VOLTS)
    unit = like["unit"] if volts and like["unit"] in VOLTS else found.units.most_common(1)[0][0]
    top = min(high, math.floor(rate * 4) / 10)
    values = {
        "rate_hz": _number(rate),
        "channels": channels(modality, found),
        "unit": unit,
        "window_s": _number(window),
    }
    return values | ({"band_hz": [low, _number(top)]} if top > low else {})


def channels(modality: str, found: Findings) -> list[str]:
    """Return the channels of a modality that all recordings have, else the one that most of them have."""

    def fits(name: str) -> bool:
        if modality == "eeg":
            return clean_name(name) in SCALP
        if modality == "ppg":
            return bool(PULSE.search(name))
        return bool(LEAD.fullmatch(clean_name(name)) or HEART.search(name))

    named = [name for name in found.channels if fits(name)] or list(found.channels)
    common = [name for name in named if name in found.common]
    if not common:
        return [max(named, key=lambda name: found.channels[name])]
    if modality == "ecg":
        order = {name.lower(): place for place, name in enumerate(TWELVE)}
        common.sort(key=lambda name: order.get(clean_name(name).lower(), len(order)))
    return common


def volume_ingest(like: dict[str, Any], modality: str, found: Findings) -> dict[str, Any]:
    """Return size, spacing and unit of samples that hold what most recordings hold."""
    out = dict(like)
    unit = "HU" if found.units["HU"] else found.units.most_common(1)[0][0]
    shape = np.median([s for s, n in found.shapes.items() for _ in range(n)], axis=0)
    spacing = np.array([s for s, n in found.spacings.items() for _ in range(n)], dtype=float)
    known = bool(np.isfinite(spacing[:, 1:] if shape[0] == 1 else spacing).all())
    slices = modality == "ct" or shape[0] == 1
    out |= {"samples": "slices" if slices else "volume", "unit": unit}
    if not slices:
        extent = shape * np.median(spacing, axis=0) if known else shape
        step = max(1.0 if known else 0.0, math.ceil(extent.max() / MOST * 10) / 10)
        # Networks halve the resolution four times.
        out["size"] = [int(min(64, max(16, 8 * math.ceil(side / (step or 1) / 8)))) for side in extent]
        out["spacing_mm"] = [_number(step)] * 3 if known else None
    else:
        out["size"] = [96, 96]
        extent = (shape * np.median(spacing, axis=0))[1:].max() if known else 0
        out["spacing_mm"] = [_number(math.ceil(extent / 96 * 2) / 2 or 1.0)] * 2 if known else None
    # Pictures keep their greys; a volume in no unit is stretched between percentiles of its own.
    out["hu_window"] = [-1000, 1000] if unit == "HU" else [0, 255] if modality == "ct" and not known else None
    return {key: value for key, value in out.items() if value is not None}


def _fit_to_measures(
    section: dict[str, Any], modality: str, found: Findings | None, ingest: Mapping[str, Any], measures: list[str]
) -> None:
    """Name the measures there are for the anatomy recipe; without any the run contrasts samples alone."""
    if modality in config.SIGNALS:
        return
    if section["recipe"] == "anatomy":
        known = list(measures)
        if ingest.get("unit") == "HU" and ingest.get("samples") == "slices":
            known += [*TISSUES, *(["body_cm2"] if ingest.get("spacing_mm") else [])]
        if known:
            section["pretrain"]["options"] = {**section["pretrain"].get("options", {}), "measures": known}
            return
        section["recipe"] = "simclr"
        section["pretrain"].pop("options", None)
        section["pretrain"]["temperature"] = 0.1
    if ingest.get("samples") == "slices" and section["encoder"]["name"] == "resnet3d":
        section["encoder"] = {**section["encoder"], "name": "resnet2d"}


def flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and SHOWN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> float | int:
    """Return 100.0 as 100, as people write it."""
    return int(value) if float(value).is_integer() else round(float(value), 6)
