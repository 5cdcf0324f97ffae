"""Options of the recipes, one section each: what ``runs.<name>.pretrain.options`` may say.

The keys of `OPTIONS` are those of ``medssl.pretrain.recipes.RECIPES``; a run is checked by its recipe's section as soon
as params.yaml is read, long before anything is trained. A family of methods has a file with an ``OPTIONS`` of its own.
"""

from __future__ import annotations

from medssl.config.recipes import core, devices, labels, latent, masked, reductions, sequels
from medssl.config.recipes.core import Anatomy
from medssl.config.recipes.options import Factor, Options

FAMILIES = (core, reductions, latent, sequels, labels, masked, devices)
OPTIONS: dict[str, type[Options]] = {name: section for family in FAMILIES for name, section in family.OPTIONS.items()}

__all__ = ["OPTIONS", "Anatomy", "Factor", "Options"]
