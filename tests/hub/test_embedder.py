"""The scikit-learn interface is one: scikit-learn's own checks pass, tables of one channel are recordings in rows."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import medssl
from medssl import hub

# A window is one time step, so that the tables of the checks, of 1 to 20 columns, are recordings.
CODE = """
import torch

class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[1.0, -0.5, 2.0]]))

    def forward(self, x):
        return torch.tanh(x[:, 0] @ self.weight)

def encoder():
    about = {"modality": "ppg", "channels": ["pulse"], "rate_hz": 1, "window_s": 1, "unit": "1", "normalise": "none"}
    return Tiny(), {**about, "max_flat": 1.0}
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[medssl.Embedder]:
    (tmp_path / "tiny_code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield medssl.Embedder("tiny_code:encoder", rate_hz=1, channels=["pulse"])
    sys.modules.pop("tiny_code", None)


@pytest.mark.slow
def test_the_checks_of_scikit_learn(tiny: medssl.Embedder) -> None:
    # None is expected to fail. One is skipped: arrays of other libraries, which embed takes, need a setting of SciPy's.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # recordings without a value, which the checks make, are told of
        results = check_estimator(tiny, on_skip=None)
    states = {result["check_name"]: result["status"] for result in results}
    assert {name for name, state in states.items() if state != "passed"} <= {"check_array_api_input"}
    assert {"check_transformer_general", "check_methods_subset_invariance", "check_fit2d_1sample"} <= set(states)


def test_a_table_of_one_channel_has_a_recording_in_each_row(tiny: medssl.Embedder) -> None:
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    encoder = hub.load_encoder("tiny_code:encoder")
    expected = encoder.embed(x[:, None], rate_hz=1, channels=["pulse"])
    frame = pd.DataFrame(x, columns=[f"t{i}" for i in range(5)])
    for given in (x, x.tolist(), frame, x[:, None], list(x[:, None])):
        np.testing.assert_allclose(clone(tiny).fit(given).transform(given), expected, atol=1e-6)
    fitted = tiny.fit(frame)
    assert fitted.n_features_in_ == 5 and list(fitted.feature_names_in_) == list(frame)
    named = fitted.set_output(transform="pandas").transform(frame)
    assert list(named) == list(fitted.get_feature_names_out()) == ["embedder0", "embedder1", "embedder2"]
    fitted = tiny.set_output(transform="default").fit(x)
    with pytest.raises(ValueError, match="X has 4 features, but Embedder is expecting 5 features"):
        fitted.transform(x[:, :4])
    longer = fitted.transform([row[None] for row in np.hstack([x, x])])  # recordings, which may be of any length
    np.testing.assert_allclose(longer, expected, atol=1e-6)


def test_a_pipeline_and_a_part_of_the_columns(tiny: medssl.Embedder) -> None:
    draw = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = draw.standard_normal((40, 8)) + 2 * y[:, None]
    model = make_pipeline(tiny, LogisticRegression()).fit(x[:30], y[:30])
    assert model.score(x[30:], y[30:]) == 1
    assert model[:-1].get_feature_names_out().tolist() == ["embedder0", "embedder1", "embedder2"]


def test_what_is_wrong_with_the_encoder_is_told_at_fit(tmp_path: Path) -> None:
    with pytest.raises(hub.EncoderError, match="not an encoder folder"):
        medssl.Embedder(str(tmp_path / "nowhere")).fit([[1.0]])
