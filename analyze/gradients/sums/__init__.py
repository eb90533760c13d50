"""What is added up over the batches: sums of cells, Gram matrices, what single examples show."""
