"""Imports go one way, heavy ones stay out of the light modules, and dvc.yaml lists the code a stage runs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# From the bottom up: a module may import from the rows above it here; siblings of a row do not import one another.
LAYERS = [
    {"config", "table"},
    {"project"},
    {"store", "tracking", "parallel"},
    {"features", "sources", "synthetic"},
    {"ingest"},
    {"curate"},
    {"handcrafted", "models", "objectives", "views"},
    {"hub"},
    {"pretrain"},
    {"evaluate"},
    {"report"},
    {"check", "explore", "fetch", "tune", "workspace"},
    {"ablate", "new"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted((ROOT / "medssl").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return dotted names under medssl that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return {name for name in found if name.split(".")[0] == "medssl" and name != "medssl"}


def layer(path: Path) -> str:
    return path.relative_to(ROOT / "medssl").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name != "medssl" or p.name != "__init__.py"], ids=str)
def test_imports_go_one_way(path: Path) -> None:
    own = layer(path)
    for name in imported(path):
        other = name.split(".")[1]
        if other == own or other not in LEVEL:  # __version__ and the like
            continue
        assert LEVEL[other] < LEVEL[own], f"{path.name} imports {name}, which does not lie below it"


# Likewise within pretrain, so that a recipe never needs what trains it.
WITHIN = [
    {"data", "gather", "memory", "likeness", "monitor", "sampler", "told"},
    {"net"},
    {"recipes"},
    {"module"},
    {"callbacks", "resume"},
    {"fit"},
]


@pytest.mark.parametrize("path", sorted((ROOT / "medssl/pretrain").rglob("*.py")), ids=lambda p: p.stem)
def test_training_code_imports_one_way(path: Path) -> None:
    level = {name: number for number, names in enumerate(WITHIN) for name in names}
    own = path.relative_to(ROOT / "medssl/pretrain").parts[0].removesuffix(".py")
    for name in imported(path):
        other = name.removeprefix("medssl.pretrain.").split(".")[0]
        if name.startswith("medssl.pretrain.") and own != "__init__" and other != own:
            assert level[other] < level[own], f"{own} imports {name}, which does not lie below it"


def test_every_module_has_a_layer() -> None:
    assert {layer(p) for p in MODULES} - {"__init__"} == set(LEVEL)


def test_no_file_is_long() -> None:
    places = ("medssl", "pipeline", "benchmarks", "release", "studies", "tests")
    lines = {
        str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for d in places for p in (ROOT / d).rglob("*.py")
    }
    assert {p: n for p, n in lines.items() if n > 350} == {}, (
        "each has a second subject; move that to a file of its own"
    )


def test_one_importer_of_mlflow_and_one_yaml_reader() -> None:
    def users(library: str) -> set[str]:
        return {
            str(p.relative_to(ROOT / "medssl"))
            for p in MODULES
            for node in ast.walk(ast.parse(p.read_text()))
            if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == library for a in node.names))
            or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library)
        }

    assert {name.split("/")[0] for name in users("mlflow")} == {"tracking"}
    # workspace.py only rewrites the roots in a params file, and ablate adds runs; values are read by config alone.
    assert users("yaml") == {"ablate/factors.py", "config/__init__.py", "workspace.py"}
    # ruamel.yaml alone keeps comments where a search changes a params file.
    assert users("ruamel") == {"tune/patch.py"}
    assert users("pickle") == set()


@pytest.mark.parametrize("words", [["-m", "medssl.cli", "--help"], ["-c", "import medssl"]], ids=["help", "import"])
def test_light_start_imports_nothing_heavy(words: list[str]) -> None:
    heavy = "torch|monai|mlflow|mne|pandas|lightning|matplotlib|scipy|numpy"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert not loaded & set(heavy.split("|"))


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Code that decides no result: how work is spread and recorded, how a stage starts, and how it looks. It is neither
# listed nor followed.
UNLISTED = {
    "medssl/project.py", "medssl/parallel.py", "medssl/tracking", "medssl/report", "medssl/__init__.py",
    "pipeline/stage.py",
}  # fmt: skip
# What a stage imports and never runs: `hub` prepares recordings from outside, and stages give it samples of a store;
# it fetches encoders, and stages name folders, whose bytes are checked.
NEVER_RUN = {("medssl/hub/__init__.py", f"medssl/{path}.py") for path in ("ingest/cut", "hub/places", "hub/shaped")}


def module(name: str) -> str | None:
    """Return the file of a dotted name, from the root, or None where the name is no module of ours."""
    stem = name.replace(".", "/")
    return next((p for p in (f"{stem}.py", f"{stem}/__init__.py") if (ROOT / p).is_file()), None)


def direct(path: str) -> set[str]:
    """Return the files of ours that a file imports, also inside functions.

    ``from package import name`` is the module of that name, else the package's own file, which holds it.
    """
    found: set[str | None] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {module(a.name) for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not followed"
            found |= {module(f"{node.module}.{a.name}") or module(str(node.module)) for a in node.names}
    return {p for p in found if p}


def within(path: str, places: set[str] | list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def used(path: str, unlisted: set[str]) -> set[str]:
    """Return a file and all that it imports, by whatever way, without what decides no result."""
    seen: set[str] = set()
    ahead = [path]
    while ahead:
        here = ahead.pop()
        if here not in seen:
            seen.add(here)
            ahead += [p for p in direct(here) if not within(p, unlisted) and (here, p) not in NEVER_RUN]
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_uses(stage: str) -> None:
    deps = (STAGES[stage].get("do") or STAGES[stage])["deps"]
    assert len(set(deps)) == len(deps)
    code = [d for d in deps if "$" not in d and not d.startswith("data/")]
    script = f"pipeline/{stage.removesuffix('-fold')}.py"  # a fold is one more call of the same
    needed = used(script, UNLISTED - {"medssl/report"} if stage == "report" else UNLISTED)
    missing = sorted(p for p in needed if not within(p, code))
    assert not missing, f"{stage} uses {', '.join(missing)}; add it to deps"
    for dep in code:
        assert (ROOT / dep).exists(), f"{stage}: dep {dep} is gone"
        assert any(within(p, [dep]) for p in needed), f"{stage}: dep {dep} is not used; remove it"


def test_imports_are_followed() -> None:
    assert module("medssl.store") == "medssl/store.py"
    assert module("medssl.config") == "medssl/config/__init__.py"
    assert module("medssl.store.open_store") is None
    # A module of a package, a name that the package's own file holds, and an import inside a function.
    assert "medssl/curate/__init__.py" not in direct("pipeline/dedup.py")
    assert {"medssl/curate/copies.py", "medssl/config/__init__.py", "medssl/store.py"} <= direct("pipeline/dedup.py")
    assert "medssl/tracking/__init__.py" in direct("medssl/hub/places.py")
    assert all(to in direct(path) for path, to in NEVER_RUN)
    # Three steps away: pipeline/dedup -> curate -> ingest -> sources.
    assert "medssl/sources/resampling.py" in used("pipeline/dedup.py", UNLISTED) - direct("pipeline/dedup.py")


def test_a_file_stays_on_one_process(request: pytest.FixtureRequest) -> None:
    alone = not hasattr(request.config, "workerinput")
    assert alone or "@" in request.node.nodeid, "the group of tests/conftest.py is lost, so fixtures are made twice"
