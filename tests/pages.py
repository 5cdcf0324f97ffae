"""The README and the pages of ``docs/``, and what stands in their code blocks."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Block(NamedTuple):
    """A code block: page, language, what it needs that no test has (a cluster, a cloud; else empty), and its text."""

    page: str
    language: str
    needs: str
    text: str


def blocks(language: str, *, apart: bool = False) -> list[Block]:
    """Return the blocks of a language, those apart that say ``title="needs ..."``; equal ones once."""
    return list(
        {block.text: block for block in ALL if block.language == language and bool(block.needs) == apart}.values()
    )


ALL = [
    Block(str(page.relative_to(ROOT)), *found)
    for page in PAGES
    for found in re.findall(
        r"^```(\w*)(?: title=\"needs ([^\"]+)\")?\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S
    )
]
