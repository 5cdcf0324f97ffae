"""Recipes: which pairs are pulled together, and by which objective. One file each, with its source.

A recipe's step sees a network and a batch and returns losses; ``loss`` is the one to minimise, others are curves. What
it contrasts it first passes through ``net.gather``, so that its loss is that of the whole batch of all processes.
A file here whose name is in `medssl.config.OPTIONS` and that holds a ``RECIPE`` is a recipe; nothing else knows it.
`predict` is a term that any of them may have.
"""

from importlib import import_module

from medssl.config import OPTIONS
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, Views

RECIPES: dict[str, Recipe] = {name: import_module(f"{__name__}.{name}").RECIPE for name in OPTIONS}

__all__ = ["RECIPES", "Losses", "Recipe", "Sizes", "Views"]
