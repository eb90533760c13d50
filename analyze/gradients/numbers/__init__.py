"""Kinds and precisions of numbers."""
