"""What each algorithm takes, worked out from shapes alone, and the choice of the least."""
