"""Processes: forks of this one, and how many of them share the work."""
