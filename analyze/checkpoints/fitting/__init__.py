"""A checkpoint's tensors in a model: all of them, or a message that says what to type."""
