"""Model specs to modules; nothing is ever downloaded, and a run card can name no code."""
