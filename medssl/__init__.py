"""medssl: self-supervised pretraining for medical signals and images.

The public names load lazily, so that ``import medssl`` and ``medssl --help`` stay instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medssl.hub import Encoder, load_encoder
    from medssl.hub.embedder import Embedder
    from medssl.store import open_store

    __version__: str

__all__ = ["Embedder", "Encoder", "__version__", "load_encoder", "open_store"]

_HOMES = {
    "Embedder": "medssl.hub.embedder",
    "Encoder": "medssl.hub",
    "load_encoder": "medssl.hub",
    "open_store": "medssl.store",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("medssl")
        except PackageNotFoundError:  # a copy of the sources that nobody installed
            return "0+unknown"
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'medssl' has no attribute '{name}'")
