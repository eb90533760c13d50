"""Which files of a directory are checkpoints of one run, and in which order."""
