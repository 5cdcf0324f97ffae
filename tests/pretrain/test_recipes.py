"""The table of recipes: one file, one section of options, one line in the documentation each."""

from __future__ import annotations

from pathlib import Path

import pytest

from medssl.config import OPTIONS
from medssl.pretrain.recipes import RECIPES
from medssl.pretrain.recipes.__main__ import table, written

ROOT = Path(__file__).parents[2]


def test_every_recipe_has_options_and_every_options_a_recipe() -> None:
    files = {path.stem for path in (ROOT / "medssl/pretrain/recipes").glob("*.py")}
    assert files - {"__init__", "__main__", "predict", "recipe"} == set(RECIPES) == set(OPTIONS)


def test_the_documentation_has_the_table_of_now() -> None:
    page = (ROOT / "docs/reference/recipes.md").read_text()
    assert table() in page, "run: make recipes"
    assert written(page) == page
    line = next(line for line in table().splitlines() if line.startswith("| `simclr` |"))
    assert written(page.replace(line, "| `old` |")) == page


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_tells_of_itself(name: str) -> None:
    recipe = RECIPES[name]
    for words in (recipe.positives, recipe.objective, recipe.source):
        assert words
        assert "|" not in words
        assert "\n" not in words
