"""Columns of a page: those of the allow-list, classes by frequency, unknown as unknown."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medssl.explore.columns import Column, allowed, visible

TABLE = pd.DataFrame(
    {
        "sample_id": ["a", "b", "c", "d"],
        "patient": np.array([255, 255, 3, 4], np.int64),
        "path": ["/home/jane_doe/1", "/home/jane_doe/2", "x", "y"],
        "trial": [1, 2, 3, 4],
        "channels": [["I"]] * 4,
        "source": ["toy"] * 4,
        "split": ["train", "test", "train", "train"],
        "kept": [True, False, True, True],
        "quality": [0.5, 0.25, 1, np.nan],
        "quality_flat": [0.0] * 4,
        "label_age": [30.0, np.nan, 50, 60],
        "label_rhythm": ["af", None, "sinus", "sinus"],
        "label_findings": [np.array(["mi", "af"]), ["af", "mi"], [], None],
        "label_nothing": [None] * 4,
        "anat_liver_ml": [1.0, 2, 3, 4],
        "anat_height": [1.0, 2, 3, 4],
    }
)


def columns() -> dict[str, Column]:
    return {c.name: c for c in visible(TABLE, {"liver_ml": "ml", "height": "mm"})}


def test_only_listed_columns_that_differ_go_in() -> None:
    assert list(columns()) == [
        *("label_age", "label_findings", "label_rhythm", "anat_height", "anat_liver_ml", "kept", "patient", "split"),
        "quality",
    ]
    assert not any(allowed(name) for name in ("path", "name", "sample_id", "trial", "content", "start_s", "xlabel_a"))


def test_classes_are_codes_by_frequency_and_numbers_stay() -> None:
    found = columns()
    assert found["label_rhythm"].classes == ["sinus", "af"]
    assert found["label_rhythm"].values.tolist() == [1, -1, 0, 0]
    assert found["label_rhythm"].values.dtype == np.int32
    assert found["label_findings"].classes == ["af + mi", "none"]
    assert found["label_findings"].values.tolist() == [0, 0, 1, -1]
    assert found["kept"].classes == ["yes", "no"]
    assert found["label_age"].classes is None
    np.testing.assert_array_equal(found["label_age"].values, np.array([30, np.nan, 50, 60], np.float32))


def test_patients_are_keyed_codes_as_text() -> None:
    patient = columns()["patient"]
    assert patient.classes == ["00000000000000ff", "0000000000000003", "0000000000000004"]
    assert patient.group == "cohort"


def test_titles_tell_a_unit_once() -> None:
    found = columns()
    assert found["anat_liver_ml"].title == "liver ml"
    assert found["anat_height"].title == "height (mm)"
    assert found["anat_height"].group == "anatomy"
