"""Where to compute, how much fits there, how long it takes."""
