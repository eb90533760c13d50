"""What a user may write: specs of models and losses, a run card, own Python; no torch."""
