"""Recipes: which pairs are pulled together, and by which objective. One file each, with its source.

A recipe's step sees a network and a batch and returns losses; ``loss`` is the one to minimise, others are curves. What
it contrasts it first passes through ``net.gather``, so that its loss is that of the whole batch of all processes.
"""

from medssl.pretrain.recipes.anatomy import ANATOMY
from medssl.pretrain.recipes.comet import COMET
from medssl.pretrain.recipes.comet_code import COMET_CODE
from medssl.pretrain.recipes.recipe import Losses, Recipe
from medssl.pretrain.recipes.simclr import SIMCLR
from medssl.pretrain.recipes.swav import SWAV
from medssl.pretrain.recipes.wearable import WEARABLE

RECIPES: dict[str, Recipe] = {
    "simclr": SIMCLR,
    "comet": COMET,
    "comet_code": COMET_CODE,
    "wearable": WEARABLE,
    "anatomy": ANATOMY,
    "swav": SWAV,
}

__all__ = ["RECIPES", "Losses", "Recipe"]
