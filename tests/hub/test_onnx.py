"""An ONNX file gives torch's embeddings for any number of samples, tells its contract, and is not there otherwise."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medssl
from medssl import hub, models
from medssl.config import SignalIngest, VolumeIngest
from medssl.hub import onnx
from medssl.sources.record import Signal

pytest.importorskip("onnxruntime")

SIGNAL = SignalIngest(rate_hz=100, channels=("A", "B"), unit="mV", window_s=1.28)
SLICE = VolumeIngest(samples="slices", size=(16, 16), spacing_mm=(2, 2), hu_window=(-1000, 1000), unit="HU")
CUBE = VolumeIngest(size=(16, 16, 16), spacing_mm=(2, 2, 2), hu_window=(-1000, 1000), unit="HU")
CASES: dict[str, dict[str, Any]] = {
    "resnet1d": {"widths": [4, 4, 8, 8], "depth": 1, "pool": "stages"},
    "convnet1d": {"widths": [4, 4, 8, 8], "pool": "mean_std"},
    "dilated1d": {"widths": [4, 8], "depth": 2},
    "efficientnet1d": {"widths": [4] * 7},
    "vit1d": {"widths": [16], "depth": 1, "patch": 24},
    "resnet2d": {"widths": [4, 4, 8, 8], "depth": 1},
    "resnet3d": {"widths": [2, 2, 4, 4], "depth": 1},
    "vit3d": {"widths": [16], "depth": 1, "patch": 6},
}


def encoder_of(name: str, **options: Any) -> hub.Encoder:
    params: Any = (SIGNAL, SLICE, CUBE)[models.ENCODERS[name] - 1]
    module = models.build(name, in_channels=2 if params is SIGNAL else 1, seed=0, **options).eval()
    facts = {
        "modality": "ecg" if params is SIGNAL else "ct",
        "unit": params.unit,
        "params": params.model_dump(mode="json"),
    }
    return hub.Encoder(None, {"contract": hub.contract_of(facts, int(module.embedding_dim)), "card": "# x"}, module)  # type: ignore[arg-type]


def run(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["embeddings"], {"samples": x})[0])


def test_every_architecture_has_a_case() -> None:
    assert set(CASES) == set(models.ENCODERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_architecture(name: str, tmp_path: Path) -> None:
    encoder = encoder_of(name, **CASES[name])
    told = onnx.write(encoder, tmp_path / "new" / "encoder.onnx")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["encoder.onnx"]
    assert told["largest_difference"] <= 1e-4
    shape = told["input"]["shape"][1:]
    for n in (1, 2, 5):
        x = np.random.default_rng(n).standard_normal((n, *shape)).astype(np.float32)
        z = run(tmp_path / "new" / "encoder.onnx", x)
        assert z.shape == (n, told["output"]["shape"][1])
        np.testing.assert_allclose(z, encoder.encode(x), atol=1e-4)


def test_joined_encoders_on_a_recording(tmp_path: Path) -> None:
    encoder = encoder_of("dilated1d", **CASES["dilated1d"], joined=2)
    wave = np.cumsum(np.random.default_rng(0).standard_normal((2, 640)), axis=1).astype(np.float32)
    samples = encoder.pieces(Signal(wave, 100, ("A", "B"), "mV")).samples
    assert len(samples) == 5
    told = onnx.write(encoder, tmp_path / "x.onnx", samples=samples)
    z = run(tmp_path / "x.onnx", samples)
    np.testing.assert_allclose(z, encoder.encode(samples), atol=1e-4)
    embedded = encoder.embed(wave, rate_hz=100, channels=["A", "B"])
    np.testing.assert_allclose(z.mean(0, keepdims=True), embedded, atol=1e-4)
    assert told["bytes"] == (tmp_path / "x.onnx").stat().st_size


def test_the_file_tells_its_contract_and_nothing_of_this_machine(tmp_path: Path) -> None:
    import onnx as library

    encoder = encoder_of("dilated1d", **CASES["dilated1d"])
    told = onnx.write(encoder, tmp_path / "x.onnx")
    model = library.load(tmp_path / "x.onnx")
    library.checker.check_model(model, full_check=True)
    about = {p.key: p.value for p in model.metadata_props}
    assert json.loads(about["contract"]) == json.loads(json.dumps(encoder.contract))
    assert about["medssl"] == medssl.__version__
    assert model.opset_import[0].version == told["opset"]
    content = (tmp_path / "x.onnx").read_bytes()
    assert b"medssl/models" not in content and str(Path(torch.__file__).parent).encode() not in content
    (dimension, *rest) = model.graph.input[0].type.tensor_type.shape.dim
    assert dimension.dim_param and [d.dim_value for d in rest] == [2, 128]


class Other(torch.nn.Module):
    """Does for zeros, of which it is exported, something else than for the rest."""

    def __init__(self, by_values: bool) -> None:
        super().__init__()
        self.by_values = by_values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.by_values and x.abs().sum() > 0:
            return x.mean(2)
        return x.mean(2) + float(np.float32(len(x) > 2))


@pytest.mark.parametrize(
    ("by_values", "sentence"),
    [
        (True, r"^ONNX: torch cannot export Other: \S"),
        (False, "^ONNX: onnxruntime (differs from torch by 1|does not run)"),
    ],
)
def test_a_network_that_becomes_another_is_refused(tmp_path: Path, by_values: bool, sentence: str) -> None:
    contract = encoder_of("dilated1d", **CASES["dilated1d"]).contract | {"embedding_dim": 2}
    with pytest.raises(hub.EncoderError, match=sentence) as caught:
        onnx.write(hub.Encoder(None, {"contract": contract}, Other(by_values).eval()), tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_encoders_of_crops(tmp_path: Path) -> None:
    encoder = encoder_of("dilated1d", **CASES["dilated1d"], crop=50)
    onnx.write(encoder, tmp_path / "x.onnx")
    for n in (1, 2, 5):
        x = np.random.default_rng(n).standard_normal((n, 2, 128)).astype(np.float32)
        with torch.inference_mode():
            expected = encoder.module(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(run(tmp_path / "x.onnx", x), expected, atol=1e-5)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_optional_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(hub.EncoderError, match=r'^ONNX needs onnx, .* pip install "medssl\[onnx\]"$'):
        onnx.write(encoder_of("dilated1d", **CASES["dilated1d"]), tmp_path / "x.onnx")
