"""One checkpoint on several ranks: their parts joined, their sums exchanged by columns."""
