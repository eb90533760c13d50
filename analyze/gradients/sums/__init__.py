"""Numbers added up over the batches: sums of cells, Gram matrices, records of single examples."""
