"""The protocols of an evaluation as people see them: in groups, in one order, with one colour and a sentence each."""

from __future__ import annotations

from collections.abc import Iterable

from medssl.config import BASELINES

# Group -> protocol -> colour and what it is. The order here is the order of every table and legend.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "encoder": {
        "probe": ("#0b6e99", "linear model on the frozen encoder"),
        "naive_bayes": ("#56a8cb", "naive Bayes on the frozen encoder"),
        "knn": ("#5e8c61", "nearest neighbours on the frozen encoder"),
        "head": ("#2a9d8f", "small network on the frozen encoder"),
        "partial": ("#e07a5f", "the last stage of the encoder is trained too"),
        "finetune": ("#d1495b", "the whole encoder is trained from its pretrained weights"),
        "probe_subject_free": ("#3d5a80", "probe without what all units of a patient share"),
        "probe_adapted": ("#98c1d9", "probe with batch statistics adapted to each test site"),
        "demographics_probe": ("#81559b", "demographics and embedding together, both weighing the same"),
        "handcrafted_probe": ("#c77dff", "features of the field and embedding together, both weighing the same"),
    },
    "baselines": {
        "demographics": ("#b08968", "linear model on age, sex and the like alone"),
        "handcrafted": ("#7f6a93", "linear model on features of the field"),
        "handcrafted_boosting": ("#b39cd0", "gradient boosting on features of the field"),
        "minirocket": ("#f4845f", "linear model on random convolutions"),
        "scattering": ("#6b705c", "linear model on wavelet scattering"),
        "supervised": ("#edae49", "the same network from scratch"),
    },
    "controls": {
        "random_init": ("#8d99ae", "probe on an untrained encoder"),
        "permuted_labels": ("#c0c0c0", "probe trained on shuffled labels"),
    },
}
# Baselines without a network: an encoder that does not beat the best of them is not worth its training.
SIMPLE = BASELINES
STAGE = "stage_"  # begins the name of a probe of an inner stage of the encoder
KNOWN = {name: facts for group in GROUPS.values() for name, facts in group.items()}
OTHER = "#333333"


def colour(protocol: str) -> str:
    """Return the colour of a protocol, black for one that is not listed."""
    return KNOWN[protocol][0] if protocol in KNOWN else OTHER


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the protocols there are by group, in order; stages of the encoder are not among them.

    What is not listed comes last, as ``other``.
    """
    have = list(dict.fromkeys(names))
    groups = {group: [name for name in members if name in have] for group, members in GROUPS.items()}
    groups["other"] = [name for name in have if name not in KNOWN and not name.startswith(STAGE)]
    return {group: members for group, members in groups.items() if members}


def ordered(names: Iterable[str]) -> list[str]:
    """Return the protocols there are in order, without stages of the encoder."""
    return [name for members in grouped(names).values() for name in members]
