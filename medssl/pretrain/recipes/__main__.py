"""Write the table of recipes into a page: ``python -m medssl.pretrain.recipes docs/reference/recipes.md``."""

import sys
from pathlib import Path

from medssl.pretrain.recipes import RECIPES

MARKS = "<!-- recipes: made by `make recipes` -->\n", "<!-- end of recipes -->\n"


def table() -> str:
    """Return the table of recipes, Markdown."""
    lines = ["| recipe | positives | objective | source |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {r.positives} | {r.objective} | {r.source} |" for name, r in RECIPES.items()]
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """Return a page with the table of now between its marks."""
    before, _, rest = text.partition(MARKS[0])
    return f"{before}{MARKS[0]}{table()}{MARKS[1]}{rest.partition(MARKS[1])[2]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written(path.read_text()))
