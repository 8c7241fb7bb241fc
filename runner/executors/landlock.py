"""Folders that are closed, and what in them is open -> a Landlock ruleset; a ruleset -> processes that keep to it.

Landlock only grants: what no rule names is refused. So everything beside the ways from `/` to the closed folders gets
a rule that grants all, and what is open in them a rule of its own. The folders on these ways are in no rule: they can
be passed and looked into by name, but not listed, and nothing is made in them directly.

A stand-alone module of the standard library: the parent of python steps loads it by itself.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import errno
import os
import select
import stat
import struct
import sys
from functools import cache

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

# Rights of files, then of folders; each version of the interface knows some more.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_BLOCK, REFER, TRUNCATE, IOCTL_DEV = 1 << 11, 1 << 13, 1 << 14, 1 << 15
_OF_VERSION = ((1, (1 << 13) - 1), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
# What a process may reach outside of its own ruleset: abstract sockets, other processes by a signal.
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1
_SCOPES_SINCE = 6
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_READ = EXECUTE | READ_FILE | READ_DIR
_CONSOLES = ("tty", "vcs", "vcsa", "vcsu")  # up to 200, and of no use to a step: each would cost every attempt a rule
_OPEN = os.sysconf("SC_OPEN_MAX")  # of that a quarter is for what lies beside, and one for seals
_HELD = max(0, min(256, _OPEN // 4))  # entries that stay open from one attempt to the next

_libc = ctypes.CDLL(None, use_errno=True)
_fast = ctypes.PyDLL(None)  # for calls that are many and do not wait
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_NO_NEW_PRIVILEGES, _CLONE_FS = 38, 0x200
_SET_DUMPABLE, _DROP_BOUNDING, _CAP_SYS_PTRACE = 4, 24, 19


@cache
def version() -> int:
    """Return the version of Landlock that this kernel has; 0 where it has none, or may not be asked for it."""
    if sys.platform != "linux":
        return 0
    found: int = _libc.syscall(_CREATE, None, ctypes.c_size_t(0), 1)
    return max(0, found)


def scopes() -> int:
    """Return which scopes this kernel has: a process in a ruleset with them signals, and connects to abstract sockets of,
    only processes in the same ruleset or in one below it.
    """
    return SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if version() >= _SCOPES_SINCE else 0


def attributes(rights: int, scoped: int) -> bytes:
    """Return the bytes of `struct landlock_ruleset_attr`: rights of files, of the network, scopes.

    A kernel refuses fields that it does not know, even if they are 0 in some versions: only what is used is given.
    """
    return struct.pack("=QQQ", rights, 0, scoped) if scoped else struct.pack("=Q", rights)


class Seal:
    """A ruleset, and a thread of this process that keeps to it: what is started by that thread does so, too.

    That thread is the one of its worker that a step may signal: what stops or kills it does so to the worker, and so to the
    attempt of that step. A thread for each attempt, which ends at once, would be out of reach, and cost each step 5 %.

    In the `closed` folders nothing is open but what is `readable`, and the `writable` one. What is executed is read. A path that is a
    symlink opens what it leads to. Raises OSError where a path is gone.
    """

    def __init__(self, around: _Around, readable: Sequence[str], writable: str) -> None:
        known = sum(rights for since, rights in _OF_VERSION if since <= version())
        given = known & ~MAKE_BLOCK  # the disk that holds a closed folder must not be reached by another name
        self._around = around
        self._files: list[tuple[int, int]] = []  # what each path led to
        self._held: list[int] = []  # open, so that no other file gets the number of one of them
        self._asked, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._begin: Callable[[], Any] | None = None
        self._begun = False
        self._result: Any = None
        self._error: Exception | None = None
        attr = attributes(known, scopes())
        self.ruleset: int = _checked(_libc.syscall(_CREATE, attr, ctypes.c_size_t(len(attr)), 0))
        try:
            add = _fast.syscall
            for rule in around.rules(given):
                add(_ADD, self.ruleset, 1, rule, 0)  # what cannot be opened by a rule stays refused
            keeps = len(readable) < _HELD_BY_SEAL
            for path in readable:
                self._open(path, _READ, keeps)
            self._open(writable, given, keeps)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str, rights: int, keeps: bool) -> None:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            _checked(_libc.syscall(_ADD, self.ruleset, 1, _rule(fd, stat.S_ISDIR(found.st_mode), rights), 0))
            if keeps:
                self._held.append(fd)
                self._files.append((found.st_dev, found.st_ino))
        finally:
            if not keeps:
                os.close(fd)

    def fits(self, around: _Around, paths: Iterable[str]) -> bool:
        """Return whether what is there now, in the same order, is what the ruleset was made for."""
        return self._around is around and self._files == [_file(path) for path in paths]

    def start(self, begin: Callable[[], Any]) -> Any:
        """Return what `begin` does in the thread, which has a working directory of its own.

        Not `threading`: its start waits for the thread once more, which is a millisecond on a busy machine.
        """
        if not self._begun:
            self._asked.acquire()
            self._done.acquire()
            try:
                _thread.start_new_thread(self._serve, ())
            except RuntimeError:
                self._asked.release()
                self._done.release()
                raise OSError(errno.EAGAIN, "no thread can be started (ulimit -u, or no memory)") from None
            self._begun = True
        self._begin = begin
        self._asked.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._result

    def _serve(self) -> None:
        bound = False
        while True:
            self._asked.acquire()
            if self._begin is None:
                return
            self._error = None
            try:
                if not bound:
                    _be_beyond_reach()
                    restrict(self.ruleset)
                    if _libc.unshare(_CLONE_FS):
                        raise OSError("the thread cannot have a working directory of its own")
                    bound = True
                self._result = self._begin()
            except Exception as error:  # raised again by the thread that asked
                self._error = error
            self._done.release()

    def close(self) -> None:
        os.close(self.ruleset)
        for fd in self._held:
            os.close(fd)
        if self._begun:
            self._begin = None
            self._asked.release()


_seals: dict[tuple[tuple[str, ...], ...], Seal] = {}
_SEALS, _HELD_BY_SEAL = 8, max(0, min(32, _OPEN // 4 // 8))


def seal(closed: tuple[str, ...], readable: tuple[str, ...], writable: str) -> Seal:
    """Return the seal for these folders and paths; one that was made for the same files is used again, whatever the
    name of the writable folder is now.
    """
    around = _around(closed)
    key = closed, readable
    found = _seals.pop(key, None)
    if found is not None and not found.fits(around, (*readable, writable)):
        found.close()
        found = None
    while len(_seals) >= _SEALS:
        _seals.pop(next(iter(_seals))).close()
    found = _seals[key] = found or Seal(around, readable, writable)
    return found


def look_around(closed: tuple[str, ...]) -> None:
    """Find the rules of all seals that close these folders, before the first is asked for."""
    with contextlib.suppress(OSError):
        _around(closed)


def restrict(ruleset: int) -> None:
    """Bind this thread, and what it starts from now on, to a ruleset; there is no way back.

    Who may not otherwise do so gives up to gain rights by a program first (set-user-ID).
    """
    if _libc.syscall(_RESTRICT, ruleset, 0) == 0:
        return
    if ctypes.get_errno() == errno.EPERM:
        zero = ctypes.c_ulong(0)
        _checked(_libc.prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), zero, zero, zero))
    _checked(_libc.syscall(_RESTRICT, ruleset, 0))


def _be_beyond_reach() -> None:
    """Keep what this thread starts from looking into this process by it, whose seal is its own: its memory, its pipes.

    Only who may trace everything looks into a process that may not be dumped, and what is started by root may not then.
    """
    zero = ctypes.c_ulong(0)
    # Of this thread and what it starts; refused where it may not be changed.
    _libc.prctl(_DROP_BOUNDING, ctypes.c_ulong(_CAP_SYS_PTRACE), zero, zero, zero)
    _checked(_libc.prctl(_SET_DUMPABLE, zero, zero, zero, zero))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _file(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


# --- what lies beside ---------------------------------------------------------------------------------------------


class _Around:
    """The rules for all that lies beside the ways to closed folders, and when they were found."""

    def __init__(self, closed: tuple[str, ...]) -> None:
        self.version = _table.version()
        self.shut = _shut(closed, _mounts())
        self.ways = {way for path in self.shut for way in _ways(path) if way not in self.shut}
        self.marks = {way: _mark(way) for way in self.ways}  # before they are listed
        self.entries = [entry for way in sorted(self.ways) for entry in self._beside(way)]
        self.held = [(fd, is_dir) for path, is_dir in self.entries[:_HELD] if (fd := _path_fd(path)) >= 0]
        self.packed: list[bytes] = []

    def _beside(self, way: str) -> Iterator[tuple[str, bool]]:
        """Yield each path in a folder that leads to no closed one, and whether it is a folder."""
        try:
            with os.scandir(way) as found:
                for item in found:
                    path = os.path.join(way, item.name)
                    if way == "/dev" and item.name not in _CONSOLES and item.name.rstrip("0123456789") in _CONSOLES:
                        continue
                    if path not in self.shut and path not in self.ways and not item.is_symlink():
                        yield path, item.is_dir(follow_symlinks=False)
        except OSError:
            return  # who cannot list it cannot find what is in it

    def same(self) -> bool:
        return self.version == _table.version() and all(_mark(way) == mark for way, mark in self.marks.items())

    def rules(self, rights: int) -> Iterator[bytes]:
        if not self.packed:
            self.packed = [_rule(fd, is_dir, rights) for fd, is_dir in self.held]
        yield from self.packed
        for path, is_dir in self.entries[_HELD:]:
            fd = _path_fd(path)
            yield _rule(fd, is_dir, rights)
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        for fd, _ in self.held:
            os.close(fd)


_known: dict[tuple[str, ...], _Around] = {}  # listing and opening takes longer than adding the rules


def _around(closed: tuple[str, ...]) -> _Around:
    found = _known.get(closed)
    if found is not None and not found.same():
        found.close()
        found = None
    if found is None:
        found = _known[closed] = _Around(closed)
    return found


def _rule(fd: int, is_dir: bool, rights: int) -> bytes:
    return struct.pack("=Qi", rights if is_dir else rights & _OF_FILES, fd)


def _path_fd(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1


def _mark(folder: str) -> tuple[int, ...]:
    try:
        found = os.stat(folder)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _ways(path: str) -> Iterator[str]:
    """Yield the folders above a path."""
    while path != (path := os.path.dirname(path)):
        yield path


def _shut(closed: Iterable[str], mounts: str) -> set[str]:
    """Return the closed folders, by all names that they have, and for root the disks themselves."""
    real = {os.path.realpath(path) for path in closed}
    return real | set(_aliases(real, mounts)) | (set(_disks()) if os.geteuid() == 0 else set())


class _Table:
    """The table of mounts, which the kernel tells changes of."""

    def __init__(self) -> None:
        self.changes = 0
        self.poll = select.poll()
        self.fd = -1

    def version(self) -> int:
        """Return a number that is another one after each change."""
        if self.fd < 0:
            self.changes += 1  # where the table cannot be watched, it is always another one
            with contextlib.suppress(OSError):
                self.fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
                self.poll.register(self.fd, select.POLLPRI | select.POLLERR)
        self.changes += bool(self.poll.poll(0))
        return self.changes


_table = _Table()


def _mounts() -> str:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _aliases(closed: Iterable[str], mounts: str) -> Iterator[str]:
    """Yield the other paths by which closed folders can be reached: of bind mounts, and of what they hold."""
    # Of a mount: the device, which folder of it, where.
    found = [(fields[2], _plain(fields[3]), _plain(fields[4])) for fields in map(str.split, mounts.splitlines())]
    for path in closed:
        device, root, place = max(
            (mount for mount in found if _below(path, mount[2])), key=lambda mount: len(mount[2]), default=("", "", "/")
        )
        inside = _moved(path, place, root)  # the folder's path on its device
        for other, start, target in found:
            if other == device and _below(inside, start):
                yield _moved(inside, start, target)
            elif other == device and _below(start, inside):
                yield target


def _plain(text: str) -> str:
    """Return a path of the kernel's tables without its escapes."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _moved(path: str, old: str, new: str) -> str:
    """Return the path of what lies below `old` where `new` stands in its place."""
    return os.path.normpath(os.path.join(new, os.path.relpath(path, old)))


def _disks() -> Iterator[str]:
    """Yield the block devices: who may write to the disk below a file system needs no path in it."""
    for folder, _, files in os.walk("/dev"):
        for name in files:
            path = os.path.join(folder, name)
            try:
                if stat.S_ISBLK(os.lstat(path).st_mode):
                    yield path
            except OSError:
                continue
