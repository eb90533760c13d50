"""Steps, epochs and tokens: what names, files and the user say of them."""
