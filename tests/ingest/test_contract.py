"""Ingest and encoders see the same samples; what a caller may hand over is taken or refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medssl import hub, models, sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.hub import recordings
from medssl.ingest import contract
from medssl.ingest.build import build
from medssl.sources.record import BadRecord

CHANNELS = ("A", "B")
PARAMS = SignalIngest(
    rate_hz=50, channels=CHANNELS, unit="mV", window_s=1, max_missing=0.1, max_flat=0.4, max_clipped=0.3,
    max_reject_share=1.0,
)  # fmt: skip


def encoder_of(folder: Path, params: SignalIngest | VolumeIngest, *, modality: str = "ecg") -> hub.Encoder:
    signal = isinstance(params, SignalIngest)
    name = "dilated1d" if signal else "resnet2d" if len(params.size) == 2 else "resnet3d"
    architecture: dict[str, Any] = {
        "name": name,
        "in_channels": 2 if signal else 1,
        "widths": [4] * (2 if signal else 4),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = models.build(**architecture, depth=1)
    facts = {"modality": modality, "unit": params.unit, "params": params.model_dump(mode="json")}
    hub.save_encoder(
        folder,
        module,
        architecture={**architecture, "depth": 1},
        contract=hub.contract_of(facts, 4),
        provenance={},
        card="",
    )
    return hub.load_encoder(folder)


def heart(seed: int, seconds: int = 12) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.cumsum(draw.standard_normal((2, 100 * seconds)), axis=1).astype(np.float32) * 0.05


def test_embed_keeps_and_refuses_what_ingest_does(tmp_path: Path) -> None:
    values = {name: heart(i) for i, name in enumerate(("whole", "gap", "flat", "clipped", "dead", "lead", "short"))}
    values["gap"][1, 230:360] = np.nan
    values["flat"][0, 410:585] = 0.3
    values["clipped"][1] = np.clip(values["clipped"][1], -2, 2)
    values["clipped"][1, 300:340] = 2
    values["dead"][:] = 0
    values["lead"][1] = np.nan
    values["short"] = values["short"][:, :60]
    rows = []
    for name, recorded in values.items():
        np.save(tmp_path / f"{name}.npy", recorded)
        rows.append([f"{name}.npy", name, "t", 100, "mV", "A;B"])
    table = pd.DataFrame(rows, columns=["path", "patient", "trial", "rate_hz", "unit", "columns"])
    table.to_csv(tmp_path / "manifest.csv", index=False)
    encoder = encoder_of(tmp_path / "e", PARAMS)
    made = build(
        sources.list_records("manifest", tmp_path),
        tmp_path / "s",
        key="ecg",
        params=PARAMS,
        secret=b"k" * 16,
        progress=False,
    )
    found = recordings.embed(encoder, tmp_path / "manifest.csv", secret=b"k" * 16)
    good = found[found["reason"] == ""]
    z = np.stack(list(good["embedding"]))
    of_store = np.stack(list(recordings.embed(encoder, tmp_path / "s")["embedding"]))
    assert len(z) == len(made) > 30
    # One row a sample in both; the store is in the order of patients.
    order = good.assign(patient=[rows[r - 1][1] for r in good["row"]]).reset_index().sort_values(["patient", "sample"])
    np.testing.assert_allclose(z[order.index], of_store, atol=1e-6)
    reasons = found.loc[found["reason"] != "", "reason"].str.partition(":")[0]
    assert sorted(reasons) == sorted(made.rejects["reason"])
    assert {"missing", "flat", "clipped", "missing_values", "too_short"} <= set(reasons)
    # And in memory: what is left is averaged, with a warning that says why.
    rows_of_gap = np.stack(list(good.loc[good["row"] == 2, "embedding"]))
    with pytest.warns(UserWarning, match=r"2 of 12 samples left out: 2 missing \(70% of the window at 2 s"):
        mean = encoder.embed(values["gap"], rate_hz=100, channels=CHANNELS)
    np.testing.assert_allclose(mean[0], rows_of_gap.mean(0), atol=1e-6)
    with pytest.raises(hub.EncoderError, match="12 of 12 samples left out: 12 flat"):
        encoder.embed(values["dead"], rate_hz=100, channels=CHANNELS)


def test_one_bad_recording_of_several_names_itself_and_loses_nothing_else(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path / "e", PARAMS)
    x = np.stack([heart(0), heart(1) * np.nan, heart(2)])
    with pytest.warns(UserWarning, match=r"embed: recording 1: 100% of a channel is missing \(missing_values\)"):
        z = encoder.embed(x, rate_hz=100, channels=CHANNELS)
    assert np.isnan(z[1]).all() and z.dtype == np.float32
    for i in (0, 2):
        np.testing.assert_allclose(z[i], encoder.embed(x[i], rate_hz=100, channels=CHANNELS)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (lambda x: x[:, :11], "11 samples at 100 Hz"),
        (lambda x: x + 1j, "complex numbers"),
        (lambda x: x[0], r"signal of shape \(1200,\)"),
        (lambda x: None, "something else than numbers"),
        (lambda x: x.astype(object), r"something else than numbers; convert it with astype\(float\)"),
        (lambda x: x.T, "1200 rows but 2 channel names"),
        (lambda x: x[None], r"signal of shape \(1, 2, 1200\)"),
        (lambda x: "text", "something else than numbers"),
        (lambda x: [x[0].tolist(), [1.0]], "lists of different lengths"),
        (lambda x: torch.ones((2, 400), device="meta"), "cannot become an array"),
        (lambda x: x * np.inf, "100% of a channel is missing"),
    ],
)
def test_any_bad_part_of_a_list_is_named_and_the_others_are_right(tmp_path: Path, bad: Any, sentence: str) -> None:
    encoder, x = encoder_of(tmp_path / "e", PARAMS), heart(0)
    for place in (0, 1):
        given = [x, x]
        given[place] = bad(x)
        with pytest.warns(UserWarning, match=f"embed: recording {place}: .*{sentence}"):
            z = encoder.embed(given, rate_hz=100, channels=CHANNELS)
        assert np.isnan(z[place]).all()
        np.testing.assert_allclose(z[1 - place], encoder.embed(x, rate_hz=100, channels=CHANNELS)[0], atol=1e-6)


def test_recordings_of_any_length_and_kind_of_array(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path / "e", PARAMS)
    x = heart(0)

    def embed(given: Any) -> np.ndarray:
        return encoder.embed(given, rate_hz=100, channels=CHANNELS)

    z = embed(x)
    tensor = torch.from_numpy(x).requires_grad_()
    for same in (
        tensor,
        x.astype(np.float64),
        x.tolist(),
        np.ma.masked_array(x, mask=np.zeros_like(x, bool)),
        [x],
        x[None],
    ):
        np.testing.assert_allclose(embed(same), z, atol=1e-6)
    twice = embed([x, x])
    for several in (
        [[row for row in tensor], tensor.detach().tolist()],
        np.array([x, None, x], dtype=object)[[0, 2]],
        (tensor.to_sparse(), torch.from_numpy(x).double()),
    ):
        np.testing.assert_allclose(embed(several), twice, atol=1e-6)
    exact = torch.from_numpy(x).bfloat16()
    np.testing.assert_allclose(embed(exact), embed(exact.float().numpy()), atol=1e-6)
    named = encoder.embed(x, rate_hz=100, channels=(name for name in CHANNELS))
    np.testing.assert_array_equal(named, z)
    ragged = embed([x, x[:, :500], tensor])
    np.testing.assert_allclose(ragged, np.concatenate([z, embed(x[:, :500]), z]), atol=1e-6)
    # Masked is missing: a short gap is bridged, whatever lies under the mask.
    under, mask = x.copy(), np.zeros(x.shape, bool)
    mask[:, 120:125] = True
    under[mask] = 500
    gap = x.copy()
    gap[mask] = np.nan
    np.testing.assert_allclose(embed(np.ma.masked_array(under, mask=mask)), embed(gap), atol=1e-6)
    rows = list(np.ma.masked_array(under, mask=mask))
    for masked in ([rows, rows], (tuple(rows), rows)):
        np.testing.assert_allclose(embed(masked), np.concatenate([embed(gap)] * 2), atol=1e-6)
    assert np.abs(embed(gap) - z).max() < 0.2 * np.abs(z).max()


@pytest.mark.parametrize(
    ("x", "options", "sentence"),
    [
        (np.zeros((2, 400), complex), {}, "complex numbers; take their real part"),
        (np.full((2, 400), "1"), {}, "something else than numbers"),
        ([[[1.0, 2.0], [1.0]]], {}, "lists of different lengths; give a list of arrays of 2 axes each"),
        (heart(0), {"rate_hz": "500 Hz"}, "rate_hz is '500 Hz'; give a positive number in Hz"),
        (heart(0), {"rate_hz": float("nan")}, "give a positive number in Hz"),
        (heart(0), {"rate_hz": None}, "rate_hz and channels of the input are needed"),
        (heart(0), {"channels": "AB"}, "channels is not a list of names"),
        (heart(0), {"channels": [1, 2]}, "channels is not a list of names"),
        (heart(0).T, {}, "1200 rows but 2 channel names; rows are channels"),
        ([None, heart(0) + 1j], {}, "recording 0: .*something else than numbers.*; recording 1: .*complex"),
        (torch.ones((2, 400), device="meta"), {}, "cannot become an array of numbers"),
        (heart(0), {"rate_hz": True}, "rate_hz is True; give a positive number"),
        (heart(0), {"channels": set(CHANNELS)}, "channels is not a list of names, .* in order"),
        (heart(0), {"channels": 2}, "channels is not a list of names"),
        (heart(0), {"channels": ()}, "channels is not a list of names"),
        (heart(0), {"unit": 1}, "unit is 1; give a name, such as 'mV'"),
        (heart(0), {"batch_size": 0}, "batch_size is 0; give a whole number above 0"),
        (heart(0), {"batch_size": True}, "batch_size is True"),
        (heart(0), {"batch_size": 2.5}, "batch_size is 2.5"),
        (heart(0), {"unit": "kg"}, "cannot express 'kg' in 'mV'"),
        ([], {}, "shape"),
        (None, {}, "something else than numbers"),
    ],
)
def test_what_is_none_is_refused_in_one_sentence(
    tmp_path: Path, x: Any, options: dict[str, Any], sentence: str
) -> None:
    encoder = encoder_of(tmp_path / "e", PARAMS)
    with pytest.raises(hub.EncoderError, match=sentence) as caught:
        encoder.embed(x, **{"rate_hz": 100, "channels": CHANNELS, **options})
    assert "\n" not in str(caught.value)


def test_blank_slices_are_rows_of_nan_and_missing_voxels_background(tmp_path: Path) -> None:
    plane = VolumeIngest(
        samples="slices", size=(16, 16), spacing_mm=(2, 2), hu_window=(-1000, 1000), unit="HU", max_blank=0.9
    )
    encoder = encoder_of(tmp_path / "e", plane, modality="ct")
    x = np.random.default_rng(0).uniform(-900, 900, (3, 16, 16)).astype(np.float32)
    x[1] = -1000
    with pytest.warns(UserWarning, match=r"1 of 3 samples left out: 1 blank \(slice 1 is constant\)"):
        z = encoder.embed(x, spacing_mm=(2, 2))
    assert np.isnan(z[1]).all() and np.isfinite(z[[0, 2]]).all()
    holes = x[[0, 2]]
    holes[:, :2] = np.nan
    filled = np.where(np.isnan(holes), -1024, holes)
    expected = encoder.embed(filled, spacing_mm=(2, 2))
    for missing in (holes, np.ma.masked_invalid(holes), [np.ma.masked_invalid(hole) for hole in holes]):
        with pytest.warns(UserWarning, match=r"embed: 12\.5% of the voxels have no value and count as background"):
            np.testing.assert_array_equal(encoder.embed(missing, spacing_mm=(2, 2)), expected)
    for bad, sentence in (
        (np.zeros((0, 16, 16)), "holds no pixel"),
        (np.zeros((1, 2, 16, 16)), r"expected \(H, W\) or \(N, H, W\)"),
        ([x[0], None], "slice 1: .*something else than numbers"),
        ([x[0], x[2], x[0, :5]], r"slice 2 is of shape \(5, 16\), slice 0 of \(16, 16\); slices are of one volume"),
    ):
        with pytest.raises(hub.EncoderError, match=sentence):
            encoder.embed(bad, spacing_mm=(2, 2))
    for spacing in ("2 mm", (2, 2, 2), (0, 2), (2, np.nan), (True, 2)):
        with pytest.raises(hub.EncoderError, match="expected 2 numbers above 0"):
            encoder.embed(x, spacing_mm=spacing)  # type: ignore[arg-type]


def test_one_bad_volume_of_a_list_and_the_share_of_missing_voxels(tmp_path: Path) -> None:
    cube = VolumeIngest(size=(16, 16, 16), spacing_mm=(2, 2, 2), hu_window=(-1000, 1000), unit="HU")
    encoder = encoder_of(tmp_path / "e", cube, modality="ct")
    x = np.random.default_rng(0).uniform(-900, 900, (16, 16, 16)).astype(np.float32)
    half = x.copy()
    half[:8] = np.nan
    said = r"recording 1: 50\.0% of the voxels .*; recording 2: image of shape \(16, 16\).*; recording 3: .* no pixel"
    with pytest.warns(UserWarning, match=said):
        z = encoder.embed([x, half, x[0], x[:0]], spacing_mm=(2, 2, 2))
    assert np.isnan(z[2:]).all()
    np.testing.assert_allclose(z[0], encoder.embed(x, spacing_mm=(2, 2, 2))[0], atol=1e-6)
    filled = np.where(np.isnan(half), np.float32(-1024), half)
    np.testing.assert_allclose(z[1], encoder.embed(filled, spacing_mm=(2, 2, 2))[0], atol=1e-6)


def test_a_contract_is_the_section_that_cut_the_samples() -> None:
    for params in (
        PARAMS,
        SignalIngest(rate_hz=50, channels=("A",), unit="uV", window_s=2, cut="beats", notch_hz=50, max_line_noise=0.5),
        VolumeIngest(
            size=(8, 8, 8), samples="patches", overlap=0.5, normalise="zscore", crop="foreground", max_blank=0.3
        ),
    ):
        facts = {"modality": "ecg", "unit": params.unit, "params": params.model_dump(mode="json")}
        made = contract.contract_of(facts, 4)
        skipped = {"max_reject_share", "truncated"} | ({"overlap"} if isinstance(params, SignalIngest) else set())
        assert contract.params_of(made).model_dump(exclude=skipped) == params.model_dump(exclude=skipped)
        assert contract.differences(made, facts) == []
        looser = {**facts, "params": {**facts["params"], "max_missing": 0.9, "max_blank": None}}  # type: ignore[dict-item]
        assert contract.differences(made, looser) == []


def test_facts_that_meet_a_contract() -> None:
    given = {"modality": "eeg", "channels": ["Cz", "Pz"], "rate_hz": 128, "window_s": 2.5, "unit": "uV"}
    facts = contract.facts_of({**given, "normalisation": "channel", "embedding_dim": 9})
    assert (facts["modality"], facts["unit"], facts["shape"]) == ("eeg", "uV", [2, 320])
    assert facts["params"]["normalise"] == "channel" and facts["params"]["band_hz"] is None
    assert contract.facts_of({"modality": "mri", "size": [8, 9, 10]})["shape"] == [1, 8, 9, 10]
    for modality, params in (
        ("ppg", SignalIngest(rate_hz=50, channels=("A",), unit="1", window_s=2, cut="beats", max_flat=0.3)),
        ("eeg", SignalIngest(rate_hz=50, channels=("A",), unit="uV", window_s=2, normalise="record")),
        ("ct", VolumeIngest(size=(8, 8, 8), samples="patches", normalise="zscore", crop="foreground", max_blank=0.3)),
    ):
        facts = contract.facts_of({"modality": modality, **params.model_dump()})
        made = contract.contract_of(facts, 4)
        assert contract.contract_of(contract.facts_of(made), 4) == made
    for wrong, sentence in (
        ({**given, "modality": "ct"}, "Field required"),
        ({**given, "modality": None}, "the contract's modality is None; allowed: ecg, ppg, eeg, ct, mri"),
        ({**given, "leads": 2}, "Extra inputs are not permitted"),
    ):
        with pytest.raises(ValueError, match=sentence):
            contract.facts_of(wrong)


def test_a_cohort_has_a_number() -> None:
    given = {"modality": "ecg", "channels": ["A"], "rate_hz": 50, "window_s": 1, "unit": "mV", "normalise": "cohort"}
    facts = contract.facts_of({**given, "scale": 0.25})
    made = contract.contract_of(facts, 4, 0.25)
    assert made["scale"] == 0.25 and contract.scale_of(made) == 0.25
    assert contract.facts_of(made) == facts
    assert contract.differences({**made, "scale": 0.5}, facts) == []  # a store holds its unit, whoever divides it
    for value in (None, 0, -1, float("nan"), float("inf"), "0.2", True):
        with pytest.raises(ValueError, match=r"contract.scale is .*; normalise: cohort needs a positive finite number"):
            contract.facts_of({**given, "scale": value})
    with pytest.raises(ValueError, match=r"Extra inputs are not permitted"):
        contract.facts_of({**given, "normalise": "record", "scale": 0.25})
    assert "scale" not in contract.contract_of(contract.facts_of({**given, "normalise": "record"}), 4)


def test_a_contract_of_a_newer_version_is_one_sentence(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path / "e", PARAMS)
    newer = hub.Encoder(encoder.folder, {"contract": {**encoder.contract, "normalisation": "batch"}}, encoder.module)
    with pytest.raises(hub.EncoderError, match=r"cannot follow its contract: .*normalise = 'batch'"):
        newer.embed(heart(0), rate_hz=100, channels=CHANNELS)


def test_arrays_and_refusals_of_their_own() -> None:
    (bad,) = contract.signals_of(
        np.zeros(3), {"rate_hz": 1, "channels": ["A"], "unit": "mV"}, rate_hz=1, channels=["A"], unit=None
    )
    assert isinstance(bad, BadRecord) and bad.reason == "shape"
    assert np.isinf(contract.arrays(np.array([[1e300, 1.0]]), 2)[0][0, 0])  # counts as missing
