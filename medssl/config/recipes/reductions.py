"""Options of methods that reduce a table of similarities their own way, or shape the distribution of embeddings."""

from __future__ import annotations

from medssl.config.recipes.options import Options

OPTIONS: dict[str, type[Options]] = {}
