"""Options of methods that go on from something: another run, an earlier stage, clusters, a generator."""

from __future__ import annotations

from medssl.config.recipes.options import Options

OPTIONS: dict[str, type[Options]] = {}
