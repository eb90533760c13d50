"""Checkpoints measured by the machines of a cluster, by Ray; imported with ``--cluster`` only."""
