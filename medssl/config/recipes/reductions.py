"""Options of methods that reduce a table of similarities their own way, or shape the distribution of embeddings."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.config.recipes.options import Options
from medssl.config.section import Count, Positive

Number = Annotated[int, Field(ge=2, le=8)]


class Groco(Options):
    """Views of a sample, how many of its nearest negatives are sorted with its positives, and how sharply.

    ``temperature`` is not used.
    """

    examples = ({"negatives": 4, "steepness": 10.0}, {"views": 3})
    views: Number = 2
    negatives: Count = 10
    steepness: Positive = 1.0


class Cacr(Options):
    """Views of a sample, weights of attraction and repulsion, and how much more far positives and near negatives count.

    A positive's share grows with its squared distance times ``far``, a negative's with less of it times ``near``.
    ``temperature`` is not used.
    """

    examples = ({"views": 3},)
    views: Number = 4
    attraction: Annotated[float, Field(ge=0)] = 1.0
    repulsion: Annotated[float, Field(ge=0)] = 1.0
    far: Annotated[float, Field(ge=0)] = 1.0
    near: Annotated[float, Field(ge=0)] = 0.9


class Cloob(Options):
    """Sharpness with which an embedding is replaced by a mixture of those of a view; null: it is not (InfoLOOB)."""

    examples = ({}, {"retrieval": None})
    retrieval: Positive | None = 8.0


class Energy(Options):
    """Weights of the terms, sharpness of the Gaussian in the two of uniformity, and the steps of contrast alone.

    ``cross`` is uniformity between the two views, ``contrast`` NT-Xent, with ``temperature``.
    """

    # Alignment weighs more here, so that the second loss is above 0 too.
    examples = ({"contrast": 1.0, "cross": 1.0, "warmup_steps": 1}, {"alignment": 4.0})
    alignment: Annotated[float, Field(ge=0)] = 1.0
    uniformity: Annotated[float, Field(ge=0)] = 1.0
    cross: Annotated[float, Field(ge=0)] = 0.0
    contrast: Annotated[float, Field(ge=0)] = 0.0
    sharpness: Annotated[float, Field(gt=0, le=20)] = 2.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _has_terms(self) -> Self:
        if not (self.alignment or self.uniformity or self.cross or self.contrast):
            raise ValueError("alignment, uniformity, cross and contrast are all 0; give at least one a weight")
        if self.warmup_steps and not self.contrast:
            raise ValueError(f"warmup_steps {self.warmup_steps} are of contrast alone, whose weight is 0; remove them")
        return self


class Whitening(Options):
    """Views of a sample, the loss between whitened views, and how many groups of dimensions are whitened by themselves.

    ``groups`` null takes as few as leave a group at most half as many dimensions as the batch has samples; ``eps`` is
    added to variances. ``temperature`` is of ``loss: contrast``.
    """

    # Embeddings of untrained encoders vary little, and so little of it as the default would be rounding.
    examples = ({"eps": 0.01}, {"loss": "contrast", "views": 3, "eps": 0.1})
    views: Number = 2
    loss: Literal["distance", "contrast"] = "distance"
    groups: Count | None = None
    eps: Positive = 1e-3


class Pamc(Options):
    """What cosines are multiplied by, of 0.25 to 2. ``temperature`` is not used."""

    scale: Positive = 1.0


OPTIONS: dict[str, type[Options]] = {
    "groco": Groco,
    "cacr": Cacr,
    "cloob": Cloob,
    "energy": Energy,
    "whitening": Whitening,
    "pamc": Pamc,
}
