"""What ``medssl check params.yaml`` calls ok runs: each optional key left out, and every other way DVC stops."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dvc.dependency.param
import dvc.utils.serialize
import pytest
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from pydantic import BaseModel

from medssl import config, workspace
from medssl.check import paths

ROOT = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc.*", "ignore::ResourceWarning"),
]

# A signal, a volume and a run, as the project ships them.
PROJECT = yaml.safe_load((ROOT / "params.yaml").read_text())
PROJECT["synthetic"] = {k: PROJECT["synthetic"][k] for k in ("ecg", "mri")}
PROJECT["modalities"] = {k: PROJECT["modalities"][k] for k in ("ecg", "mri")}
PROJECT["runs"] = {k: PROJECT["runs"][k] for k in ("ecg-comet",)}
# The same with every key that the models have, given or not.
WHOLE = config.parse(yaml.safe_dump(PROJECT)).model_dump(mode="json")


def optional(section: BaseModel, written: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the keys that a file may leave out and does not."""
    for name, field in type(section).model_fields.items():
        if name not in written:
            continue
        # A run has a recipe and an encoder unless it takes a trained one.
        if not field.is_required() and name not in ("recipe", "encoder"):
            yield (*above, name)
        value = getattr(section, name)
        entries = {(name, k): v for k, v in value.items()} if isinstance(value, dict) else {(name,): value}
        for path, entry in entries.items():
            if isinstance(entry, BaseModel):
                yield from optional(entry, written[name] if len(path) == 1 else written[name][path[1]], (*above, *path))


KEYS = list(optional(config.parse(yaml.safe_dump(PROJECT)), WHOLE))


def without(raw: dict[str, Any], *paths: tuple[str, ...]) -> dict[str, Any]:
    out = copy.deepcopy(raw)
    for *above, name in paths:
        node: Any = out
        for key in above:
            node = node.get(key, {})
        node.pop(name, None)
    return out


