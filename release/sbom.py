"""The bill of materials of a plain installation, CycloneDX: ``python -m release.sbom PYTHON dist/medssl.cdx.json``.

CycloneDX's own tool, which ``PYTHON`` has, lists the whole environment. Of that only what medssl needs is kept: users
never get the tools that the project is made and tested with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from release import licences, version


def of_environment(python: str) -> dict[str, Any]:
    """Return the bill of everything in this environment, with the project as its root.

    Args:
        python: of an environment with ``cyclonedx-bom``.
    """
    tool = [
        "cyclonedx_py",
        "environment",
        "--pyproject",
        str(licences.ROOT / "pyproject.toml"),
        "--output-reproducible",
    ]
    done = subprocess.run([python, "-m", *tool, sys.executable], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def reduced(bill: dict[str, Any]) -> dict[str, Any]:
    """Return the bill with the version of the project and with what a plain installation of it needs alone."""
    root = bill["metadata"]["component"] | {"version": version.read()}
    needed = licences.needed()
    components = [c for c in bill["components"] if canonicalize_name(c["name"]) in needed]
    kept = {c["bom-ref"] for c in components} | {root["bom-ref"]}
    edges = [
        edge | {"dependsOn": [ref for ref in edge.get("dependsOn", []) if ref in kept]}
        for edge in bill["dependencies"]
        if edge["ref"] in kept
    ]
    return bill | {"metadata": bill["metadata"] | {"component": root}, "components": components, "dependencies": edges}


if __name__ == "__main__":
    python, out = sys.argv[1:]
    Path(out).write_text(json.dumps(reduced(of_environment(python)), indent=1) + "\n")
