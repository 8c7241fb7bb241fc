"""The directory of an attempt: made of that of the attempt before, and looked through and kept when the attempt has ended.

To make and to free a file or a folder asks something of the disk: one that is mounted with `discard` is waited for, one
without a journal passes over every number that was freed a moment ago. So a worker keeps one directory. What the next
attempt has in common with it stays where it is, what is called otherwise is renamed, and a small file is written over once
the kernel has confirmed that nobody has it open for writing. What is not as it was made, or was not made by the worker, goes
before the next attempt begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time

from .content import leased
from .files import CHUNK, write_all
from .folders import LISTED, enter, relative, remove, remove_in

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterable

    Mark = tuple[int, ...]  # inode, mode, owner, group and device

_KEPT = 500  # files and folders; a directory with more is made anew
_HELD = min(64, os.sysconf("SC_OPEN_MAX") // 8)  # folders that stay open
_TICK = 10_000_000  # nanoseconds that the times of new files may be behind the clock
_ROOT = os.geteuid() == 0


class Folder:
    """What is in a folder, by name; of each file its mark and its size, or None for one that is only wanted."""

    __slots__ = ("fd", "files", "folders", "inode")

    def __init__(self, inode: int = 0, fd: int = -1) -> None:
        self.inode, self.fd = inode, fd
        self.folders: dict[str, Folder] = {}
        self.files: dict[str, tuple[Mark, int] | None] = {}

    def close(self) -> int:
        """Close it and what is below it; return how many were open."""
        count = sum(inner.close() for inner in self.folders.values())
        if self.fd < 0:
            return count
        os.close(self.fd)
        self.fd = -1
        return count + 1


class Scratch:
    """The directory that one worker uses for its attempts, one after the other.

    All in it is done by descriptors of its folders: a name in it may have become a link.
    """

    def __init__(self) -> None:
        self._root = ""  # of the attempt
        self._kept = ""  # where the directory is between two attempts; empty: there is none
        self._top = Folder()
        self._new: Mark = ()  # mode, owner, group and device of a folder that nobody has changed
        self._folders: dict[str, Folder] = {}  # those of the attempt, by path
        self._held = 0  # of them, those that are open
        self._last = ("", -1)  # one that does not stay open, by path
        self._count = 0
        self._begun, self._now = 0, 0  # when the directory was made first, and when it was looked through

    def lay_out(self, root: str, folders: Iterable[str], files: Iterable[str]) -> None:
        """Make `root` with these folders, and such files only as `write` or `link` is called for. Paths are absolute."""
        wanted = Folder()
        known = {root: wanted}
        for path in folders:
            self._want(path, known)
        for path in files:
            parent, _, name = path.rpartition("/")
            self._want(parent, known).files[name] = None
        self._leave()
        self._folders.clear()
        kept, self._kept, self._root = self._kept, "", root
        try:
            os.rename(kept, root)
            if os.lstat(root).st_ino != self._top.inode:
                raise OSError
            self._fit(root, self._top, wanted)
        except OSError:  # there is none, or it has changed since it was looked through
            with contextlib.suppress(OSError):
                os.rename(root, kept)  # what cannot be removed does not stand in the way
            for path in (kept, root):
                if os.path.lexists(path):
                    remove(path)
            self._begin(root)
            self._fit(root, self._top, wanted)

    def _begin(self, root: str) -> None:
        """Make the directory."""
        self._close()
        self._folders.clear()
        os.makedirs(root)
        fd = os.open(root, LISTED)
        found = os.fstat(fd)
        self._new = (found.st_mode, found.st_uid, found.st_gid, found.st_dev)
        self._top, self._held = Folder(found.st_ino, fd), 1
        self._begun = time.time_ns() - _TICK

    def clear(self) -> None:
        """Remove the directory between two attempts: each worker its own, for this mostly waits for the disk."""
        self._close()
        if self._kept:
            remove(self._kept)

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        self._leave()
        self._held -= self._top.close()

    def _want(self, path: str, known: dict[str, Folder]) -> Folder:
        folder = known.get(path)
        if folder is None:
            parent, _, name = path.rpartition("/")
            folder = known[path] = self._want(parent, known).folders[name] = Folder()
        return folder

    def _at(self, path: str) -> int:
        """Return a descriptor of a folder of the attempt, for as long as no other is asked for."""
        fd = self._folders[path].fd
        if fd >= 0:
            return fd
        if self._last[0] != path:
            self._leave()
            self._last = path, enter(self._top.fd, relative(path, self._root), LISTED)
        return self._last[1]

    def _leave(self) -> None:
        if self._last[1] >= 0:
            os.close(self._last[1])
        self._last = "", -1

    def _fit(self, path: str, has: Folder, wanted: Folder) -> None:
        """Let a folder have what is wanted, of files those only that are there."""
        self._folders[path] = has
        at = self._at(path)
        others = [name for name in has.files if name not in wanted.files]
        for name in wanted.files:
            if others and name not in has.files and name not in has.folders:
                other = others.pop()
                os.rename(other, name, src_dir_fd=at, dst_dir_fd=at)
                has.files[name] = has.files.pop(other)
        for name in others:
            os.unlink(name, dir_fd=at)
            del has.files[name]
        spare = [name for name in has.folders if name not in wanted.folders]
        for name in wanted.folders:
            if name in has.folders:
                continue
            if spare:
                other = spare.pop()
                os.rename(other, name, src_dir_fd=at, dst_dir_fd=at)
                has.folders[name] = has.folders.pop(other)
            else:
                has.folders[name] = self._made(at, name)
        for name in spare:
            remove_in(at, name)
            self._held -= has.folders.pop(name).close()
        for name, inner in wanted.folders.items():
            self._fit(f"{path}/{name}", has.folders[name], inner)

    def _made(self, at: int, name: str) -> Folder:
        os.mkdir(name, dir_fd=at)
        fd = os.open(name, LISTED, dir_fd=at)
        inode = os.fstat(fd).st_ino
        if self._held < _HELD:
            self._held += 1
            return Folder(inode, fd)
        os.close(fd)
        return Folder(inode)

    def place(self, path: str) -> tuple[int, str]:
        """Return the folder that a path is in, for as long as no other is asked for, and its name there."""
        parent, _, name = path.rpartition("/")
        return self._at(parent), name

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a file that was asked for."""
        parent, _, name = path.rpartition("/")
        files, at = self._folders[parent].files, self._at(parent)
        there = files.get(name)
        if there is not None and len(content) < CHUNK and there[0][1] == stat.S_IFREG | mode:
            with contextlib.suppress(OSError):  # even root may not always write to what may only be read
                if _write_over(at, name, content, *there):
                    files[name] = there[0], len(content)
                    return
        if files.pop(name, None) is not None:
            os.unlink(name, dir_fd=at)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=at)
        try:
            write_all(fd, content)
            if len(content) < CHUNK:
                files[name] = _mark(os.fstat(fd)), len(content)
        finally:
            os.close(fd)

    def link(self, path: str, source: str) -> None:
        """Let a file that was asked for be a link."""
        parent, _, name = path.rpartition("/")
        files, at = self._folders[parent].files, self._at(parent)
        if files.pop(name, None) is not None:
            os.unlink(name, dir_fd=at)
        os.symlink(source, name, dir_fd=at)

    def keep(self, reused: bool = True) -> None:
        """Look through the directory when no process of the attempt is left, and keep what is as it was made.

        It is not `reused` after a process in a mount namespace of its own: who has been handed one of its folders by it can go on
        making files there, for what keeps other processes out of a folder is its place, and that namespace has another.
        """
        if not reused:
            self.drop()
            return
        root, kept = self._root, f"{os.path.dirname(self._root)}/kept-{os.getpid()}"
        self._count, self._now = 0, time.time_ns()
        try:
            found = os.lstat(root)
            if self._as_new(self._top, found, self._top.fd) and self._look(root, self._top):
                os.rename(root, kept)
                self._kept = kept
                return
        except OSError:
            pass
        self.drop()

    def drop(self) -> None:
        """Remove the directory of the attempt."""
        self._close()
        if self._root:
            remove(self._root)

    def _look(self, path: str, folder: Folder) -> bool:
        """Remove what is not as it was made; return whether what remains is little enough to be kept."""
        folders: dict[str, Folder] = {}
        files: dict[str, tuple[Mark, int] | None] = {}
        at = self._at(path)
        with os.scandir(at) as listed:
            items = list(listed)
        for item in items:
            name = item.name
            self._count += 1
            if item.is_dir(follow_symlinks=False):
                inner = folder.folders.get(name)
                if inner is not None and self._same(at, name, inner):
                    folders[name] = inner
                    continue
                remove_in(at, name)
                if _is_there(at, name):
                    return False
            elif (made := folder.files.get(name)) is not None and (
                size := self._unchanged(at, name, made[0])
            ) is not None:
                files[name] = made[0], size
            else:
                os.unlink(name, dir_fd=at)
        self._held -= sum(inner.close() for name, inner in folder.folders.items() if name not in folders)
        folder.folders, folder.files = folders, files
        return self._count <= _KEPT and all(self._look(f"{path}/{name}", inner) for name, inner in folders.items())

    def _same(self, at: int, name: str, folder: Folder) -> bool:
        """Return whether a name still is the folder that was made, and as it was made."""
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        if folder.fd >= 0 or found.st_mode != self._new[0]:
            return self._as_new(folder, found, folder.fd)
        fd = os.open(name, LISTED, dir_fd=at)
        try:
            return self._as_new(folder, found, fd)
        finally:
            os.close(fd)

    def _as_new(self, folder: Folder, found: os.stat_result, fd: int) -> bool:
        """Return whether a folder is the one that was made, by all that is told of it."""
        mark = (found.st_mode, found.st_uid, found.st_gid, found.st_dev)
        if mark != self._new or found.st_ino != folder.inode or found.st_size >= CHUNK or os.listxattr(fd):
            return False  # a mount, say, one that has held very many names, one with an access list
        if self._is_odd(found):
            os.utime(fd, ns=(self._now, self._now))
        return True

    def _unchanged(self, at: int, name: str, mark: Mark) -> int | None:
        """Return the size of a small file that is the one of that mark, and goes by no other name; else None."""
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        small = found.st_size < CHUNK and found.st_blocks * 512 <= 2 * CHUNK  # nor has room been reserved for it
        if _mark(found) != mark or found.st_nlink != 1 or not small:
            return None
        if os.listxattr(f"/proc/self/fd/{at}/{name}", follow_symlinks=False):
            return None
        if self._is_odd(found):
            os.utime(name, ns=(self._now, self._now), dir_fd=at, follow_symlinks=False)
        return found.st_size

    def _is_odd(self, found: os.stat_result) -> bool:
        """Return whether a time is to be set, so that none is one that only a step can have set. Of root's files the times are
        set anyhow: that is refused, and the file given up, where root made it immutable.
        """
        times = found.st_atime_ns, found.st_mtime_ns
        return _ROOT or min(times) < self._begun or max(times) > self._now


def _write_over(at: int, name: str, content: bytes, mark: Mark, size: int) -> bool:
    """Write new content to a file that was looked through; return False if somebody may still write to it, too.

    With a write lease nobody else has it open for that, nor mapped, and who held it before has no name for it: another one is
    made otherwise.
    """
    if not mark[1] & 0o200 and not _ROOT:
        shut = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        os.fchmod(shut, stat.S_IMODE(mark[1]) | 0o200)
        os.close(shut)
    fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    try:
        alone, found = leased(fd, fcntl.F_WRLCK)
        if not alone or found.st_ino != mark[0] or found.st_nlink != 1:
            return False
        write_all(fd, content)
        if size > len(content):
            os.ftruncate(fd, len(content))
        if found.st_mode != mark[1]:
            os.fchmod(fd, stat.S_IMODE(mark[1]))
        return True
    finally:
        os.close(fd)


def _is_there(at: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _mark(found: os.stat_result) -> Mark:
    return found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_dev
