"""The probes as batches of tensors, and which entries of a tensor belong to which example."""
