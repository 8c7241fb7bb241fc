"""`runner` and `python -m runner`: the way in. `--version` alone needs nothing of what follows."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command and leave with its exit code."""
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        print(f"runner {__version__}")
        return
    from .cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
