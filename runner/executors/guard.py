"""A worker -> the same, with a guard above it: whichever of engine, guard and worker are killed or stopped, the rest clears up.

The guard does nothing until the worker or the engine ends.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal

from .processes import become_subreaper, continue_or_kill, continue_with_parent_s_end, end_all

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

CLEANUP = 60.0  # seconds that the end of a container may take
NO_FORK = 75  # exit code of a guard that can have no worker
_INPUT = 0  # the pipe from the engine: its end is the end of the engine
_LOOK = 0.5  # seconds between two looks at a worker that is to end


def guarded() -> tuple[int, int]:
    """Go on in a child, which gets a pidfd of its guard, and a file for its will: what the guard does if it is killed."""
    become_subreaper()
    continue_with_parent_s_end()
    guard, will = os.pidfd_open(os.getpid()), os.memfd_create("will")
    try:
        worker = os.fork()
    except OSError:
        os._exit(NO_FORK)
    if worker:
        os.close(1)
        _guard(worker, will)
    become_subreaper()  # is not inherited
    continue_with_parent_s_end()
    return guard, will


def _guard(worker: int, will: int) -> NoReturn:
    """Wait for the end of the worker; end what it has left, and end as it did."""
    status = _awaited(worker)
    end_all(frozenset())
    if left := os.pread(will, 1 << 20, 0):
        clean_up(*marshal.loads(left))
    if os.WIFSIGNALED(status):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))  # the engine tells how it ended
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _awaited(worker: int) -> int:
    """Return the wait status of the worker. Once the engine has gone nobody else finds a worker that somebody has stopped."""
    ended = os.pidfd_open(worker)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(_INPUT, 0)  # only that it was closed
    gone = False
    while ended not in (found := [fd for fd, _ in poll.poll(_LOOK * 1000 if gone else None)]):
        if found:
            gone = True
            poll.unregister(_INPUT)
        continue_or_kill(worker, kill=True)
    return os.waitpid(worker, 0)[1]


def clean_up(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """End what is no descendant of this process, and so does not end with it."""
    import subprocess  # of which a worker needs nothing else

    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        null = subprocess.DEVNULL
        subprocess.run(argv, env=env, stdin=null, stdout=null, stderr=null, timeout=CLEANUP)
