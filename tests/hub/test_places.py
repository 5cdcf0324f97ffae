"""An encoder gives the same embeddings from wherever it is loaded; what stops that is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medssl
from medssl import config, hub, tracking
from medssl.config import SignalIngest
from medssl.hub import places
from tests.hub import hugging_face
from tests.hub.hugging_face import NAME, Hub
from tests.test_hub import FILES, save, wave

ABOUT: dict[str, Any] = {"rate_hz": 100, "channels": ["A", "B"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    params = SignalIngest(rate_hz=100, channels=("A", "B"), unit="mV", window_s=1)
    return save(tmp_path_factory.mktemp("made") / "encoder", "dilated1d", params, [4, 8], 2)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def embedded(encoder: hub.Encoder) -> np.ndarray:
    return encoder.embed(wave(3, 100, 100), **ABOUT)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def dvc(folder: Path, *words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "dvc", "--cd", str(folder), *words, "-q"], check=True, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def repository(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose tag ``v1`` has an encoder in DVC, pushed to a remote; folder and cache lost it."""
    folder = tmp_path_factory.mktemp("dvc") / "project"
    encoder = folder / "runs" / "encoder"
    encoder.parent.mkdir(parents=True)
    git(folder, "init", "-q")
    dvc(folder, "init")
    dvc(folder, "remote", "add", "-d", "store", str(folder.parent / "remote"))
    hub.load_encoder(made).save_pretrained(encoder)
    (encoder / "notes.txt").write_text("not an encoder's")
    dvc(folder, "add", "runs/encoder")
    dvc(folder, "push")
    (folder / "plain").mkdir()
    (folder / "plain" / "config.json").write_text("{}")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "encoder")
    git(folder, "tag", "v1")
    subprocess.run(["rm", "-r", str(folder / ".dvc" / "cache"), str(encoder)], check=True)
    git(folder, "rm", "-q", "runs/encoder.dvc")
    git(folder, "commit", "-q", "-m", "gone")
    return folder


def test_mlflow_by_run_and_by_alias(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{here / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with tracking.stage_run(config.Tracking(uri=uri, experiment="toy"), "pretrain@x") as run:
        run.artifact(made, "encoder")
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.create_registered_model("medssl-x")
    source = f"{client.get_run(run.run_id).info.artifact_uri}/encoder"
    version = client.create_model_version("medssl-x", source, run.run_id)
    client.set_registered_model_alias("medssl-x", "champion", version.version)
    expected = embedded(medssl.load_encoder(made))
    for reference in (f"runs:/{run.run_id}/encoder", "models:/medssl-x@champion"):
        np.testing.assert_allclose(embedded(medssl.load_encoder(reference)), expected, atol=1e-6)


def test_a_dvc_revision_of_another_repository(made: Path, repository: Path, here: Path) -> None:
    encoder = medssl.load_encoder(f"dvc:{repository}@v1:runs/encoder")
    np.testing.assert_allclose(embedded(encoder), embedded(medssl.load_encoder(made)), atol=1e-6)
    assert encoder.folder is not None and encoder.folder.parent == here / ".medssl" / "hub"
    assert sorted(p.name for p in encoder.folder.iterdir()) == sorted(FILES)
    # Kept by commit, however the revision is written: it is not made again.
    commit = git(repository, "rev-parse", "v1")
    before = encoder.folder.stat().st_mtime_ns
    again = medssl.load_encoder(f"dvc:{repository}@{commit[:10]}:runs/encoder")
    assert again.folder == encoder.folder and again.folder.stat().st_mtime_ns == before


def test_a_dvc_revision_of_this_repository(made: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    encoder = medssl.load_encoder("dvc:@v1:runs/encoder")
    np.testing.assert_allclose(embedded(encoder), embedded(medssl.load_encoder(made)), atol=1e-6)
    assert [p.name for p in encoder.folder.parent.iterdir()] == [encoder.folder.name]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("dvc:runs/encoder", "expected dvc:REPO@REV:PATH, such as"),
        ("dvc:git@host:lab/project:runs/encoder", "expected dvc:REPO@REV:PATH"),
        ("dvc:{}@v1:../project/runs/encoder", "leads outside the repository"),
        ("dvc:{}@v1:/runs/encoder", "leads outside the repository"),
        ("dvc:--upload-pack=x@v1:runs/encoder", "leads outside the repository"),
        ("dvc:{}@v2:runs/encoder", "v2.*; check repository and revision"),
        ("dvc:{}@main:runs/encoder", "no runs/encoder with config.json, .* at revision main"),
        ("dvc:{}@v1:plain", "no plain with config.json, .* at revision v1"),
        ("dvc:{}/nowhere@v1:runs/encoder", "nowhere.*; check repository and revision"),
    ],
)
def test_what_is_wrong_with_a_dvc_reference(repository: Path, here: Path, reference: str, sentence: str) -> None:
    with pytest.raises(hub.EncoderError, match=sentence) as caught:
        medssl.load_encoder(reference.format(repository))
    assert "\n" not in str(caught.value)
    kept = here / ".medssl" / "hub"
    assert not kept.exists() or not list(kept.iterdir())  # nothing half-made


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process asks, with a cache and a home of the test's own."""
    from huggingface_hub import constants

    with hugging_face.serving() as one:
        for name, value in _settings(one, here).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", one.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", one.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(here / "hf" / "token"))
        yield one


def _settings(server: Hub, home: Path) -> dict[str, str]:
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {"HF_ENDPOINT": server.url, "HF_HOME": str(home / "hf"), **quiet}


