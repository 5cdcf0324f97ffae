"""The scikit-learn interface of an encoder folder."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from medssl.hub import load_encoder


class Embedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn raw recordings into embeddings inside a scikit-learn pipeline.

    Args:
        encoder: what `medssl.load_encoder` takes.
        rate_hz, channels, spacing_mm, unit: of the inputs, as for ``Encoder.embed``.
        dim: first numbers of the embedding, as there; None: all.
    """

    def __init__(
        self,
        encoder: str,
        *,
        rate_hz: float | None = None,
        channels: list[str] | None = None,
        spacing_mm: list[float] | None = None,
        unit: str | None = None,
        dim: int | None = None,
    ) -> None:
        self.encoder = encoder
        self.rate_hz = rate_hz
        self.channels = channels
        self.spacing_mm = spacing_mm
        self.unit = unit
        self.dim = dim

    def fit(self, X: Any, y: Any = None) -> Embedder:
        """Load the encoder; nothing is learned from ``X``."""
        self.encoder_ = load_encoder(self.encoder)
        self.n_features_out_ = self.dim or int(self.encoder_.contract["embedding_dim"])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return embeddings float32 (N, embedding_dim), or (N, dim)."""
        given = {name: getattr(self, name) for name in ("rate_hz", "channels", "spacing_mm", "unit", "dim")}
        return self.encoder_.embed(X, **given)
