"""Checkpoints of a run: find them, order them, read them, fit them to a model."""
