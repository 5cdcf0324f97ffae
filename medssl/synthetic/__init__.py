"""Synthetic cohorts with planted truths, planted defects and planted identifiers, in the real file formats."""

from medssl.synthetic.cohort import make
from medssl.synthetic.traits import planted_identifiers

__all__ = ["make", "planted_identifiers"]
