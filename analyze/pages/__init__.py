"""What report and comparison share as pages: skeleton, style, scripts, data; no torch."""
