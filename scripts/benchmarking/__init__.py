"""What measuring costs, against a plain training step and against other tools."""
