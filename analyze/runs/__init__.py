"""One run: what is to be measured, the loop over its checkpoints, their units, the results."""
