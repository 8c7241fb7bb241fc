"""A launch on this machine -> the same in a sandbox of bubblewrap: an argv prefix, the same paths inside.

All is read-only but the attempt's own directory; of the closed folders nothing is there but what the step is given.
It has a process namespace of its own, so its end is the end of all that it started.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..frozen import frozen

PROGRAM = "bwrap"
_BARE = (
    PROGRAM, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL",
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
)  # fmt: skip


@frozen
class Sandbox:
    """How one attempt is run in a sandbox. Paths are absolute."""

    own: str  # the attempt's directory
    readable: tuple[str, ...]  # what of the closed folders is there
    closed: tuple[str, ...]
    network: bool
    writable: tuple[str, ...] = ()  # the project's folder, for a step that works there


def argv(sandbox: Sandbox, command: Iterable[str], cwd: str) -> tuple[str, ...]:
    """Return the argv of bubblewrap."""
    closed = sorted({os.path.realpath(path) for path in sandbox.closed})  # an outer folder before one in it
    readable = sorted({os.path.realpath(path) for path in sandbox.readable})
    return (
        *_BARE, *(() if sandbox.network else ("--unshare-net",)),
        *(part for path in sandbox.writable for part in ("--bind", path, path)),
        *(part for path in closed for part in ("--tmpfs", path)),
        *(part for path in readable for part in ("--ro-bind", path, path)),
        "--bind", sandbox.own, sandbox.own,
        *(part for path in closed for part in ("--remount-ro", path)),
        "--chdir", cwd, "--", *command,
    )  # fmt: skip


PROBE = (*_BARE, "--unshare-net", "--", "true")  # whether it may make its sandboxes here
