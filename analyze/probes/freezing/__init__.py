"""Freeze a probe set from the user's own data: examples, their labels, which of them are noisy."""
