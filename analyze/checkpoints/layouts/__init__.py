"""One file for each family of layouts: what it looks like on disk, and how it is opened."""
