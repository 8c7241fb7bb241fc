"""The start of a worker process; of the first one before it is known what it will be given.

Its interpreter starts while the runner loads and plans, on another processor. A worker that is given nothing ends with
the runner, whose end of its input closes. Loads nothing but what the interpreter has loaded anyway.
"""

from __future__ import annotations

import os
import sys

_WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker_main.py")
_early: list[tuple[int, int, int]] = []


def start() -> tuple[int, int, int]:
    """Return the pid of a worker, and the file descriptors of its input and its output."""
    if _early:
        return _early.pop()
    its_input, our_output = os.pipe()
    our_input, its_output = os.pipe()
    command = [sys.executable, "-I", "-S", "-X", "utf8", _WORKER]
    files = [(os.POSIX_SPAWN_DUP2, its_input, 0), (os.POSIX_SPAWN_DUP2, its_output, 1)]
    try:
        pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=files, setsid=True)
    finally:
        os.close(its_input)
        os.close(its_output)
    return pid, our_output, our_input


def start_early() -> None:
    """Start the worker that `start` will return first."""
    _early.append(start())
