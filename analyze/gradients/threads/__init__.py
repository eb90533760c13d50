"""The batches of one checkpoint, shared among the threads of a processor."""
