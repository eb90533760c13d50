"""The model as it is measured: a private copy that computes the user's function."""
