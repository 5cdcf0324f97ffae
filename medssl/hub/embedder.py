"""The scikit-learn interface of an encoder folder."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from medssl.hub import load_encoder, shaped


class Embedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn raw recordings into embeddings inside a scikit-learn pipeline.

    It takes what ``Encoder.embed`` takes. Of an encoder of one channel it also takes a table (N, T) as scikit-learn has
    it: a recording in each row, all as long as those of `fit`.

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
        """Load the encoder; of ``X`` only the length of a table's rows is kept."""
        self.encoder_ = load_encoder(self.encoder)
        self.n_features_out_ = self.dim or int(self.encoder_.contract["embedding_dim"])
        self._recordings(X, reset=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return embeddings float32 (N, embedding_dim), or (N, dim)."""
        check_is_fitted(self, "encoder_")
        given = {name: getattr(self, name) for name in ("rate_hz", "channels", "spacing_mm", "unit", "dim")}
        return self.encoder_.embed(self._recordings(X, reset=False), **given)

    def _recordings(self, X: Any, *, reset: bool) -> Any:
        """Return ``X``, a table (N, T) of one channel as (N, 1, T), checked as scikit-learn checks its tables."""
        one = "rate_hz" in self.encoder_.contract and len(self.channels or self.encoder_.contract["channels"]) == 1
        # Lists of recordings, an axis of channels, and objects of other packages say by themselves what they are.
        listed = isinstance(X, list | tuple) and any(np.ndim(row) != 1 for row in X)
        if not one or listed or getattr(X, "ndim", 2) == 3 or shaped.known(X):
            return X
        table = validate_data(self, X, reset=reset, dtype=np.float32, ensure_all_finite=False, ensure_min_features=1)
        return table[:, None]

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True  # a value that is missing is filled in, up to the limit of the contract
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.requires_fit = True
        return tags
