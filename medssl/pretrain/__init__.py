"""Pretraining: hierarchical batches from a table, recipes of contrast, a Lightning loop."""
