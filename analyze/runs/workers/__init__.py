"""Workers: processes of this machine that share out the checkpoints of a run."""
