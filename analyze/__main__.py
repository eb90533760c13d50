"""The program: ``analyze``, and ``python -m analyze``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is imported, too, leaves no traceback."""
    try:
        from analyze.cli import main as command
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)  # as ``analyze.cli.options`` has it, which may not be there yet
    command()


if __name__ == "__main__":
    main()
