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
    {"sources"},
    {"ingest"},
    {"examine", "fetch"},
    {"curate"},
    {"models", "objectives", "views"},
    {"hub"},
    {"pretrain"},
    {"evaluate"},
    {"report"},
    {"inspection", "workspace"},
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


def test_every_module_has_a_layer() -> None:
    assert {layer(p) for p in MODULES} - {"__init__"} == set(LEVEL)


def test_one_importer_of_mlflow_and_one_yaml_reader() -> None:
    def users(library: str) -> set[str]:
        return {
            str(p.relative_to(ROOT / "medssl"))
            for p in MODULES
            for node in ast.walk(ast.parse(p.read_text()))
            if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == library for a in node.names))
            or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library)
        }

    assert users("mlflow") == {"tracking.py"}
    # workspace.py only rewrites the roots in a params file; values are read by config alone.
    assert users("yaml") == {"config/__init__.py", "workspace.py"}
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
# Code that decides no result: how work is spread and recorded, and how it looks.
UNLISTED = {"medssl/project.py", "medssl/parallel.py", "medssl/tracking.py", "medssl/report", "medssl/__init__.py"}


def direct(path: Path) -> set[str]:
    """Return the top-level pieces of the package that a script imports itself, as dvc.yaml names them."""
    pieces = set()
    for name in imported(path):
        part = name.split(".")[1]
        folder = ROOT / "medssl" / part
        pieces.add(f"medssl/{part}" if folder.is_dir() else f"medssl/{part}.py")
    return {p for p in pieces if (ROOT / p).exists()}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_imports(stage: str) -> None:
    script = ROOT / "pipeline" / f"{stage}.py"
    deps = (STAGES[stage].get("do") or STAGES[stage])["deps"]
    assert f"pipeline/{stage}.py" in deps
    unlisted = UNLISTED - {"medssl/report"} if stage == "report" else UNLISTED
    for piece in direct(script) - unlisted:
        assert any(d == piece or d.startswith(piece + "/") for d in deps), f"{stage} imports {piece}; add it to deps"
    for dep in deps:
        if "$" not in dep and not dep.startswith("data/"):
            assert (ROOT / dep).exists(), f"{stage}: dep {dep} is gone"
