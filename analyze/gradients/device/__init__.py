"""Devices, the memory that fits a measurement, and the time that work takes."""
