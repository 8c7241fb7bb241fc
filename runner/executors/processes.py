"""A process and all that descends from it: found, told, ended and collected (Linux only)."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator, Set
    from typing import Any


@functools.cache
def libc() -> Any:
    """Return the C library: what Python has no word for."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Let orphans of a step become children of this process (Linux only)."""
    if sys.platform == "linux":
        libc().prctl(36, 1, 0, 0, 0)


def ready(fd: int, seconds: float, events: int = select.POLLIN) -> bool:
    """Wait until a file can be read (or what `events` asks for), whatever its number; return whether it can."""
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(seconds * 1000))


def continue_with_parent_s_end() -> None:
    """Let this process be continued when its parent ends: somebody may have stopped it, and it has to clear up (Linux only)."""
    if sys.platform == "linux":
        libc().prctl(1, int(signal.SIGCONT), 0, 0, 0)


def state(pid: int) -> str:
    """Return the letter that the kernel has for what a process does: `T` is stopped, `t` traced, `Z` dead; "" is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def continue_or_kill(pid: int, kill: bool, traced: bool = False) -> bool:
    """Continue a process that somebody has stopped (SIGSTOP), or kill it; return whether it was stopped. With `traced` also
    one that a debugger holds.
    """
    states = ("T", "t") if traced else ("T",)
    if state(pid) not in states:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    held = state(pid) in states  # it is this one, not another that got its number meanwhile: the pidfd would be dead
    if held:
        send(pidfd, signal.SIGKILL if kill else signal.SIGCONT)
    os.close(pidfd)
    return held


def children(of: int | None = None) -> list[int]:
    """Return the processes whose parent is this one."""
    if not _LISTED:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent(pid) == (of or os.getpid())]
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{of or 'self'}/task"):
            with open(f"/proc/{of or 'self'}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


_LISTED = os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # not every kernel lists them


def parent(pid: int) -> int:
    """Return the parent of a process, 0 if it has gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def descendants() -> Iterator[int]:
    """Yield all that descends from this process, the youngest child first: what forks again and again lives for a moment,
    and leaves a hundred dead that would be looked at before it.
    """
    todo = children()
    while todo:
        pid = todo.pop()
        yield pid
        todo += children(pid)


def send(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, number)


def send_all(spare: Set[int], number: int) -> set[int]:
    """Signal every descendant but `spare`; return which there were. Each is held first and then looked at again: a number
    may change hands.
    """
    found = set()
    for pid in descendants():
        found.add(pid)
        if pid in spare:
            continue
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        if _is_below(pid):
            send(pidfd, number)
        os.close(pidfd)
    return found


def _is_below(pid: int) -> bool:
    """Return whether a process descends from this one."""
    while pid > 1 and pid != os.getpid():
        pid = parent(pid)
    return pid == os.getpid()


def kill_all(spare: Set[int]) -> None:
    """Kill every descendant but `spare`, and at once what these have forked meanwhile."""
    for _ in range(100):
        if send_all(spare, signal.SIGKILL) >= set(descendants()):
            return


def childless() -> bool:
    """Return whether no descendant is left: whose parent ends becomes a child of this process, the subreaper."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def reap(spare: Set[int]) -> tuple[list[int], bool]:
    """Collect ended children but those of `spare`; return the pids that are still there, and whether there were any.

    Where all of them have ended it must be looked again: the last may have started another after it was listed.
    """
    left = [pid for pid in descendants() if pid not in spare]
    alive = []
    for pid in left:
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = 0 if os.path.exists(f"/proc/{pid}") else pid
        if not done:
            alive.append(pid)
    return alive, bool(left)


def end_all(spare: Set[int]) -> None:
    """Kill every descendant but `spare`, until none is found twice."""
    empty = 0
    while empty < 2:
        kill_all(spare)
        alive, found = reap(spare)
        if alive and not any(map(_may_end, alive)):
            return  # programs with the rights of another user (sudo): they can only be waited for
        empty = 0 if found else empty + 1
        if alive:
            time.sleep(0.005)


def _may_end(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def tell_program(main: int, pidfd: int, number: int) -> None:
    """Signal the step's program: bubblewrap, which starts it for us, hands no signal on."""
    inside = children(main) if main else []
    own = children(inside[0]) if inside else []
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(own[0]) if own and _is_below(own[0]) else os.dup(pidfd)
        send(pidfd, number)
        os.close(pidfd)
