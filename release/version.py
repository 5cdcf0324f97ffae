"""The version of the package, by the tags of git: at ``v0.2.0`` it is 0.2.0, three commits later 0.2.1.dev3+g1a2b3c4.

Hatchling evaluates `read` at every build (``pyproject.toml``). A source distribution has no git; its ``PKG-INFO`` holds
what was read when it was made.
"""

from __future__ import annotations

import re
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEFORE = "0.1.0"  # what the first tag will be, as long as there is none
DESCRIBED = re.compile(r"(?:v(.+)-(\d+)-g)?([0-9a-f]+)(-dirty)?")
UNKNOWN = "0+unknown"  # of an archive without git and without PKG-INFO


def read(root: Path = ROOT) -> str:
    """Return the version (PEP 440) of the sources below ``root``.

    Commits after a tag count towards the next version, ``.dev<commits>+g<commit>``, with ``.dirty`` where a tracked
    file was changed.
    """
    written = root / "PKG-INFO"
    if written.is_file():
        return str(HeaderParser().parsestr(written.read_text())["Version"])
    if not (root / ".git").exists():  # a checkout around an unpacked archive is another project
        return UNKNOWN
    try:
        described = _git(root, "describe", "--tags", "--long", "--match=v[0-9]*", "--always", "--dirty")
        tag, commits, commit, dirty = DESCRIBED.fullmatch(described).groups("")  # type: ignore[union-attr]
        commits = commits or _git(root, "rev-list", "--count", "HEAD")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"version: {UNKNOWN}, for git failed: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        return UNKNOWN
    if commits == "0" and not dirty:
        return tag
    upcoming = re.sub(r"\d+$", lambda last: str(int(last[0]) + 1), tag) or BEFORE
    return f"{upcoming}.dev{commits}+g{commit}{dirty.replace('-', '.')}"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    print(read())
