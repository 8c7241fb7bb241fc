"""What this machine and the project's store have -> one line a thing: fine, worth knowing, or in the way, with its remedy.

Nothing is kept: what is tried out in the store's `tmp` is removed at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator

from . import __version__
from .errors import RunnerError
from .executors import cgroup, landlock
from .frozen import frozen
from .store import rights
from .store.local import LocalStore

LEAST_BYTES, LEAST_INODES = 1 << 30, 10_000  # below these a person should know
_FICLONE = 0x40049409
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "lustre"}


@frozen
class Check:
    """One thing that was looked at: `ok`, `warn` (works, with less) or `fail`."""

    name: str
    status: str
    text: str
    remedy: str = ""


def examine(path: str) -> Iterator[Check]:
    """Yield what was found of the machine, then of the store at `path`, which need not be there."""
    yield Check("runner", "ok", f"{__version__}, Python {platform.python_version()}, {sys.executable}")
    yield _system()
    yield _landlock()
    yield _bubblewrap()
    yield _memory()
    yield _program("container engine", ("docker", "podman"), "steps in containers need docker or podman")
    yield _program("uv", ("uv",), "environments from a requirements file are made faster, and some only, by uv")
    yield from _store(path)


def failed(checks: list[Check]) -> bool:
    """Whether something is in the way."""
    return any(check.status == "fail" for check in checks)


# the machine


def _system() -> Check:
    text = f"{platform.system()} {platform.release()}, {platform.machine()}, {len(os.sched_getaffinity(0))} processors"
    if sys.platform != "linux":
        return Check(
            "system", "warn", text, "on Linux all processes of a step are found and ended; here some may escape"
        )
    return Check("system", "ok", text)


def _landlock() -> Check:
    if abi := landlock.version():
        if landlock.scopes():
            return Check("Landlock", "ok", f"ABI {abi}, scopes: abstract sockets, signals")
        remedy = "from Linux 6.12 on (ABI 6) a sandboxed step can signal only its own processes"
        return Check("Landlock", "ok", f"ABI {abi}, no scopes", remedy)
    return Check("Landlock", "warn", "none", "a kernel from 5.13 on, with `landlock` among its `lsm=`, has it")


def _bubblewrap() -> Check:
    program = shutil.which("bwrap")
    if program is None:
        return Check(
            "bubblewrap", "warn", "none", "install bubblewrap: processes that a step leaves are then surely ended"
        )
    try:
        done = subprocess.run(
            [program, "--ro-bind", "/", "/", "--unshare-pid", "true"], capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("bubblewrap", "warn", f"{program} cannot be started: {error}", "reinstall it")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it failed"]
        return Check("bubblewrap", "warn", f"{program}: {said[0]}", "allow unprivileged user namespaces")
    return Check("bubblewrap", "ok", program)


def _memory() -> Check:
    group = cgroup.memory_group(64 << 20, f"doctor-{os.getpid()}")
    if group is None:
        remedy = "delegate the memory controller (systemd: Delegate=yes); until then `resources.memory` only plans"
        return Check("memory limits", "warn", "no cgroup with a memory controller may be made", remedy)
    group.remove()
    return Check("memory limits", "ok", f"cgroups below {os.path.dirname(group.path)}")


def _program(name: str, programs: tuple[str, ...], remedy: str) -> Check:
    found = next(filter(None, map(shutil.which, programs)), None)
    return Check(name, "ok", found) if found else Check(name, "warn", "none", remedy)


# the store


def _store(path: str) -> Iterator[Check]:
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    try:
        store = LocalStore(path, create=False)
    except (RunnerError, OSError) as error:
        yield Check("store", "fail", getattr(error, "text", str(error)), getattr(error, "help", ""))
        return
    writable = os.access(there, os.W_OK | os.X_OK)
    if not store.exists:
        status = "ok" if writable else "fail"
        yield Check("store", status, f"there is none yet at {path}", "" if writable else f"allow writing in {there}")
    else:
        yield _rights(path)
        yield _index(store)
    yield _space(there)
    yield _file_system(path if store.exists else there, store.exists and writable)


def _rights(path: str) -> Check:
    try:
        rights.refuse_unwritable(path)
    except RunnerError as error:
        return Check(
            "store", "fail", f"{path}, format 1: {error.text}", f"{error.help}; runs, show, logs, plan need none"
        )
    return Check("store", "ok", f"{path}, format 1")


def _index(store: LocalStore) -> Check:
    remedy = "`runner store reindex` makes it anew; `runner store verify` says more"
    try:
        rows = {run for (run,) in store.rows("SELECT id FROM runs WHERE summary IS NOT NULL")}
    except Exception as error:  # whatever SQLite says of a file that is none
        return Check("index", "fail", f"it cannot be read: {error}", remedy)
    if store.notices:
        return Check("index", "warn", store.notices.pop())
    broken, there = [], set()
    for id in sorted(store.folders()):
        try:
            if store.run(id) is not None:
                there.add(id)
        except RunnerError:
            broken.append(id)
    if broken:
        text = f"the journals of {len(broken)} runs cannot be read: {', '.join(broken[:3])}"
        return Check("journals", "fail", text, "`runner store verify` lists all damage, --repair puts it aside")
    if rows != there:
        return Check(
            "index", "warn", f"{len(there - rows)} runs are missing in it, {len(rows - there)} too many", remedy
        )
    return Check("index", "ok", f"{len(rows)} runs, as the journals say")


def _space(path: str) -> Check:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    text = f"{free / (1 << 30):.1f} GiB, {f'{found.f_favail} inodes' if found.f_files else 'inodes without limit'}"
    low = free < LEAST_BYTES or (found.f_files and found.f_favail < LEAST_INODES)
    return Check(
        "free space", "warn" if low else "ok", text, "`runner store gc --keep-last N` makes room" if low else ""
    )


def _file_system(path: str, probe: bool) -> Check:
    kind = file_system(path)
    clones = f", {'reflinks' if _reflinks(path) else 'no reflinks: files are copied'}" if probe else ""
    if kind in ("tmpfs", "ramfs"):
        return Check(
            "file system", "warn", kind + clones, "it is gone with the next start of the machine: move the store"
        )
    if kind in _REMOTE:
        return Check(
            "file system", "warn", kind + clones, "locks and SQLite are not sure there: keep the store on a local disk"
        )
    return Check("file system", "ok", kind + clones)


def file_system(path: str) -> str:
    """Return the type of the file system that a path is on."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.split()[2] == wanted:
                return line.partition(" - ")[2].split()[0]
    return "unknown"


def _reflinks(store: str) -> bool:
    """Whether files of the store can share their blocks."""
    old, new = (f"{store}/tmp/doctor-{os.getpid()}-{n}" for n in (1, 2))
    try:
        with open(old, "wb") as source, open(new, "wb") as target:
            source.write(b"x" * 4096)
            source.flush()
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        return True
    except OSError:
        return False
    finally:
        for path in (old, new):
            with contextlib.suppress(OSError):
                os.unlink(path)
