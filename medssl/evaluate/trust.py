"""Can a result be trusted? Each check has a name, a verdict and the reason for it, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from medssl import table as tables
from medssl.curate import leakage
from medssl.evaluate import labels
from medssl.evaluate.metrics import headline, protocols

Verdict = Literal["ok", "unknown", "warning", "failed"]
WORST: tuple[Verdict, ...] = ("ok", "unknown", "warning", "failed")
UNLIKE = 0.7  # AUROC from which on test patients are unlike those trained on
LAYOUTS = ("manifest", "bids")  # sources that anybody's recordings may have; others are public sets
TRAININGS = 3  # from which on an interval says something about training


class Check(NamedTuple):
    """What was looked at, the verdict, and why."""

    check: str
    verdict: Verdict
    detail: str


def encoder_apart(provenance: Mapping[str, Any], table: pd.DataFrame, key: bytes) -> Check:
    """Check that an encoder saw no patient whom it is tested on.

    Args:
        provenance: of the encoder's ``config.json``; empty for somebody else's module.
        table: sample table with split, of the evaluation.
        key: of the project.
    """
    name = "encoder saw no test patient"
    seen = provenance.get("seen")
    if not seen:
        return Check(name, "unknown", "the encoder does not say whom it was trained on")
    if seen["key"] != tables.keyed_name(key, "identity"):
        # Codes of patients cannot be compared, but all patients of a public set are these too.
        source, tested = provenance.get("source"), table.loc[table["split"] == "test", "source"].unique()
        if "release" in provenance and source not in LAYOUTS and source in tested:
            return Check(name, "failed", f"all patients of {source} trained it; test it on other recordings")
        return Check(name, "unknown", "the encoder was trained in a project with another key for patients")
    test = tables.patient_codes(table.loc[table["split"] == "test", "patient"].unique())
    both = set(test) & set(seen["patients"])
    if both:
        return Check(name, "failed", f"{len(both)} of {len(test)} test patients were in its pretraining")
    return Check(
        name,
        "ok",
        f"none of {len(test)} test patients is among the {len(seen['patients'])} it was trained and chosen on",
    )


def parts_apart(table: pd.DataFrame) -> Check:
    """Check that no patient, content or interval is in two parts of a split."""
    leaks = leakage.find(table[table["split"].isin(tables.SPLITS)])
    if leaks:
        kinds = pd.Series([leak.reason for leak in leaks]).value_counts()
        return Check("parts share nothing", "failed", ", ".join(f"{n} x {kind}" for kind, n in kinds.items()))
    return Check("parts share nothing", "ok", "no patient, content or interval is in two parts")


def no_label_inside(table: Mapping[str, Sequence[int]], embedding: Mapping[str, Sequence[int]]) -> Check:
    """Check that no single feature states a label.

    Of what a table says of a patient that is a leak. Of an embedding it may be an easy label, for people to judge.

    Args:
        table: for each label that demographics state, their columns.
        embedding: likewise of embeddings.
    """
    name = "no label among the features"
    if table:
        return Check(name, "failed", _listed(table, "demographics"))
    if embedding:
        return Check(name, "warning", f"one number alone states it: {_listed(embedding, 'the embedding')}")
    return Check(name, "ok", "no single feature states a label")


def _listed(found: Mapping[str, Sequence[int]], where: str) -> str:
    return "; ".join(f"{label} by column {', '.join(map(str, at))} of {where}" for label, at in found.items())


def alike(found: Mapping[str, float]) -> Check:
    """Check that test patients look like those trained on, against validation patients.

    Args:
        found: of `medssl.evaluate.novelty.report`, validation inside and test outside.
    """
    said = f"distance to training samples tells test from validation with AUROC {found['auroc']:.2f}"
    unlike = found["auroc"] >= UNLIKE
    return Check("test patients are like those trained on", "warning" if unlike else "ok", said)


def anonymous(found: Mapping[str, Any]) -> Check:
    """Check that an embedding does not tell who somebody is.

    Args:
        found: of `medssl.evaluate.identity.reidentification`, of test patients.
    """
    interval = "" if found["lo"] is None else f" [{found['lo']:.2f}, {found['hi']:.2f}]"
    other = "another trial" if found["other"] == "trial" else "another sample of the recording"
    said = f"the nearest sample of {other} is the same patient's in {found['rate']:.2f}{interval}"
    told = found["lo"] is not None and found["lo"] > found["chance"]
    few = "; too few patients to tell" if found["lo"] is None else ""
    return Check(
        "embeddings do not tell patients",
        "warning" if told else "unknown" if found["lo"] is None else "ok",
        f"{said}, n={found['n_patients']}; chance {found['chance']:.2f}{few}",
    )


def of_results(metrics: Mapping[str, Any]) -> list[Check]:
    """Return the checks that results themselves allow.

    Args:
        metrics: of `medssl.evaluate.results.measure`.
    """
    shown = {task: protocols(of) for task, of in metrics.items() if protocols(of)}
    shuffled: dict[str, bool] = {}  # whether a probe of labels in random order is above chance
    weak: dict[str, float] = {}
    few, trainings = [], 0
    for task, of in shown.items():
        for protocol, fractions in of.items():
            for values in fractions.values():
                value = values[headline(values)]
                if "too_few" in value:
                    few.append(task)
                if protocol == "probe":
                    trainings = max(trainings, value.get("trainings", 1))
                    weak |= {task: value["p_value"]} if "p_value" in value else {}
                if protocol == "permuted_labels":
                    chance = 0.5 if headline(values) == "auroc" else 0.0
                    shuffled[task] = value["lo"] is not None and value["lo"] > chance
    checks = [
        _verdict(
            "shuffled labels teach nothing",
            bool(shuffled),
            ", ".join(task for task, above in shuffled.items() if above),
            bad=("failed", "above chance with labels in random order: "),
            good="with labels in random order no probe is above chance",
        ),
        _verdict(
            "labels are in the embedding",
            bool(weak),
            ", ".join(f"{task} (p = {p:.2f})" for task, p in weak.items() if p > 0.05),
            bad=("warning", "no better than shuffled labels: "),
            good="every probe is better than with shuffled labels",
        ),
        _verdict(
            "several trainings",
            trainings > 0,
            f"{trainings} trained" if trainings < TRAININGS else "",
            bad=("warning", "intervals say little about another training: "),
            good=f"intervals cover patients and {trainings} trainings",
        ),
    ]
    checks.append(
        Check("enough patients", "warning", f"too few for an interval: {', '.join(dict.fromkeys(few))}")
        if few
        else Check("enough patients", "ok", "every result has patients enough for an interval")
    )
    seen = {task: of["seen"] for task, of in metrics.items() if of.get("seen")}
    checks.append(
        Check(
            "labels are new to the encoder",
            "warning",
            "; ".join(f"{task}: pretraining read {', '.join(names)}" for task, names in seen.items()),
        )
        if seen
        else Check("labels are new to the encoder", "ok", "pretraining read none of the labels it is tested on")
    )
    return checks


def _verdict(name: str, known: bool, found: str, *, bad: tuple[Verdict, str], good: str) -> Check:
    """Return a check that nobody asked for, that found something, or that found nothing."""
    if not known:
        return Check(name, "unknown", "not evaluated")
    return Check(name, bad[0], bad[1] + found) if found else Check(name, "ok", good)


def joined(parts: Iterable[Iterable[Check]]) -> list[Check]:
    """Return one check a name, of folds: the worst verdict with its reason, and of how many."""
    named: dict[str, list[Check]] = {}
    for checks in parts:
        for check in checks:
            named.setdefault(check.check, []).append(check)
    out = []
    for name, checks in named.items():
        worst = max(checks, key=lambda check: WORST.index(check.verdict))
        same = sum(check.verdict == worst.verdict for check in checks)
        many = f" (in {same} of {len(checks)} folds)" if len(checks) > 1 and worst.verdict != "ok" else ""
        out.append(Check(name, worst.verdict, worst.detail + many))
    return out


def stated_by(names: Sequence[str], measures: Sequence[str], table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the labels that pretraining saw, each with what it read that states it.

    A label is seen if it was read itself, or if a linear function of the measures that were read explains 90 % of it:
    of a number, or of one of its classes.

    Args:
        names: labels.
        measures: what pretraining read (`medssl.config.Params.reads`).
        table: sample table with ``label_*`` and ``anat_*``.
    """
    out = {name: [name] for name in names if name in measures}
    columns = [f"anat_{measure}" for measure in measures if f"anat_{measure}" in table]
    for name in names:
        known = table.dropna(subset=[f"label_{name}", *columns])
        if name in out or not columns or len(known) <= 2 * len(columns) or not labels.simple(known[f"label_{name}"]):
            continue
        x = np.column_stack([np.ones(len(known)), known[columns].to_numpy(float)])
        y = labels.as_numbers(known[f"label_{name}"])
        residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        spread = np.square(y - y.mean(0)).sum(0)
        if (np.square(residual).sum(0)[spread > 0] <= 0.1 * spread[spread > 0]).any():
            out[name] = [column.removeprefix("anat_") for column in columns]
    return out
