"""Units: each checkpoint's measurement in a file of its own, so that a run can be resumed."""
