"""Evaluation by patient: linear probe, nearest neighbours, fine-tuning, and the controls they are read against."""
