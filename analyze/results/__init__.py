"""Results: the tree of labelled data, its file with a seal, its numbers in rows; no torch."""
