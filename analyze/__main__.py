"""``python -m analyze`` is the command ``analyze``."""

from analyze.cli import main

main()
