"""Curation: which samples to keep, and on which side of a split their patients are."""
