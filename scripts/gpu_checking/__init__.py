"""Checks and times a GPU in one go, for somebody who has one: ``scripts/gpu_check``."""
