"""Options of methods that predict or reconstruct what is hidden, and of nested embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medssl.config.recipes.options import Momentum, Options
from medssl.config.section import Count, Share


class Scatsimclr(Options):
    """What is told of a changed sample, and the weight of telling it.

    ``jigsaw`` is which of 35 orders its pieces are in: 9 of a signal, 3 x 3 of a slice, 2 x 2 x 2 of a volume.
    ``rotation`` is by how many quarter-turns an image lies, in the plane of its last two axes. The fixed filters that
    the method is named after are ``encoder.front: scattering`` of convnet1d.
    """

    pretext: Literal["jigsaw", "rotation"] = "jigsaw"
    weight: Annotated[float, Field(ge=0)] = 0.3


class Selfie(Options):
    """Steps or voxels per axis of a ``patch`` (of a transformer: its own), and the ``share`` of patches hidden."""

    examples = ({"patch": 4, "share": 0.5},)
    patch: Count = 16
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25


class Hpm(Options):
    """Patches and the ``share`` of them hidden, as for selfie, and which ones.

    Up to a share ``hardest`` of the hidden ones are those that the teacher expects to be told worst; it rises from 0 in
    ``rise`` steps. ``weight`` is of the loss that teaches to expect. The teacher's ``momentum`` leaves a tenth of its
    distance to 1 by the end. ``temperature`` is not used.
    """

    examples = ({"patch": 4, "rise": 2, "momentum": 0.9},)
    patch: Count = 16
    share: Annotated[float, Field(gt=0, lt=1)] = 0.75
    hardest: Share = 0.5
    rise: Count = 1000
    weight: Annotated[float, Field(ge=0)] = 1.0
    momentum: Momentum = 0.999


class Matryoshka(Options):
    """Numbers of the embedding that do by themselves: ``prefixes``, each smaller than the embedding.

    ``distil`` weighs how far a prefix orders a batch as the whole does. The embedding itself is contrasted:
    ``projection_dim`` and its like are not used.
    """

    examples = ({"prefixes": [2, 4]},)
    prefixes: Annotated[tuple[Count, ...], Field(min_length=1)] = (32, 64, 128)
    distil: Annotated[float, Field(ge=0)] = 1.0


OPTIONS: dict[str, type[Options]] = {"scatsimclr": Scatsimclr, "selfie": Selfie, "hpm": Hpm, "matryoshka": Matryoshka}
