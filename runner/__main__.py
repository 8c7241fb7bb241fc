"""`runner` and `python -m runner`: the way in. What needs little of what follows is answered before it is loaded."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a command and leave with its exit code."""
    args = sys.argv[1:]
    open_streams()
    if args == ["--version"]:
        from . import __version__

        print(f"runner {__version__}")
        return
    if args[:1] in (["apply"], ["plan"]):
        from .settled import said

        if (message := said(args)) is not None:
            print(message)
            return
    if args[:1] in (["apply"], ["retry"], ["resume"]) and not {"--help", "--print"}.intersection(args):
        from .executors.forkserver import start_early

        start_early()
    import atexit
    import contextlib

    from .cli import run

    code = run(args)
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the reader has gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # taking the interpreter down would take 10 ms, and do nothing more


def open_streams() -> None:
    """Let no file or pipe get the number of a standard stream that is closed: what is printed would go there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, "w" if number else "r", closefd=False))  # noqa: SIM115 (as long as the program)


if __name__ == "__main__":
    main()
