"""The command ``scripts/costs``: measures the algorithms on this CPU and fits their speeds."""
