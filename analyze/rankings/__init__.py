"""Rankings of single examples: which agree, oppose, decide, and what a rank is worth; no torch."""
