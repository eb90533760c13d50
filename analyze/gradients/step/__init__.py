"""One batch, forward and backward, under the conditions of a measurement."""
