"""Checks name what is wrong: a leaked patient, an encoder that saw whom it is tested on, a label that was read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medssl import table as tables
from medssl.evaluate import frozen, trust
from medssl.evaluate.trust import Check
from medssl.store import Store

KEY, OTHER = b"k" * 32, b"o" * 32


def table(parts: str = "ttttvv__") -> pd.DataFrame:
    """Return a sample a patient; t trains, v validates, _ tests."""
    names = {"t": "train", "v": "val", "_": "test"}
    n = len(parts)
    return pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)], "patient": 100 + np.arange(n), "trial": np.arange(n),
            "content": [f"c{i}" for i in range(n)], "start_s": 0.0, "duration_s": 1.0,
            "split": [names[p] for p in parts], "method": "",
        }
    )  # fmt: skip


def test_an_encoder_that_saw_a_test_patient_is_named() -> None:
    ours = table()
    seen = {"seen": tables.seen_patients(ours.loc[ours["split"] != "test", "patient"], KEY)}
    assert trust.encoder_apart(seen, ours, KEY).verdict == "ok"
    moved = ours.assign(split=["test", *ours["split"][1:]])
    check = trust.encoder_apart(seen, moved, KEY)
    assert (check.verdict, check.detail) == ("failed", "1 of 3 test patients were in its pretraining")
    # Validation decided which weights were kept.
    assert trust.encoder_apart(seen, ours.assign(split=["train"] * 5 + ["test"] * 3), KEY).verdict == "failed"


def test_what_an_encoder_does_not_say_is_unknown() -> None:
    seen = {"seen": tables.seen_patients([1, 2], OTHER)}
    for provenance in ({}, seen):
        assert trust.encoder_apart(provenance, table().assign(source="ptbxl"), KEY).verdict == "unknown"


@pytest.mark.parametrize(("trained", "tested", "verdict"), [
    ("ptbxl", "ptbxl", "failed"), ("ptbxl", "cinc2017", "unknown"), ("manifest", "manifest", "unknown"),
])  # fmt: skip
def test_a_released_encoder_saw_all_of_its_set_whatever_the_key(trained: str, tested: str, verdict: str) -> None:
    provenance = {"seen": tables.seen_patients([1, 2], OTHER), "source": trained, "release": {"run": "x"}}
    assert trust.encoder_apart(provenance, table().assign(source=tested), KEY).verdict == verdict


def test_codes_of_the_folder_are_hashes_of_hashes_to_nobody() -> None:
    said = tables.seen_patients([1, 1, 2**62], KEY)
    assert said["patients"] == ["0000000000000001", "4000000000000000"]
    assert KEY.hex() not in str(said)


def test_a_leaked_patient_is_named() -> None:
    assert trust.parts_apart(table()).verdict == "ok"
    leaked = table()
    leaked.loc[7, "patient"] = 100
    assert trust.parts_apart(leaked) == Check("parts share nothing", "failed", "1 x same patient")
    # Whom a published split leaves out is in no part.
    unused = table().assign(split=["unused"] + ["train"] * 5 + ["test"] * 2, patient=[107, *range(101, 108)])
    assert trust.parts_apart(unused).verdict == "ok"


def test_a_label_that_pretraining_read_or_that_follows_from_it_is_seen(signal_store: Store) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 60))
    have = pd.DataFrame({"anat_a": a, "anat_b": b, "label_sum": a + b, "label_noise": rng.normal(size=60)})
    have["label_class"] = np.where(a > 0, "x", "y")
    have["label_a"] = a
    assert trust.stated_by(["sum", "noise", "class", "a"], ["a", "b"], have) == {"a": ["a"], "sum": ["a", "b"]} | {
        name: ["a", "b"] for name in ()
    }
    assert trust.stated_by(["sum"], ["a"], have) == {}
    assert trust.stated_by(["sum"], [], have) == {}
    assert trust.stated_by(["findings", "age"], ["age_years"], signal_store.table) == {"age": ["age_years"]}


def test_a_label_among_the_features_is_named() -> None:
    assert trust.no_label_inside({}, {}).verdict == "ok"
    check = trust.no_label_inside({"disease": [3, 5]}, {"sex": [0]})
    assert (check.verdict, check.detail) == ("failed", "disease by column 3, 5 of demographics")
    assert trust.no_label_inside({}, {"sex": [0]}).verdict == "warning"


def test_embeddings_that_tell_patients_or_test_patients_of_another_kind_are_named() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 4)
    ours = pd.DataFrame({"patient": patient, "trial": np.arange(160) // 2, "split": "train"})
    ours.loc[ours["patient"] >= 20, "split"] = "test"
    ours.loc[ours["patient"] >= 30, "split"] = "val"
    noise, who = rng.normal(size=(160, 8)), rng.normal(size=(40, 8))[patient]

    def verdicts(values: np.ndarray) -> list[str]:
        return [check.verdict for check in frozen.of_embedding(ours, values)]

    assert verdicts(noise) == ["ok", "ok"]
    assert verdicts(noise * 0.1 + who)[1] == "warning"
    moved = noise + 9 * (ours["split"] == "test").to_numpy()[:, None]
    assert verdicts(moved)[0] == "warning"


def test_folds_are_joined_by_the_worst() -> None:
    one, two = Check("a", "ok", "fine"), Check("a", "failed", "patient 3 of them")
    assert trust.joined([[one], [one]]) == [one]
    assert trust.joined([[one], [two], [one]]) == [Check("a", "failed", "patient 3 of them (in 1 of 3 folds)")]


def value(mean: float, lo: float | None, hi: float | None, **more: object) -> dict[str, object]:
    return {"mean": mean, "lo": lo, "hi": hi, "n_patients": 9, "seeds": 1, **more}


SHUFFLED, INSIDE = "shuffled labels teach nothing", "labels are in the embedding"
SEVERAL, ENOUGH, NEW = "several trainings", "enough patients", "labels are new to the encoder"


@pytest.mark.parametrize(
    ("protocol", "metric", "given", "more", "name", "verdict"),
    [
        ("permuted_labels", "auroc", value(0.6, 0.55, 0.7), {}, SHUFFLED, "failed"),
        ("permuted_labels", "r2", value(-0.2, -1, 0.01), {}, SHUFFLED, "ok"),
        ("probe", "auroc", value(0.6, 0.4, 0.7, p_value=0.2), {}, INSIDE, "warning"),
        ("probe", "auroc", value(0.9, 0.8, 1.0, p_value=0.01), {}, INSIDE, "ok"),
        ("probe", "auroc", value(0.6, 0.4, 0.7, trainings=3), {}, SEVERAL, "ok"),
        ("probe", "auroc", value(0.6, 0.4, 0.7), {}, SEVERAL, "warning"),
        ("probe", "auroc", value(0.6, None, None, too_few="n=3"), {}, ENOUGH, "warning"),
        ("probe", "auroc", value(0.6, 0.4, 0.7), {"seen": ["a"]}, NEW, "warning"),
    ],
)
def test_results_themselves_say_whether_to_trust_them(
    protocol: str, metric: str, given: dict[str, object], more: dict[str, object], name: str, verdict: str
) -> None:
    metrics = {"t": {protocol: {"1": {metric: given}}} | more, "u": {"left_out": "one class"}}
    assert {check.check: check.verdict for check in trust.of_results(metrics)}[name] == verdict
