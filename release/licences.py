"""The licences of all that medssl needs, and of the data its ready encoders were trained on: ``docs/licences.md``.

They are read from what is installed (``python -m release.licences docs/licences.md``); nothing is asked of a network.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
RUNTIME = "medssl"  # what a plain installation needs; the others are its extras
COPYLEFT = re.compile(r"GPL|GNU|MPL|Mozilla|EPL|Eclipse|CDDL|EUPL|OSL|SSPL|CC-BY-SA|CC-BY-NC")
UNSTATED = "not stated"

# Packages whose metadata name no licence; what their licence file says.
STATED = {"huey": "MIT", "skops": "MIT", "pybv": "BSD-3-Clause"}
# Licences that ask for something in return, and why they may be here. None of these packages is part of ours.
PER_FILE = "MPL covers its own files, which we import unchanged"
ALLOWED = {
    "asyncssh": "EPL asks for the source of changes to it, and we make none; DVC brings it",
    "certifi": PER_FILE,
    "codespell": "a program that checks the spelling; nothing imports it and nobody is given it",
    "fqdn": PER_FILE,
    "grandalf": "GPL 2 or EPL 1, taken under EPL, without changes; DVC draws its graphs with it",
    "hypothesis": PER_FILE,
    "orjson": PER_FILE,
    "pathspec": PER_FILE,
    "psycopg2-binary": "LGPL, imported unchanged; the tests talk to PostgreSQL with it",
    "pygit2": "GPL 2 with an exception for all that link to it; DVC brings it",
    "shtab": PER_FILE,
    "tqdm": PER_FILE,
}


def needed(group: str = RUNTIME) -> dict[str, Distribution]:
    """Return the installed distributions that a plain installation, or one of the extras, leads to, by name.

    What is not installed here, such as an extra that nobody asked for or a package of another system, is left out.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["dependencies"] if group == RUNTIME else project["optional-dependencies"][group]
    found: dict[str, Distribution] = {}
    ahead, seen = [Requirement(text) for text in listed], set()
    while ahead:
        wanted = ahead.pop()
        name = canonicalize_name(wanted.name)
        if (name, *sorted(wanted.extras)) in seen:
            continue
        seen.add((name, *sorted(wanted.extras)))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        for text in found[name].requires or ():
            further = Requirement(text)
            extras = [{"extra": extra} for extra in ("", *wanted.extras)]
            if further.marker is None or any(further.marker.evaluate(extra) for extra in extras):
                ahead.append(further)
    return found


def groups() -> list[str]:
    """Return the plain installation and the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [RUNTIME, *project["optional-dependencies"]]


def licence(found: Distribution) -> str:
    """Return the licence of a distribution: its expression, else a short text, else its classifiers."""
    fields = found.metadata
    if stated := STATED.get(canonicalize_name(fields["Name"])):
        return stated
    # Of a field that is not there brackets raise or not, by who in the process reads packages; a list is always one.
    expression, texts, marks = (fields.get_all(name) or [] for name in ("License-Expression", "License", "Classifier"))
    if expression:
        return expression[0]
    text = texts[0].strip() if texts else ""
    if text and len(text) < 50 and "\n" not in text and text not in ("UNKNOWN", "Dual License"):
        return text
    approved = [mark.split(" :: ")[-1] for mark in marks if mark.startswith("License :: OSI Approved ::")]
    return " or ".join(approved) or UNSTATED


def copyleft(text: str) -> bool:
    """Say whether a licence asks for more than to be named; of alternatives, whether each does."""
    alternatives = [text] if "(" in text else re.split(r" OR | or |\|", text)
    return all(COPYLEFT.search(one) for one in alternatives)


def refused(packages: Iterable[Distribution]) -> list[str]:
    """Return one line for each package whose licence is not stated, or is copyleft without a reason in `ALLOWED`."""
    lines = []
    for found in packages:
        name, text = canonicalize_name(found.metadata["Name"]), licence(found)
        if text == UNSTATED:
            lines.append(f"{name}: no licence in its metadata; read its licence file and add it to STATED")
        elif copyleft(text) and name not in ALLOWED:
            lines.append(f"{name}: {text}; take another package, or add it to ALLOWED with the reason why it may stay")
    return lines


def page() -> str:
    """Return ``docs/licences.md``, without versions: those tested are in ``requirements.lock``."""
    by_group = {group: needed(group) for group in groups()}
    packages = {name: found for group in by_group.values() for name, found in group.items()}
    lines = [
        "# Licences",
        "",
        "medssl is under Apache-2.0. This page is made by `make licences` from the metadata of what is installed.",
        "",
        "## Ready encoders",
        "",
        "Each lies in the package and is handed on under the licence of its recordings.",
        "",
        "| encoder | recordings | licence | cite |",
        "|---|---|---|---|",
    ]
    for path in sorted((ROOT / "medssl" / "encoders").glob("*/config.json")):
        provenance = json.loads(path.read_text())["provenance"]
        release = provenance["release"]
        lines.append(f"| `{path.parent.name}` | {provenance['source']} | {release['licence']} | {release['cite']} |")
    lines += ["", "## Copyleft", "", "| package | licence | why it may be here |", "|---|---|---|"]
    lines += [
        f"| {name} | {_cell(licence(packages[name]))} | {why} |" for name, why in ALLOWED.items() if name in packages
    ]
    lines += [
        "",
        "## Packages",
        "",
        "`medssl` is a plain installation; the others are extras. Some wheels bring libraries of",
    ]
    lines += ["their own along, such as soundfile's libsndfile (LGPL); those are named in the wheels.", ""]
    lines += ["| package | licence | needed by |", "|---|---|---|"]
    for name, found in sorted(packages.items()):
        users = [RUNTIME] if name in by_group[RUNTIME] else [g for g, members in by_group.items() if name in members]
        lines.append(f"| {name} | {_cell(licence(found))} | {', '.join(users)} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "or")


if __name__ == "__main__":
    refusals = refused({name: found for group in groups() for name, found in needed(group).items()}.values())
    print("\n".join(refusals), file=sys.stderr)
    Path(sys.argv[1]).write_text(page())
    raise SystemExit(bool(refusals))
