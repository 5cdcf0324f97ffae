"""Options of methods for several devices of one moment."""

from __future__ import annotations

from medssl.config.recipes.options import Options

OPTIONS: dict[str, type[Options]] = {}
