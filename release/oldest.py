"""The oldest versions that ``pyproject.toml`` allows, as constraints of pip: ``python -m release.oldest FILE``.

``make oldest`` runs tests with them: a lower bound that nobody has tried is a guess.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
HEAD = "# The lower bounds of pyproject.toml; made by `make bounds`, tried by `make oldest`.\n"


def constraints() -> str:
    """Return one line ``name==lower bound`` for each dependency of a plain installation.

    Raises:
        ValueError: a dependency without a lower bound.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return HEAD + "".join(f"{line}\n" for line in map(lowest, project["dependencies"]))


def lowest(text: str) -> str:
    """Return ``numpy==2.0`` for ``numpy>=2.0,<3``."""
    wanted = Requirement(text)
    bounds = [bound.version for bound in wanted.specifier if bound.operator in (">=", "==", "~=")]
    if len(bounds) != 1:
        raise ValueError(f"pyproject.toml: '{text}' has {len(bounds)} lower bounds; expected one, as in numpy>=2.0")
    return f"{wanted.name}=={bounds[0]}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(constraints())
