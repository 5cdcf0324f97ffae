"""Encoders that come with the package are found by name; those that are there are small, whole and licensed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import medssl
from medssl import cli, hub, models, workspace
from medssl.config import SignalIngest
from pipeline import ready

ROOT = Path(__file__).parents[2]


def save(folder: Path, seed: int) -> Path:
    params = SignalIngest(rate_hz=100, channels=("A", "B"), unit="mV", window_s=1)
    architecture = {"name": "dilated1d", "in_channels": 2, "widths": [4, 8], "depth": 2}
    facts = {"modality": "ecg", "unit": "mV", "params": params.model_dump(mode="json")}
    provenance = {"run": folder.name, "source": "toy", "patients": 3, "recipe": "comet"}
    return hub.save_encoder(
        folder,
        models.build(**architecture, seed=seed),  # type: ignore[arg-type]
        architecture=architecture,
        contract=hub.contract_of(facts, 8),
        provenance=provenance,
        card=f"# {folder.name}\n",
    )


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that holds encoders of the package, from which the test does not start."""
    made = tmp_path / "made"
    folders = [save(made / name, seed) for seed, name in enumerate(("toy-small", "toy-large"))]
    to = tmp_path / "package"
    (to / "toy-small").mkdir(parents=True)
    (to / "toy-small" / "old.txt").touch()
    ready.take(folders, to)
    monkeypatch.setattr(hub.folder, "READY", to)
    monkeypatch.chdir(made.parent)
    return to


def test_a_name_finds_what_the_package_has(shipped: Path) -> None:
    assert list(hub.ready()) == ["toy-large", "toy-small"]
    encoder = medssl.load_encoder("toy-small")
    assert encoder.folder == shipped / "toy-small"
    assert not (shipped / "toy-small" / "old.txt").exists()
    x = np.random.default_rng(0).standard_normal((2, 100))
    found = medssl.Embedder("toy-large", rate_hz=100, channels=["A", "B"]).fit_transform([x])
    assert np.array_equal(found, medssl.load_encoder(shipped / "toy-large").embed(x, rate_hz=100, channels=["A", "B"]))


def test_a_path_comes_before_a_name(shipped: Path) -> None:
    own = save(Path("toy-small"), 2)
    mine, theirs = (medssl.load_encoder(place).module for place in ("toy-small", shipped / "toy-small"))
    weights = [next(iter(module.parameters())) for module in (mine, theirs)]
    assert not torch.equal(*weights)
    assert medssl.load_encoder("toy-small").folder == own


def test_an_unknown_name_says_which_there_are(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(hub.EncoderError, match=r"^toy: no such folder and no ready encoder; .*: toy-large, toy-small$"):
        medssl.load_encoder("toy")
    with pytest.raises(hub.EncoderError, match="not an encoder folder"):
        medssl.load_encoder("./toy-small")  # a path, and not there
    monkeypatch.setattr(hub.folder, "READY", shipped / "nowhere")
    with pytest.raises(hub.EncoderError, match="none are ready"):
        medssl.load_encoder("toy-small")


def test_a_damaged_encoder_is_not_taken(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "made" / "toy-small" / "card.md").write_text("changed")
    with pytest.raises(hub.EncoderError, match=r"card\.md: differs"):
        ready.take([tmp_path / "made" / "toy-small"], shipped)
    assert medssl.load_encoder("toy-small").card == "# toy-small\n"


def test_making_them_needs_something_to_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cohort = "{source: {root: x}, ingest: {size: [8, 8, 8], spacing_mm: [1, 1, 1]}}"
    monkeypatch.setattr(workspace, "params_for", lambda name, data: f"modalities: {{mri: {cohort}}}")
    with pytest.raises(SystemExit):
        ready.main(tmp_path / "sets")
    assert "params.real.yaml: no entry of release" in capsys.readouterr().err


def test_commands_take_a_name(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["card"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("`")[1] for row in rows if row] == ["toy-large", "toy-small"]
    assert cli.main(["card", "toy-small"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("---\n")  # the head that model hubs read
    assert shown.endswith("# toy-small\n\n")
    wave = np.sin(np.arange(600)[:, None] / [5, 7])
    pd.DataFrame(wave, columns=["A", "B"]).to_csv("mine.csv", index=False)
    Path("manifest.csv").write_text("path,patient,trial,rate_hz,columns,unit\nmine.csv,p,t,100,A;B,mV\n")
    assert cli.main(["embed", "--encoder", "toy-small", "--input", "manifest.csv", "--out", "z.parquet"]) == 0
    assert "6 embeddings of 8 numbers, 0 refused" in capsys.readouterr().out
    assert cli.main(["embed", "--encoder", "toy", "--input", "manifest.csv", "--out", "z.parquet"]) == 1
    assert "one of: toy-large, toy-small" in capsys.readouterr().err


def test_the_table_of_a_page_is_replaced(shipped: Path) -> None:
    text = ready.written(f"before\n{ready.MARKS[0]}old\n{ready.MARKS[1]}after\n")
    assert text.startswith("before\n") and text.endswith(f"{ready.MARKS[1]}after\n")
    assert "old" not in text and "`toy-small`" in text
    assert ready.written(text) == text


def test_what_comes_with_the_package_is_small_whole_and_licensed() -> None:
    for name, folder in hub.ready().items():
        encoder = medssl.load_encoder(name)
        assert encoder.folder == folder
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
        release = encoder.config["provenance"]["release"]
        assert f"licence of the recordings: {release['licence']}" in encoder.card
        assert "no held-out results of its own" in encoder.card


def test_the_documentation_lists_what_comes_with_the_package() -> None:
    text = (ROOT / "docs/reference/ready-encoders.md").read_text()
    assert all(mark in text for mark in ready.MARKS)
    assert ready.written(text) == text
