"""Options of methods that predict or reconstruct what is hidden, and of nested embeddings."""

from __future__ import annotations

from medssl.config.recipes.options import Options

OPTIONS: dict[str, type[Options]] = {}
