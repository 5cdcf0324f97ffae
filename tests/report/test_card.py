"""The model card says what an encoder takes, where it came from and how well it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    assert text.startswith("# ecg-toy\n")
    for words in ("`comet`", "- rate_hz: 100", "- channels: ['I', 'II']", "12 patients", "data hash: abc", "f00"):
        assert words in text
    assert "## Not for" in text
    assert "Results" not in text
    assert "rate_hz=RATE" in text
    assert "spacing_mm=SPACING" in render(contract={"modality": "ct", "embedding_dim": 8, "size": [4, 4]})


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
    assert text.count("0.812") == 2


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
    assert text.startswith("# ecg-small\n")
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


def test_a_table_of_encoders(tmp_path: Path) -> None:
    image = {"modality": "ct", "embedding_dim": 4, "samples": "slices", "size": [96, 64], "spacing_mm": None}
    one = CONTRACT | {"window_s": 2.5}
    provenance = {"a-small": PROVENANCE | {"release": RELEASE}, "b-small": PROVENANCE}
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
    assert second == "| `b-small` | CT | slices, 96 x 64 | manifest, 12 patients | `comet` | 4 | 1.3 | not said |"
    lone = card._input(one | {"channels": ["PPG"]})
    assert lone == "channel PPG, 100 Hz, 2.5 s"
    assert card._input(image | {"spacing_mm": [1.5, 2]}) == "slices, 96 x 64 of 1.5 x 2 mm"
