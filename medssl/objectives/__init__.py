"""Contrastive objectives as pure functions of embeddings, ids and weights.

Letters: B or N items, T time steps, C or d embedding channels. Everything is computed in float32 at least (also
under autocast), with natural logarithms, as a mean over valid anchors; where no anchor is valid the result is a
zero that still carries a gradient.
"""

from medssl.objectives import anatomy, comet, descriptors, kernels, mochi, pairs, predict, rows, wearable
from medssl.objectives.amcl import adaptive
from medssl.objectives.koleo import koleo
from medssl.objectives.multiview import mv_dhel, mv_info_nce
from medssl.objectives.ntxent import dcl, nt_xent
from medssl.objectives.sogclr import global_contrast
from medssl.objectives.swav import multi_crop, sinkhorn, swav

__all__ = [
    "adaptive",
    "anatomy",
    "comet",
    "dcl",
    "descriptors",
    "global_contrast",
    "kernels",
    "koleo",
    "mochi",
    "multi_crop",
    "mv_dhel",
    "mv_info_nce",
    "nt_xent",
    "pairs",
    "predict",
    "rows",
    "sinkhorn",
    "swav",
    "wearable",
]
