"""Encoder folders: what is saved is what is loaded, changes are refused, inputs meet the contract or a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medssl
from medssl import hub, models
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import signals
from medssl.sources.record import Signal

FILES = ("config.json", "model.safetensors", "card.md", "checksums.json")


def save(folder: Path, name: str, params: SignalIngest | VolumeIngest, widths: list[int], channels: int) -> Path:
    architecture = {"name": name, "in_channels": channels, "widths": widths, "depth": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = models.build(**architecture)  # type: ignore[arg-type]
    modality = "ecg" if isinstance(params, SignalIngest) else "ct"
    facts = {"modality": modality, "unit": params.unit, "params": params.model_dump(mode="json")}
    contract = hub.contract_of(facts, widths[-1])
    return hub.save_encoder(
        folder, module, architecture=architecture, contract=contract, provenance={"run": "toy"}, card="# toy\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    params = SignalIngest(rate_hz=100, channels=("A", "B"), unit="mV", window_s=1)
    return save(tmp_path / "encoder", "dilated1d", params, [4, 8], 2)


def wave(n: int, steps: int, rate: float) -> np.ndarray:
    t = np.arange(steps) / rate
    hz = np.random.default_rng(0).uniform(2, 8, (n, 2, 1))
    return np.sin(2 * np.pi * hz * t + hz).astype(np.float32)


@pytest.mark.parametrize("value", ["absent", None, 0, -0.2, float("nan"), float("inf"), "0.2"])
def test_a_cohort_without_its_number_is_refused(folder: Path, value: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["contract"] |= {"normalisation": "cohort", **({} if value == "absent" else {"scale": value})}
    (folder / "config.json").write_text(json.dumps(config))
    hub.folder.write_checksums(folder)
    sentence = r"config\.json: contract\.scale is .*; normalise: cohort needs a positive finite number"
    with pytest.raises(hub.EncoderError, match=sentence):
        medssl.load_encoder(folder)


def test_round_trip(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    encoder = medssl.load_encoder(folder)
    again = medssl.load_encoder(str(folder))
    x = wave(3, 100, 100)
    z = encoder.embed(x, rate_hz=100, channels=["A", "B"])
    assert z.shape == (3, 8)
    assert z.dtype == np.float32
    assert np.array_equal(again.embed(x, rate_hz=100, channels=["A", "B"]), z)
    scaled = signals.scale(x, "sample")
    with torch.inference_mode():
        assert np.allclose(encoder.module(torch.from_numpy(scaled)).numpy(), z, atol=1e-6)
    assert not encoder.module.training
    assert encoder.card == "# toy\n"
    assert encoder.contract["normalisation"] == "sample"
    assert {"modality", "channels", "rate_hz", "window_s", "unit", "embedding_dim"} <= set(encoder.contract)


def test_saving_again_replaces(folder: Path) -> None:
    (folder / "old.txt").touch()
    params = SignalIngest(rate_hz=50, channels=("A",), unit="mV", window_s=1)
    save(folder, "dilated1d", params, [4, 4], 1)
    assert medssl.load_encoder(folder).contract["rate_hz"] == 50
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    assert [p.name for p in folder.parent.iterdir()] == ["encoder"]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    for position in (len(data) // 2, len(data) - 3, 0):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(hub.EncoderError):
            medssl.load_encoder(folder)
    path.write_bytes(data[:-1])
    if name != "checksums.json":  # there it is the final line break
        with pytest.raises(hub.EncoderError, match="differs from its checksum"):
            medssl.load_encoder(folder)
    path.write_bytes(data)
    medssl.load_encoder(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(hub.EncoderError, match=f"{name} missing"):
        medssl.load_encoder(folder)


def resign(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    hub.folder.write_checksums(folder)


def test_other_format_and_other_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    resign(folder, format=2)
    with pytest.raises(hub.EncoderError, match="format 2; this version reads 1"):
        medssl.load_encoder(folder)
    resign(folder, format=1, architecture=config["architecture"] | {"gates": 3})
    with pytest.raises(hub.EncoderError, match=r"config.json: architecture .*'gates'.* newer one: pip install"):
        medssl.load_encoder(folder)
    resign(folder, architecture=config["architecture"] | {"name": "transformer9d"})
    with pytest.raises(hub.EncoderError, match=r"architecture .*transformer9d"):
        medssl.load_encoder(folder)
    resign(folder, format=1, architecture=config["architecture"] | {"depth": 3})
    with pytest.raises(hub.EncoderError, match="weights do not fit"):
        medssl.load_encoder(folder)


def test_nothing_is_pickled(folder: Path) -> None:
    for path in folder.iterdir():
        data = path.read_bytes()
        assert not data.startswith((b"\x80", b"PK"))
        assert b"torch._utils" not in data


def test_channels_units_and_rates_are_brought_to_the_contract(folder: Path) -> None:
    encoder = medssl.load_encoder(folder)
    x = wave(2, 100, 100)
    z = encoder.embed(x, rate_hz=100, channels=["A", "B"])
    extra = np.concatenate([x[:, 1:], np.ones((2, 1, 100), np.float32), x[:, :1]], axis=1)
    assert np.array_equal(encoder.embed(extra, rate_hz=100, channels=["b", "X", "a"]), z)
    assert np.allclose(encoder.embed(x * 1000, rate_hz=100, channels=["A", "B"], unit="uV"), z, atol=1e-4)
    fast = encoder.embed(wave(2, 500, 500), rate_hz=500, channels=["A", "B"])
    assert np.linalg.norm(fast - z) < 0.1 * np.linalg.norm(z)
    assert not np.allclose(encoder.embed(wave(2, 500, 500), rate_hz=100, channels=["A", "B"]), z, atol=0.1)


def test_windows_of_a_recording_are_averaged(folder: Path) -> None:
    encoder = medssl.load_encoder(folder)
    x = np.random.default_rng(0).standard_normal((2, 350)).astype(np.float32)
    z = encoder.embed(x, rate_hz=100, channels=["A", "B"], batch_size=2)
    parts = [encoder.embed(x[:, i : i + 100], rate_hz=100, channels=["A", "B"])[0] for i in (0, 100, 200)]
    assert z.shape == (1, 8)
    assert np.allclose(z[0], np.mean(parts, 0), atol=1e-6)
    windows, _, _ = signals.prepare(
        Signal(x, 100, ("A", "B"), "mV"), rate_hz=100, channels=("A", "B"), unit="mV", window_s=1
    )
    assert len(windows) == 3


@pytest.mark.parametrize(
    ("x", "options", "sentence"),
    [
        (wave(1, 100, 100), {"rate_hz": 100}, r"rate_hz and channels of the input are needed \(contract: 100 Hz"),
        (wave(1, 100, 100), {"channels": ["A", "B"]}, "rate_hz and channels of the input are needed"),
        (wave(1, 100, 100), {"rate_hz": 100, "channels": ["A", "C"]}, r"channels \['B'\] are absent"),
        (wave(1, 100, 100), {"rate_hz": 100, "channels": ["A"]}, "2 rows but 1 channel names"),
        (
            wave(1, 50, 100),
            {"rate_hz": 100, "channels": ["A", "B"]},
            "50 samples at 100 Hz are 0.5 s; one window needs 1 s",
        ),
        (wave(1, 100, 100), {"rate_hz": 0, "channels": ["A", "B"]}, "positive number"),
        (wave(1, 100, 100), {"rate_hz": 100, "channels": ["A", "B"], "unit": "HU"}, "cannot express 'HU' in 'mV'"),
        (np.full((2, 100), np.nan), {"rate_hz": 100, "channels": ["A", "B"]}, "100% of a channel is missing"),
        (np.zeros(5), {"rate_hz": 100, "channels": ["A", "B"]}, r"expected \(C, T\) or \(N, C, T\)"),
        (np.zeros((0, 2, 100)), {"rate_hz": 100, "channels": ["A", "B"]}, "holds nothing to embed"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    folder: Path, x: np.ndarray, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(hub.EncoderError, match=sentence) as caught:
        medssl.load_encoder(folder).embed(x, **options)
    assert str(caught.value).startswith("embed: ")


def test_volumes_and_slices(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-900, 900, (2, 16, 20, 16))
    cube = VolumeIngest(size=(16, 16, 16), spacing_mm=(2, 2, 2), hu_window=(-1000, 1000), unit="HU")
    encoder = medssl.load_encoder(save(tmp_path / "v", "resnet3d", cube, [2, 2, 4, 4], 1))
    z = encoder.embed(x, spacing_mm=(2, 2, 2))
    assert z.shape == (2, 4)
    assert np.allclose(encoder.embed(x[1], spacing_mm=(2, 2, 2))[0], z[1], atol=1e-6)
    for options, sentence in (
        ({}, "spacing_mm of the input is needed"),
        ({"spacing_mm": (2, 2)}, "expected 3 numbers above 0"),
        ({"spacing_mm": (2, 2, 2), "unit": "1"}, "this cohort holds 'HU'"),
    ):
        with pytest.raises(hub.EncoderError, match=sentence):
            encoder.embed(x, **options)  # type: ignore[arg-type]
    plane = VolumeIngest(samples="slices", size=(16, 16), spacing_mm=(2, 2), hu_window=(-1000, 1000), unit="HU")
    encoder = medssl.load_encoder(save(tmp_path / "s", "resnet2d", plane, [2, 2, 4, 4], 1))
    assert encoder.embed(x[0], spacing_mm=(2, 2)).shape == (16, 4)
    with pytest.raises(hub.EncoderError, match=r"expected \(H, W\) or \(N, H, W\)"):
        encoder.embed(x, spacing_mm=(2, 2))


def test_scikit_learn_transformer(folder: Path) -> None:
    x = wave(3, 100, 100)
    made = medssl.Embedder(str(folder), rate_hz=100, channels=["A", "B"]).fit_transform(x)
    assert np.array_equal(made, medssl.load_encoder(folder).embed(x, rate_hz=100, channels=["A", "B"]))


def test_another_process_gives_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    x = wave(2, 100, 100)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy as np, medssl\n"
        "z = medssl.load_encoder(sys.argv[1]).embed(np.load(sys.argv[2]), rate_hz=100, channels=['A', 'B'])\n"
        "np.save(sys.argv[3], z)\n"
    )
    arguments = [str(folder), str(tmp_path / "x.npy"), str(tmp_path / "z.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=Path(hub.__file__).parents[2])
    here = medssl.load_encoder(folder).embed(x, rate_hz=100, channels=["A", "B"])
    assert np.abs(np.load(tmp_path / "z.npy") - here).max() < 1e-5


def test_prepared_samples_encode_to_what_embed_averages(folder: Path) -> None:
    encoder = medssl.load_encoder(folder)
    x = wave(2, 400, 100)[0]
    samples = encoder.pieces(Signal(x, 100, ("A", "B"), "mV")).samples
    assert len(samples) > 1
    z = encoder.embed(x, rate_hz=100, channels=["A", "B"])
    np.testing.assert_allclose(encoder.encode(samples).mean(0), z[0], atol=1e-6)


@pytest.mark.parametrize("name", ["model.pt", "weights.PKL", "pytorch_model.bin", "last.ckpt"])
def test_a_folder_with_a_pickle_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(hub.EncoderError, match=rf"{name}: may run code when it is read; .* get it from another source"):
        medssl.load_encoder(folder)


def test_checksums_of_other_files_are_refused(folder: Path) -> None:
    sums = json.loads((folder / "checksums.json").read_text())
    (folder / "checksums.json").write_text(json.dumps(sums | {"../../outside": "0"}))
    with pytest.raises(hub.EncoderError, match=r"checksums\.json: names '../../outside', which is no file of an enc"):
        medssl.load_encoder(folder)
    (folder / "checksums.json").write_text("[]")
    with pytest.raises(hub.EncoderError, match=r"checksums\.json: no mapping; expected config\.json, model\.safeten"):
        medssl.load_encoder(folder)


@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_a_tensor_cut_off_is_refused(folder: Path, kept: int) -> None:
    data = (folder / "model.safetensors").read_bytes()
    for content in (data[:kept], b"\x80\x04" + data, b"PK\x03\x04" + data):
        (folder / "model.safetensors").write_bytes(content)
        hub.folder.write_checksums(folder)
        with pytest.raises(hub.EncoderError, match=r"cut off, damaged or not safetensors \(pickles are never read\)"):
            medssl.load_encoder(folder)