def test_the_hub_of_the_environment(made: Path, here: Path) -> None:
    code = (
        "import sys, numpy as np, medssl\n"
        "z = medssl.load_encoder('hf:lab/toy').embed(np.load('x.npy'), rate_hz=100, channels=['A', 'B'])\n"
        "np.save('z.npy', z)\n"
    )
    np.save("x.npy", wave(3, 100, 100))
    with hugging_face.serving() as server:
        server.commit_folder(made)
        root = str(Path(hub.__file__).parents[2])
        environment = {**os.environ, **_settings(server, here), "PYTHONPATH": root}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        assert server.asked
    np.testing.assert_allclose(np.load("z.npy"), embedded(medssl.load_encoder(made)), atol=1e-6)


def test_four_files_of_one_commit(made: Path, server: Hub) -> None:
    first = server.commit_folder(made, "v1", **{"notes.txt": b"n", "train.py": b"import os"})
    server.commit({"README.md": b"empty"})
    expected = embedded(medssl.load_encoder(made))
    for encoder in (
        medssl.load_encoder("hf:lab/toy@v1"),
        medssl.load_encoder(f"hf:lab/toy@{first}"),
        hub.Encoder.from_pretrained(NAME, "v1"),
        hub.Encoder.from_pretrained(f"hf:{NAME}", revision=first),
    ):
        np.testing.assert_allclose(embedded(encoder), expected, atol=1e-6)
        assert encoder.folder is not None and encoder.folder.name == first
        assert sorted(p.name for p in encoder.folder.iterdir()) == sorted(FILES)
    files = [said for said in server.asked if "/resolve/" in said]
    assert all(f"/resolve/{first}/" in said for said in files)
    assert {said.rsplit("/", 1)[1] for said in files} == set(FILES)


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("hf:lab/other", "hf:lab/other: the hub shows no such model"),
        ("hf:lab/gated", "hf:lab/gated: its authors ask for consent"),
        ("hf:lab/toy@v9", "hf:lab/toy@v9: the model has no revision v9"),
        ("hf:lab/toy@", "expected hf:ORG/NAME or hf:ORG/NAME@REV"),
        ("hf:../../etc", "hf:../../etc: "),
        ("hf:lab/toy", "not an encoder folder, model.safetensors, card.md, checksums.json missing"),
    ],
)
def test_what_is_wrong_with_a_reference_to_the_hub(server: Hub, reference: str, sentence: str) -> None:
    server.commit({"config.json": b"{}"})
    with pytest.raises(hub.EncoderError, match=sentence) as caught:
        medssl.load_encoder(reference)
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(hub.EncoderError, match=r"^hf:lab/toy: \S") as caught:
        medssl.load_encoder("hf:lab/toy")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_without_the_optional_package(here: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    asked = r'needs huggingface_hub, which is not installed: pip install "medssl\[hub\]"'
    with pytest.raises(hub.EncoderError, match=f"hf:lab/toy: {asked}"):
        medssl.load_encoder("hf:lab/toy")
    with pytest.raises(hub.EncoderError, match=f"push_to_hub {asked}"):
        medssl.load_encoder(made).push_to_hub(NAME)


def test_what_is_pushed_is_what_is_loaded(made: Path, server: Hub) -> None:
    encoder = medssl.load_encoder(made)
    url = encoder.push_to_hub(NAME, message="first", token="hf_toy")
    (files,) = server.commits.values()
    assert url == f"{server.url}/{NAME}/commit/{server.refs['main']}"
    assert sorted(files) == sorted([*FILES, "README.md"]) and files["README.md"] == files["card.md"]
    np.testing.assert_allclose(embedded(hub.Encoder.from_pretrained(NAME)), embedded(encoder), atol=1e-6)
    with pytest.raises(
        hub.EncoderError, match=r"^push_to_hub: lab/toy: .*401.*; log in with `hf auth login`"
    ) as caught:
        encoder.push_to_hub(NAME, token="hf_wrong")
    assert "hf_wrong" not in str(caught.value) and "\n" not in str(caught.value)


def test_weights_as_they_are_now_are_saved(made: Path, here: Path) -> None:
    encoder = medssl.load_encoder(made)
    same = encoder.save_pretrained(here / "same")
    assert {p.name: p.read_bytes() for p in same.iterdir()} == {p.name: p.read_bytes() for p in made.iterdir()}
    for weight in encoder.module.parameters():
        weight.data *= 1.5
    again = hub.Encoder.from_pretrained(encoder.save_pretrained("lab/tuned"))  # a folder comes before a name of the hub
    np.testing.assert_allclose(embedded(again), embedded(encoder), atol=1e-6)
    assert np.abs(embedded(again) - embedded(medssl.load_encoder(made))).max() > 1e-3
    assert again.config == encoder.config


@pytest.mark.parametrize("reference", ["encoder", "./encoder", "hf:lab/toy@v1", "dvc:@v1:encoder"])
def test_a_revision_is_of_the_hub_alone(here: Path, reference: str) -> None:
    with pytest.raises(hub.EncoderError, match="revision 'v2' is for an ORG/NAME of the Hugging Face hub"):
        places.pretrained(reference, "v2")
    assert places.pretrained(reference, None) == reference


def test_other_code_is_not_saved(made: Path, here: Path) -> None:
    encoder = medssl.load_encoder(made)
    foreign = {k: encoder.config[k] for k in ("format", "contract", "provenance")}
    with pytest.raises(hub.EncoderError, match="keep its code, and load it as module:function"):
        hub.Encoder(None, {**foreign, "card": "# x"}, encoder.module).save_pretrained(here / "x")
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(hub.EncoderError, match=r"mine: holds other files, and none of config\.json"):
        encoder.save_pretrained(here / "mine")
    assert [path.name for path in (here / "mine").iterdir()] == ["thesis.txt"]
    assert not (here / "x").exists()
