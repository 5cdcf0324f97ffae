"""Contrastive objectives as pure functions of embeddings, ids and weights.

Letters: B or N items, T time steps, C or d embedding channels. Everything is computed in float32 at least (also
under autocast), with natural logarithms, as a mean over valid anchors; where no anchor is valid the result is a
zero that still carries a gradient.
"""

from medssl.objectives import anatomy, comet, kernels, wearable
from medssl.objectives.koleo import koleo
from medssl.objectives.ntxent import nt_xent

__all__ = ["anatomy", "comet", "kernels", "koleo", "nt_xent", "wearable"]
