"""Results: the tree of labelled data, its file with a seal, and its numbers as rows; no torch."""
