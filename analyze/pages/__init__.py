"""Pages of report and comparison: their skeleton, style, scripts and data; no torch."""
