"""Options of methods that read labels."""

from __future__ import annotations

from medssl.config.recipes.options import Options

OPTIONS: dict[str, type[Options]] = {}
