"""Options of methods that make, mix or choose embeddings instead of views."""

from __future__ import annotations

from medssl.config.recipes.options import Options

OPTIONS: dict[str, type[Options]] = {}
