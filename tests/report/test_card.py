"""The model card says what an encoder takes, where it came from and how well it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.evaluate.trust import anonymous
from medssl.report import card

CONTRACT = {"modality": "ecg", "unit": "mV", "embedding_dim": 8, "channels": ["I", "II"], "rate_hz": 100}
PROVENANCE = {
    "run": "ecg-toy", "recipe": "comet", "source": "manifest", "cohort": "ecg", "patients": 12, "samples": 99,
    "data_hash": "abc", "steps": 40, "seed": 7, "git_commit": "f00",
    "pretrain": {"anatomy": {"measures": ["age_years"]}},
}  # fmt: skip
VALUE = {"mean": 0.81234, "lo": 0.7, "hi": 0.9, "n_patients": 30, "seeds": 3}


def render(metrics: dict[str, Any] | None = None, contract: dict[str, Any] = CONTRACT) -> str:
    return card.render(contract, {"name": "dilated1d"}, PROVENANCE, metrics)


def test_without_results() -> None:
    text = render()
    assert text.startswith('---\nlicense: "unknown"\n')
    assert "\n---\n\n# ecg-toy\n" in text
    for words in ("`comet`", "- rate_hz: 100", "- channels: ['I', 'II']", "12 patients", "data hash: abc", "f00"):
        assert words in text
    assert "## Not for" in text
    assert "Results" not in text
    assert "rate_hz=RATE" in text
    assert "spacing_mm=SPACING" in render(contract={"modality": "ct", "embedding_dim": 8, "size": [4, 4]})


BEFORE = {"run": "chest", "source": "luna16", "cohort": "ct-b", "patients": 400, "samples": 760}


def test_an_encoder_that_started_from_another_says_what_that_one_read() -> None:
    text = card.render(CONTRACT, {"name": "resnet2d"}, PROVENANCE | {"before": [BEFORE]})
    assert "- started from: run `chest`, luna16 (ct-b), 400 patients, 760 samples" in text.splitlines()
    assert 'datasets: ["luna16"]' in text.splitlines()  # its own recordings are no set of a hub
    assert "started from" not in render()


def test_a_recipe_that_read_measures_says_so() -> None:
    # As an encoder of now names them, and as one of before did.
    for of in ({"reads": ["age_years"]}, {"recipe": "anatomy"}):
        text = card.render(CONTRACT, {"name": "resnet3d"}, {**PROVENANCE, **of})
        assert "read age_years of the training patients" in text
        assert "without labels" not in text
    assert "without labels" in render()


def test_the_largest_fraction_there_is() -> None:
    text = render({"sex": {"probe": {"0.1": {"auroc": VALUE}, "0.01": {"auroc": {**VALUE, "mean": 0.1}}}}})
    assert "| sex | probe at 10 % | auroc | 0.812 [0.700, 0.900] | 30 | 3 | 1 | 1 |" in text
    assert "0.100" not in text


def test_too_few_and_left_out() -> None:
    few = {**VALUE, "lo": None, "hi": None, "n_patients": 4, "too_few": "n=4"}
    text = render({"age": {"probe": {"1": {"mae": few, "r2": few}}}, "sex": {"left_out": "1 class among them"}})
    assert "| age | probe | r2 | 0.812 too few (n=4) | 4 | 3 | 1 | 1 |" in text
    assert "- sex: left out: 1 class among them" in text


def test_a_split_by_picture_is_said_loudly() -> None:
    text = card.render(CONTRACT, {"name": "resnet2d"}, {**PROVENANCE, "crossing_patients": 6}, {})
    assert "**WARNING: 6 patients are in more than one part" in text
    text = card.render(CONTRACT, {"name": "x"}, {**PROVENANCE, "crossing_patients": 6}, {"a": {"left_out": "b"}})
    assert "## Results by picture" in text
    assert "## Results on held-out" not in text
    assert "WARNING" not in render()


def test_results_at_all_labels() -> None:
    metrics = {
        "disease": {"probe": {"1": {"auroc": VALUE, "balanced_accuracy": VALUE}, "0.1": {"auroc": VALUE}}},
        "age": {"probe": {"1": {"mae": VALUE, "r2": VALUE}}},
    }
    text = render(metrics)
    assert "| disease | probe | auroc | 0.812 [0.700, 0.900] | 30 | 3 | 1 | 1 |" in text
    assert "| age | probe | r2 | 0.812 [0.700, 0.900] | 30 | 3 | 1 | 1 |" in text
    assert text.partition("\n# ecg-toy")[2].count("0.812") == 2  # the head has them too


def test_cross_fitting_what_was_seen_and_checks() -> None:
    many = {**VALUE, "trainings": 3, "folds": 5, "covers": "patients and training"}
    metrics = {"age": {"seen": ["age_years"], "knn": {"1": {"r2": many}}, "probe": {"1": {"r2": many}}}}
    trust = [{"check": "leak", "verdict": "failed", "detail": "a|b"}]
    text = card.render(CONTRACT, {"name": "x"}, PROVENANCE, metrics, split="cross-fitted", trust=trust)
    assert "cross-fitting: every patient is tested once per repeat. Intervals cover patients and training." in text
    assert "| age (seen) | probe | r2 | 0.812 [0.700, 0.900] | 30 | 3 | 3 | 5 |" in text
    assert text.index("| probe |") < text.index("| knn |")
    assert "Seen: pretraining read age_years, which age is or follows from." in text
    assert "| leak | failed | a/b |" in text  # a pipe would end the cell
    before = render({"sex": {"probe": {"1": {"auroc": VALUE}}}})
    assert "held out by a fixed split. Intervals cover patients." in before
    assert "Checks" not in before and "seen" not in before.lower()


RELEASE = {
    "run": "ecg-toy",
    "licence": "CC-BY-4.0",
    "cite": "Toy 2020",
    "kept_step": 40,
    "megabytes": 1.24,
}


def test_a_released_encoder_has_the_results_of_another() -> None:
    of = {**PROVENANCE, "run": "ecg-small", "release": RELEASE}
    metrics = {"sex": {"probe": {"1": {"auroc": VALUE}}}}
    trust = [{"check": "leak", "verdict": "ok", "detail": "none"}]
    text = card.render(CONTRACT, {"name": "x"}, of, metrics, split="cross-fitted", trust=trust)
    assert "\n---\n\n# ecg-small\n" in text
    assert 'load_encoder("ecg-small")' in text
    for line in ("- licence of the recordings: CC-BY-4.0", "- cite: Toy 2020", "- size of the weights: 1.2 MB"):
        assert f"\n{line}\n" in text
    said = text.index("so it has no held-out results of its own. It was made like the encoders of run `ecg-toy`")
    assert said < text.index("## Results of run `ecg-toy` on held-out patients") < text.index("[0.700, 0.900]")
    assert "## Checks of run `ecg-toy`" in text
    assert "chosen by validation" not in text
    early = card.render(CONTRACT, {"name": "x"}, {**of, "release": RELEASE | {"kept_step": 30, "cite": ""}})
    assert "kept at step 30, chosen by validation; this one is of the last step, 40." in early
    assert "no label was there to test them on" in early
    assert "cite" not in early


def test_a_released_encoder_of_a_split_by_picture() -> None:
    of = {**PROVENANCE, "release": RELEASE, "crossing_patients": 6}
    text = card.render(CONTRACT, {"name": "x"}, of, {"a": {"left_out": "b"}})
    assert "## Results of run `ecg-toy` by picture, not on held-out patients" in text


def test_the_data_and_its_people() -> None:
    assert "- training patients by sex and age: not known\n" in render()
    receipts = {"samples": 120, "trials": 40, "patients": {"train": 12, "val": 2, "test": 3}}
    receipts |= {"kept": 99, "removed": {"dhash": 20, "exact": 1}}
    data = {"receipts": receipts, "people": {"sex": {"female": 7, "male": 5}, "age": {"<40": None, "60+": None}}}
    text = card.render(CONTRACT, {"name": "x"}, {**PROVENANCE, "data": data})
    assert "- cohort: 120 samples of 40 trials; patients: train 12, val 2, test 3\n" in text
    assert "- dedup: 99 samples kept, removed: 20 by dhash, 1 by exact\n" in text
    assert "- training patients by sex: female 7, male 5\n" in text
    assert "- training patients by age: <40 not shown, 60+ not shown (counts under 5, and those that tell" in text


def test_recipe_and_how_to_rebuild() -> None:
    def digest(**of: Any) -> str:
        text = card.render(CONTRACT, {"name": "x"}, PROVENANCE | of)
        return text.partition("- hash of the parameters: ")[2][:16]

    text = render()
    assert "`comet`, 40 steps, seed 7:\n\n- anatomy: {'measures': ['age_years']}\n" in text
    assert "git checkout f00\ndvc repro pretrain@ecg-toy\n" in text
    assert len(digest()) == 16
    assert digest() == digest(steps=41) != digest(seed=8)
    changed = card.render(CONTRACT, {"name": "x"}, PROVENANCE | {"git_commit": "f00-dirty", "release": RELEASE})
    assert "git checkout f00\ndvc repro release@ecg-toy\n" in changed
    assert "- code: f00-dirty (tracked files were changed)" in changed
    assert "git checkout" not in card.render(CONTRACT, {"name": "x"}, PROVENANCE | {"git_commit": "unknown"})


def test_subgroups_without_small_ones() -> None:
    row = {"task": "sick", "protocol": "probe", "fraction": 1.0, "group": "sex", "metric": "auroc", "mean": 0.8123}
    row |= {"lo": 0.7, "hi": 0.9, "n_patients": 30, "too_few": ""}
    few = row | {"lo": None, "hi": None, "n_patients": 3, "too_few": "n=3"}
    rows = [row | {"value": "female"}, row | {"value": "male", "n_patients": 20}, row | {"value": "x", "fraction": 0.1}]
    rows += [row | {"value": "female", "protocol": "knn", "mean": 0.5}]
    rows += [few | {"group": "age", "value": "<40"}, *(row | {"group": "age", "value": v} for v in ("40-60", "60+"))]
    metrics = {"sick": {"probe": {"1": {"auroc": VALUE}}}}
    text = card.render(CONTRACT, {"name": "x"}, PROVENANCE, metrics, subgroups=pd.DataFrame(rows))
    assert "| sick | sex | female | auroc | 0.812 [0.700, 0.900] | 30 |" in text
    assert "| sick | sex | male | auroc | 0.812 [0.700, 0.900] | 20 |" in text
    assert "| sick | age | <40 | auroc | too few | not shown |" in text
    assert "| sick | age | 40-60 | auroc | 0.812 [0.700, 0.900] | not shown |" in text  # 80 less the others tells it
    assert "| sick | age | 60+ | auroc | 0.812 [0.700, 0.900] | 30 |" in text
    assert "n=3" not in text and "0.500" not in text and "| x |" not in text
    assert "## Subgroups" not in card.render(CONTRACT, {"name": "x"}, PROVENANCE, metrics, subgroups=pd.DataFrame())


def test_whether_patients_are_told_apart() -> None:
    assert "Not measured: whether the embedding tells patients apart is not known." in render()
    found = {"lo": 0.57, "hi": 1.0, "rate": 0.78, "other": "trial", "chance": 0.01, "n_patients": 11}
    trust = [anonymous(found)._asdict()]
    text = card.render(CONTRACT, {"name": "x"}, PROVENANCE, trust=trust)
    assert (
        "## Identifiability\n\nVerdict: warning; the nearest sample of another trial is the same patient's in 0.78"
        in text
    )


def test_a_card_of_before_gets_a_head() -> None:
    config = {"contract": CONTRACT, "architecture": {"name": "x"}, "provenance": PROVENANCE | {"release": RELEASE}}
    text = card.with_head("# toy\n", config)
    assert text.startswith('---\nlicense: "cc-by-4.0"\n') and text.endswith("\n---\n\n# toy\n")
    assert card.with_head(text, config) == text
    assert card.with_head("# module\n", {"contract": CONTRACT, "provenance": {}}) == "# module\n"


def test_a_table_of_encoders(tmp_path: Path) -> None:
    image = {"modality": "ct", "embedding_dim": 4, "samples": "slices", "size": [96, 64], "spacing_mm": None}
    one = CONTRACT | {"window_s": 2.5}
    longer = [BEFORE, {**BEFORE, "source": "manifest", "patients": 99}]
    provenance = {"a-small": PROVENANCE | {"release": RELEASE}, "b-small": PROVENANCE | {"before": longer}}
    for (name, of), contract in zip(provenance.items(), (one, image), strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"contract": contract, "provenance": of}))
        (tmp_path / name / "model.safetensors").write_bytes(bytes(1_260_000))
    head, _, first, second = card.catalogue({name: tmp_path / name for name in provenance}).splitlines()
    assert head.startswith("| name | modality | input |")
    assert (
        first
        == "| `a-small` | ECG | 2 channels, 100 Hz, 2.5 s | manifest, 12 patients | `comet` | 8 | 1.3 | CC-BY-4.0 |"
    )
    trained_on = "manifest, 12 patients; luna16, 400 patients"
    assert second == f"| `b-small` | CT | slices, 96 x 64 | {trained_on} | `comet` | 4 | 1.3 | not said |"
    lone = card._input(one | {"channels": ["PPG"]})
    assert lone == "channel PPG, 100 Hz, 2.5 s"
    assert card._input(image | {"spacing_mm": [1.5, 2]}) == "slices, 96 x 64 of 1.5 x 2 mm"
