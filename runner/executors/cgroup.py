"""Bytes and a name -> a cgroup in which the processes of one attempt use no more memory than that, or None.

None where the machine has no memory controller, or may not be asked for it. In cgroup v1 the group is made below the
one that this process is in. In v2 that is impossible but at the root: a group with processes in it cannot limit
groups below it, and nobody's processes are moved to change that. There the group is made beside this process, if the
group above was delegated: by systemd (`Delegate=` with `DelegateSubgroup=`), or as the root of a container that
moved its own processes out of it.

The worker imports it, so it needs nothing but the standard library.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

PATIENCE = 1.0  # seconds that a group may still be busy after the last of its processes was killed


class Group:
    """The cgroup of one attempt."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def procs_path(self) -> str:
        """The file to which a process writes `0` to enter: what it allocates from then on is counted."""
        return f"{self.path}/cgroup.procs"

    def add(self, pid: int) -> None:
        """Move a process in, but not its children; one that has ended is no error. Raise OSError if it may not."""
        try:
            _write(self.procs_path, pid)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        """Kill all its processes at once, where the kernel can (v2, Linux 5.14): none can fork meanwhile."""
        try:
            _write(f"{self.path}/cgroup.kill", 1)
        except OSError:
            pass

    def oom_killed(self) -> bool:
        """Return whether the kernel killed a process in the group for want of memory."""
        for file in ("memory.events", "memory.oom_control"):  # of v2; of v1
            counts = dict(line.split() for line in _read(f"{self.path}/{file}").splitlines())
            if "oom_kill" in counts:
                return counts["oom_kill"] != "0"
        # v1 before Linux 4.13 does not count kills, only how often the limit was met.
        return _read(f"{self.path}/memory.failcnt").strip() not in ("", "0")

    def remove(self) -> None:
        """Remove the group and those that its processes made below it; leave it if processes stay in it."""
        until = time.monotonic() + PATIENCE
        while _busy(self.path) and time.monotonic() < until:
            time.sleep(0.01)


def memory_group(limit: int, name: str) -> Group | None:
    """Make the group `runner-NAME` of at most `limit` bytes, swap included; return None where that cannot be.

    A group that an earlier process left under this name is replaced if it is empty. When the group is out of memory
    the kernel kills all its processes (v2), or one of them (v1, and v2 before Linux 4.19).
    """
    for place in _unified_places():
        files = {"memory.max": limit, "memory.swap.max": 0, "memory.oom.group": 1}
        if group := _make(f"{place}/runner-{name}", files, enable=f"{place}/cgroup.subtree_control"):
            return group
    for _, place in _own("cgroup", "memory"):
        if "oom_kill_disable 1" in _read(f"{place}/memory.oom_control"):
            continue  # a group below it would be stopped at its limit, not killed
        files = {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
        if group := _make(f"{place}/runner-{name}", files):
            return group
    return None


def _make(path: str, files: dict[str, int], enable: str = "") -> Group | None:
    """Make a group and write its limits: the first file must be there, the others may."""
    try:
        if os.path.isdir(path):
            _busy(path)
        os.mkdir(path)
    except (OSError, ValueError):
        return None
    try:
        if enable and "memory" not in _read(enable).split():
            _write(enable, "+memory")  # stays: to take it back would take the limits of other groups
        for number, (file, content) in enumerate(files.items()):
            if not number or os.path.exists(f"{path}/{file}"):
                _write(f"{path}/{file}", content)
    except OSError:
        _busy(path)
        return None
    return Group(path)


def _unified_places() -> Iterator[str]:
    """Yield the place in v2 where a group with a memory limit may be made, if there is one."""
    for mount, own in _own("cgroup2", ""):
        above = os.path.dirname(own)
        if _is_machine_root(own):
            place = own
        elif own != mount and _delegated(above, mount):
            place = above
        else:
            continue
        # To move a process, one must be allowed to write to what is above both its old and its new group.
        movable = os.access(f"{place}/cgroup.procs", os.W_OK)
        if movable and "memory" in _read(f"{place}/cgroup.controllers").split():
            yield place


def _is_machine_root(place: str) -> bool:
    """Return whether a place is the root of v2, which has no state of its own; that of a container has one."""
    return not os.path.exists(f"{place}/cgroup.events")


def _delegated(place: str, mount: str) -> bool:
    """Return whether groups may be made in a place without a word to who manages the others."""
    if place == mount:
        return not _is_machine_root(place)
    try:
        return os.getxattr(place, "user.delegate") == b"1"  # systemd marks them so
    except OSError:
        return False


def _own(system: str, controller: str) -> Iterator[tuple[str, str]]:
    """Yield the mount points of a hierarchy, each with the directory of this process's group below it."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controller not in controllers.split(",") or ".." in group.split("/"):
            continue  # another hierarchy, or a group that is not visible from here
        for mounted in _read("/proc/self/mountinfo").splitlines():
            before, _, after = mounted.partition(" - ")
            root, mount = before.split()[3].rstrip("/"), before.split()[4]
            kind, _, options = after.split(" ")
            fits = kind == system and (not controller or controller in options.split(","))
            if fits and f"{group}/".startswith(f"{root}/"):
                yield mount, (mount + group[len(root) :]).rstrip("/")


def _busy(path: str) -> bool:
    """Remove a group and those below it; return whether processes are still in one of them."""
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except OSError as error:
            return error.errno == errno.EBUSY
    return False


def _read(path: str) -> str:
    """Return a file's text, or nothing if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, content: str | int) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(str(content).encode())