def around(key: tuple[str, ...]) -> dict[str, Any]:
    """Return the part of the project that a key belongs to, so that DVC has few stages to look at."""
    cohort = key[1] if key[0] in ("modalities", "synthetic") and len(key) > 1 else "ecg"
    tables = {section: {cohort: WHOLE[section][cohort]} for section in ("modalities", "synthetic")}
    return WHOLE | tables | ({"runs": {}} if key[0] in tables and len(key) > 1 else {})


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Let DVC parse a params file once and not for each of its stages, which takes most of its time."""
    parsed: dict[str, Any] = {}

    def load(path: str, fs: Any, **options: Any) -> Any:
        text = Path(path).read_text()
        if text not in parsed:
            parsed.clear()
            parsed[text] = dvc.utils.serialize.load_path(path, fs, **options)
        return copy.deepcopy(parsed[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dvc.dependency.param, "load_path", load)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every stage has its outputs: DVC hashes what a dry run finds there."""
    folder = tmp_path_factory.mktemp("sweep") / "project"
    workspace.lay_out(folder, yaml.safe_dump(PROJECT))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Repo(str(folder)) as repo:
            for out in (out for stage in repo.index.stages for out in stage.outs):
                path = Path(out.fs_path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch() if path.suffix else path.mkdir(exist_ok=True)
    return folder


def ok(project: Path, content: dict[str, Any] | str) -> tuple[bool, bool, str]:
    """Return whether check calls a params file ok, whether DVC takes it, and what check says."""
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (project / "params.yaml").write_text(text)
    _, problems = paths.check(project / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        try:
            with Repo(str(project)) as repo:
                runs = bool(repo.reproduce(dry=True))
        except (DvcException, AssertionError):  # the second one for a name without letters
            runs = False
    return not problems, runs, "\n".join(problems)


def test_the_sweep_is_about_all_optional_keys() -> None:
    names = {".".join(path) for path in KEYS}
    assert len(names) == len(KEYS) > 100
    assert {
        "seed", "compute", "compute.devices", "tracking.uri", "synthetic.ecg.trials", "modalities.mri.dedup", "runs",
        "modalities.ecg.source.limit", "modalities.ecg.ingest.max_flat", "runs.ecg-comet.pretrain.batch.samples",
    } <= names  # fmt: skip
    assert not {"modalities", "modalities.ecg.source.root", "runs.ecg-comet.recipe"} & names


def test_each_optional_key_left_out(project: Path) -> None:
    assert ok(project, PROJECT) == ok(project, WHOLE) == (True, True, "")
    told = set()
    for key in KEYS:
        changed = without(around(key), key)
        try:
            config.parse(yaml.safe_dump(changed))
        except (
            config.ConfigError
        ):  # such as a share of a split whose default gives no sum of 1: the stage would refuse it
            assert not ok(project, changed)[0]
            continue
        says, runs, problem = ok(project, changed)
        assert says == runs, f"{key}: {problem or 'ok'}"
        if not says:
            told.add(".".join(key))
            assert ".".join(key) in problem
            assert "\n" not in problem
    cohorts = ("modalities.ecg", "modalities.mri")
    assert told == {
        "seed", "compute", "compute.devices", "compute.nodes", "compute.precision", "runs",
        *(f"{cohort}.{section}" for cohort in cohorts for section in ("dedup", "split")),
    }  # fmt: skip


def test_all_optional_keys_left_out_and_added_again_as_told(project: Path) -> None:
    for raw in (PROJECT, WHOLE):
        bare = without(raw, *[key for key in KEYS if key[0] != "runs" or len(key) > 1])
        assert set(bare) == {"modalities", "runs"}
        says, runs, problem = ok(project, bare)
        assert not says
        assert not runs
        assert problem.startswith(f"{project}/params.yaml: ")
        for told in ("compute.devices", "seed: 0", "under compute: precision: 32-true, devices: 1, nodes: 1"):
            assert told in problem
        assert "under modalities.mri: split: {}, dedup: {}" in problem
        for key, value in config.stages.left_out(
            yaml.safe_load((project / "dvc.yaml").read_text()), bare, config.parse(yaml.safe_dump(bare))
        ):
            *above, name = key.split(".")
            node = bare
            for part in above:
                node = node.setdefault(part, {})
            node[name] = value
        (project / "data/raw/ecg").mkdir(parents=True, exist_ok=True)
        assert ok(project, bare) == (True, True, "")


def test_no_runs_and_no_made_cohorts(project: Path) -> None:
    assert ok(project, PROJECT | {"runs": {}, "synthetic": {}}) == (True, True, "")
    assert ok(project, without(PROJECT, ("synthetic",))) == (True, True, "")
    assert ok(project, PROJECT | {"runs": {}, "modalities": {}})[0] is False


@pytest.mark.parametrize("name", ["a.b", "a/b", "../b", "a b", "a@b", "-b", "a*", "$b", ""])
def test_names_that_cannot_name_a_stage(project: Path, name: str) -> None:
    for section, key in (("runs", name), ("modalities", f"ecg-x{name}")):
        raw = copy.deepcopy(PROJECT)
        raw[section][key] = raw[section][next(iter(raw[section]))]
        if (section, name) in (("modalities", ""), ("modalities", "-b")):
            continue
        says, _, problem = ok(project, raw)
        assert not says
        assert f"{section}.{key!r}: a name has letters, digits, - and _" in problem


def test_a_good_name(project: Path) -> None:
    raw = copy.deepcopy(PROJECT)
    raw["runs"]["größe_2-b"] = raw["runs"]["ecg-comet"]
    shutil.copytree(project / "data/runs/ecg-comet", project / "data/runs/größe_2-b")
    assert ok(project, raw) == (True, True, "")
    shutil.rmtree(project / "data/runs/größe_2-b")


def test_other_things_at_which_dvc_stops(project: Path) -> None:
    text = yaml.safe_dump(PROJECT, sort_keys=False)
    says, runs, problem = ok(project, text + "seed: 8\n")  # PyYAML takes the last one
    assert (says, runs) == (False, False)
    assert "key seed stands twice" in problem
    says, runs, problem = ok(project, text.replace("compute:\n", "compute:\n  devices: 1\n"))
    assert (says, runs) == (False, False)
    assert "key devices stands twice" in problem
    for root, word in (("data/raw/erg", "is not there"), ("data/ecg", "holds what stages write"), (".", "holds what")):
        raw = copy.deepcopy(PROJECT)
        raw["modalities"]["ecg"]["source"]["root"] = root
        says, runs, problem = ok(project, raw)
        assert (says, runs) == (False, False), root
        assert problem.startswith(f"modalities.ecg.source.root: {root} {word}")
    (project / "data/encoders").rename(project / "data/away")
    try:
        says, runs, problem = ok(project, PROJECT)
        assert (says, runs) == (False, False)
        assert problem == f"{project}/data/encoders: dvc.yaml lists this folder; make it"
    finally:
        (project / "data/away").rename(project / "data/encoders")


def test_merged_sections_are_no_duplicates(project: Path) -> None:
    text = yaml.safe_dump(without(PROJECT, ("compute",)), sort_keys=False)
    text += "compute:\n  <<: &base {devices: 1, nodes: 1, precision: 32-true}\n  devices: 1\n"
    assert ok(project, text) == (True, True, "")


@pytest.mark.parametrize(
    "left", [(), (("compute", "devices"),), (("modalities", "mri", "dedup"),), (("synthetic",),)], ids=str
)
def test_as_a_user_types_it(project: Path, left: tuple[tuple[str, ...], ...]) -> None:
    (project / "params.yaml").write_text(yaml.safe_dump(without(PROJECT, *left), sort_keys=False))
    says, runs = (
        subprocess.run(
            [sys.executable, "-m", *words], cwd=project, capture_output=True, text=True, check=False
        )
        for words in (["medssl.cli", "check", "params.yaml"], ["dvc", "repro", "--dry"])
    )  # fmt: skip
    assert says.returncode == (runs.returncode != 0), says.stdout + runs.stderr
    assert bool(says.returncode) == bool(left and left[0][0] != "synthetic")
