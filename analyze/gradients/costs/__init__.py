"""What work costs: counted, and worked out by a few constants of each kind of device; no clock."""
