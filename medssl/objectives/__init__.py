"""Contrastive objectives as pure functions of embeddings, ids and weights.

Letters: B or N items, T time steps, C or d embedding channels. Everything is computed in float32 at least (also
under autocast), with natural logarithms, as a mean over valid anchors; where no anchor is valid the result is a
zero that still carries a gradient.
"""

from medssl.objectives import anatomy, comet, descriptors, kernels, pairs, rows, wearable
from medssl.objectives.koleo import koleo
from medssl.objectives.ntxent import dcl, nt_xent
from medssl.objectives.sigreg import sigreg
from medssl.objectives.swav import multi_crop, sinkhorn, swav

__all__ = [
    "anatomy", "comet", "dcl", "descriptors", "kernels", "koleo", "multi_crop", "nt_xent", "pairs", "rows", "sigreg",
    "sinkhorn", "swav", "wearable",
]  # fmt: skip
