"""The engine: exact per-example gradients of any model; the only place with autograd."""
