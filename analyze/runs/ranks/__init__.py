"""A run on the ranks of a launch by torchrun: one leads, the others do what it says."""
