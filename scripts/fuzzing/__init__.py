"""Files of every kind that is read, spoilt on purpose, and what reading them does."""
