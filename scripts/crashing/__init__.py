"""What happens to commands in the crash test: kills at any moment, and faults of the system."""
