"""The head of a card is what a model hub reads, by the hub's own parser."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard

import medssl
from medssl import hub
from medssl.report import card, metadata
from tests.report.test_card import CONTRACT, PROVENANCE, RELEASE, VALUE

PUBLIC = PROVENANCE | {"source": "ptbxl"}
RESULTS = {
    "sex": {"probe": {"0.1": {"auroc": VALUE | {"mean": 0.1}}, "1": {"auroc": VALUE}},
            "minirocket": {"1": {"auroc": VALUE}}},
    "age": {"seen": ["age_years"], "knn": {"1": {"r2": VALUE | {"lo": None, "hi": None, "too_few": "n=4"}}}},
    "none": {"left_out": "one class"},
    "empty": {"probe": {"1": {"auroc": VALUE | {"mean": None, "lo": None, "hi": None}}}},
}  # fmt: skip


def parsed(provenance: dict[str, Any], metrics: dict[str, Any] | None = None) -> ModelCard:
    text = card.render(CONTRACT, {"name": "dilated1d"}, provenance, metrics, split="cross-fitted")
    return ModelCard(text, ignore_metadata_errors=False)


def test_what_it_is_for_the_search() -> None:
    data = parsed(PUBLIC).data
    assert (data.library_name, data.pipeline_tag, data.datasets) == ("medssl", "feature-extraction", ["ptbxl"])
    assert data.tags == ["medssl", "medical", "self-supervised", "ecg", "comet", "dilated1d"]
    assert data.eval_results is None
    assert parsed(PROVENANCE).data.datasets is None  # own recordings are no set of the hub
    assert parsed(PUBLIC).text.startswith("\n# ecg-toy")


def test_results_with_intervals() -> None:
    data = parsed(PUBLIC, RESULTS).data
    assert data.model_name == "ecg-toy"
    sex, age = data.eval_results  # baselines are no results of the encoder, and what is not known is none
    assert (sex.task_type, sex.task_name) == ("feature-extraction", "sex, linear model on the frozen encoder")
    assert (sex.dataset_type, sex.dataset_split) == ("ptbxl", "on held-out patients, cross-fitted")
    assert (sex.metric_type, sex.metric_name, sex.metric_value) == ("roc_auc", "AUROC", 0.8123)
    about = {"protocol": "probe", "share_of_labels": 1.0, "patients": 30}
    assert sex.metric_args == about | {"interval": [0.7, 0.9], "level": 0.95}
    assert (age.metric_type, age.metric_args["seen_in_pretraining"]) == ("r_squared", ["age_years"])
    assert "interval" not in age.metric_args
    released = parsed(PUBLIC | {"run": "ecg-small", "release": RELEASE}, RESULTS).data
    assert released.model_name == "ecg-toy"  # whose results they are
    by_picture = parsed(PUBLIC | {"crossing_patients": 2}, RESULTS).data
    assert "not on held-out patients" in by_picture.eval_results[0].dataset_split


@pytest.mark.parametrize(
    ("stated", "source", "expected"),
    [
        (None, "manifest", {"license": "unknown"}),
        ("CC-BY-4.0", "ptbxl", {"license": "cc-by-4.0"}),
        ("ODC-By-1.0", "eegmat", {"license": "odc-by"}),
        ("CC-BY-NC-SA-4.0", "x", {"license": "cc-by-nc-sa-4.0"}),
        ("Ours, v2 (draft)", "x", {"license": "other", "license_name": "ours-v2-draft", "license_link": "LICENSE"}),
        (
            "Terms (https://toy.org/terms)",
            "x",
            {"license": "other", "license_name": "terms-https-toy.org-terms", "license_link": "https://toy.org/terms"},
        ),
        (
            "CC0-1.0 (or so)",
            "ppg_bp",
            {"license": "other", "license_name": "cc0-1.0-or-so", "license_link": metadata.PAGES["ppg_bp"]},
        ),
    ],
)
def test_licences(stated: str | None, source: str, expected: dict[str, str]) -> None:
    assert metadata.licence(stated, source) == expected


def test_ready_encoders_have_a_head_when_they_are_shown() -> None:
    ready = hub.ready()
    assert "ecg-small" in ready
    for name in ready:
        encoder = medssl.load_encoder(name)
        shown = ModelCard(card.with_head(encoder.card, encoder.config), ignore_metadata_errors=False)
        assert shown.data.license not in (None, "unknown")
        of = encoder.config["provenance"]
        assert shown.data.datasets == [of["source"], *(training["source"] for training in of.get("before", []))]
        assert f"# {name}\n" in shown.text
