"""Encoders of other code: `module:function` is an encoder like any other, or one sentence says what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import medssl
from medssl import hub
from tests.test_hub import wave

CODE = """
import torch

class Ends(torch.nn.Module):
    contract = {"modality": "ecg", "channels": ["A", "B"], "rate_hz": 100, "window_s": 1, "unit": "mV"}

    def forward(self, x):
        from neighbour import ends
        assert not self.training
        return ends(x)

def encoder():
    return Ends()

def pair():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5)), {
        "modality": "ct", "samples": "slices", "size": [8, 8], "spacing_mm": [2, 2], "hu_window": [-1000, 1000],
        "unit": "HU",
    }

def with_contract(**changes):
    module = Ends()
    module.contract = {**Ends.contract, **changes}
    return module

def of(forward):
    module = Ends()
    module.forward = forward
    return module

nothing = lambda: None
no_contract = torch.nn.Identity
other_modality = lambda: with_contract(modality="xray")
unknown_key = lambda: with_contract(leads=12)
bad_value = lambda: with_contract(rate_hz=0)
squeezed = lambda: of(lambda x: x.mean(2).squeeze())
mixed = lambda: of(lambda x: x.mean((0, 2))[None])
sequence = lambda: of(lambda x: x)
several = lambda: of(lambda x: (x.mean(2), x))
value = 3

def failing():
    raise RuntimeError("no\\nweights here")

def lacking():
    import timm_that_nobody_has
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder with foreign.py, which is the current one, and its own neighbour."""
    (tmp_path / "foreign_code.py").write_text(CODE)
    (tmp_path / "neighbour.py").write_text("def ends(x):\n    return x[:, :, [0, -1]].flatten(1).double()\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield "foreign_code"
    assert sys.path == before
    for name in ("foreign_code", "neighbour"):
        sys.modules.pop(name, None)


def test_a_module_of_other_code_is_an_encoder(here: str) -> None:
    encoder = medssl.load_encoder(f"{here}:encoder")
    assert isinstance(encoder, hub.Encoder) and encoder.folder is None
    assert encoder.contract["embedding_dim"] == 4 and encoder.module.embedding_dim == 4
    assert encoder.contract["normalisation"] == "sample" and encoder.contract["max_flat"] == 0.9
    assert encoder.card.startswith("# foreign_code:encoder\n") and '"rate_hz": 100' in encoder.card
    x = wave(3, 100, 100)
    z = encoder.embed(x, rate_hz=100, channels=["A", "B"])
    assert z.shape == (3, 4) and z.dtype == np.float32
    centred = x - x.mean(2, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean((1, 2), keepdims=True))
    np.testing.assert_allclose(z, scaled[:, :, [0, -1]].reshape(3, 4), atol=1e-5)
    assert np.array_equal(encoder.embed(x[:, ::-1], rate_hz=100, channels=["B", "A"]), z)


def test_an_image_module_and_its_contract_as_a_pair(here: str) -> None:
    encoder = medssl.load_encoder(f"{here}:pair")
    assert encoder.contract["embedding_dim"] == 5 and encoder.contract["size"] == [8, 8]
    z = encoder.embed(np.random.default_rng(0).uniform(-900, 900, (3, 8, 8)), spacing_mm=(2, 2))
    assert z.shape == (3, 5)


def test_a_contract_of_an_encoder_folder_serves(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in ("encoder", "pair"):
        encoder = medssl.load_encoder(f"{here}:{function}")
        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
        contract = json.loads(json.dumps(encoder.contract))
        monkeypatch.setattr(sys.modules[here], "again", lambda m=module, c=contract: (m, c), raising=False)
        again = medssl.load_encoder(f"{here}:again")
        assert again.contract == {**encoder.contract, "embedding_dim": 3}


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("absent", "foreign_code:absent: module foreign_code has no function absent"),
        ("value", "module foreign_code has no function value"),
        ("nothing", "returned a NoneType with a contract of type NoneType; expected a torch module with a dict"),
        ("no_contract", "returned a Identity with a contract of type NoneType"),
        ("other_modality", "the contract's modality is 'xray'; allowed: ecg, ppg, eeg, ct, mri"),
        ("unknown_key", "foreign_code:unknown_key: contract: leads = 12: unknown key"),
        ("bad_value", "contract: rate_hz = 0: Input should be greater than 0"),
        ("squeezed", r"gives shape \(2,\) for samples \(1, 2, 100\); expected a tensor \(1, d\)"),
        ("mixed", r"gives shape \(1, 2\) for samples \(2, 2, 100\); expected a tensor \(2, d\)"),
        ("sequence", r"gives shape \(1, 2, 100\) for samples"),
        ("several", "gives a tuple for samples"),
        ("failing", "foreign_code:failing: raised RuntimeError: no weights here"),
        ("lacking", "raised ModuleNotFoundError: No module named 'timm_that_nobody_has'"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence(here: str, function: str, sentence: str) -> None:
    with pytest.raises(hub.EncoderError, match=sentence) as caught:
        medssl.load_encoder(f"{here}:{function}")
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there(here: str) -> None:
    with pytest.raises(hub.EncoderError, match=r"nobodys.code:f: no module nobodys.code in .* or among the installed"):
        medssl.load_encoder("nobodys.code:f")


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    for reference in ("a:b", "s3://bucket/encoder"):
        with pytest.raises(hub.EncoderError, match="not an encoder folder"):
            medssl.load_encoder(reference)
