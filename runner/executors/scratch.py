"""The directory of an attempt: made of that of the attempt before, and looked through and kept when the attempt has ended.

To make and to free a file or a folder asks something of the disk: one that is mounted with `discard` is waited for, one
without a journal passes over every number that was freed a moment ago. So a worker keeps one directory. What the next
attempt has in common with it stays where it is, what is called otherwise is renamed, and a small file is written over.
What is not as it was made, or was not made by the worker, goes before the next attempt begins.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from .files import CHUNK, remove, write_all

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterable

    Mark = tuple[int, ...]  # inode, mode, owner, group and device

_KEPT = 500  # files and folders; a directory with more is made anew
_TICK = 10_000_000  # nanoseconds that the times of new files may be behind the clock
_ROOT = os.geteuid() == 0


class Folder:
    """What is in a folder, by name; of each file its mark and its size, or None for one that is only wanted."""

    __slots__ = ("files", "folders", "inode")

    def __init__(self, inode: int = 0) -> None:
        self.inode = inode
        self.folders: dict[str, Folder] = {}
        self.files: dict[str, tuple[Mark, int] | None] = {}


class Scratch:
    """The directory that one worker uses for its attempts, one after the other."""

    def __init__(self) -> None:
        self._root = ""  # of the attempt
        self._kept = ""  # where the directory is between two attempts; empty: there is none
        self._top = Folder()
        self._new: Mark = ()  # mode, owner, group and device of a folder that nobody has changed
        self._folders: dict[str, Folder] = {}  # those of the attempt, by path
        self._count = 0
        self._begun, self._now = 0, 0  # when the directory was made first, and when it was looked through

    def lay_out(self, root: str, folders: Iterable[str], files: Iterable[str]) -> None:
        """Make `root` with these folders, and such files only as `write` or `leave_out` is called for. Paths are absolute."""
        wanted = Folder()
        known = {root: wanted}
        for path in folders:
            self._want(path, known)
        for path in files:
            parent, _, name = path.rpartition("/")
            self._want(parent, known).files[name] = None
        self._folders.clear()
        kept, self._kept, self._root = self._kept, "", root
        try:
            os.rename(kept, root)
            self._fit(root, self._top, wanted)
        except OSError:  # there is none, or it has changed since it was looked through
            with contextlib.suppress(OSError):
                os.rename(root, kept)  # what cannot be removed does not stand in the way
            for path in (kept, root):
                if os.path.lexists(path):
                    remove(path)
            os.makedirs(root)
            found = os.stat(root)
            self._new = (found.st_mode, found.st_uid, found.st_gid, found.st_dev)
            self._top = Folder(found.st_ino)
            self._begun = time.time_ns() - _TICK
            self._fit(root, self._top, wanted)

    def clear(self) -> None:
        """Remove the directory between two attempts: each worker its own, for this mostly waits for the disk."""
        if self._kept:
            remove(self._kept)

    def _want(self, path: str, known: dict[str, Folder]) -> Folder:
        folder = known.get(path)
        if folder is None:
            parent, _, name = path.rpartition("/")
            folder = known[path] = self._want(parent, known).folders[name] = Folder()
        return folder

    def _fit(self, path: str, has: Folder, wanted: Folder) -> None:
        """Let a folder have what is wanted, of files those only that are there."""
        self._folders[path] = has
        others = [name for name in has.files if name not in wanted.files]
        for name in wanted.files:
            if others and name not in has.files and name not in has.folders:
                other = others.pop()
                os.rename(f"{path}/{other}", f"{path}/{name}")
                has.files[name] = has.files.pop(other)
        for name in others:
            os.unlink(f"{path}/{name}")
            del has.files[name]
        spare = [name for name in has.folders if name not in wanted.folders]
        for name, inner in wanted.folders.items():
            place = f"{path}/{name}"
            if name not in has.folders:
                if spare:
                    other = spare.pop()
                    os.rename(f"{path}/{other}", place)
                    has.folders[name] = has.folders.pop(other)
                else:
                    os.mkdir(place)
                    has.folders[name] = Folder(os.stat(place).st_ino)
            self._fit(place, has.folders[name], inner)
        for name in spare:
            remove(f"{path}/{name}")
            del has.folders[name]

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a file that was asked for."""
        parent, _, name = path.rpartition("/")
        files = self._folders[parent].files
        there = files.get(name)
        if there is not None and len(content) < CHUNK and there[0][1] == stat.S_IFREG | mode:
            with contextlib.suppress(OSError):  # even root may not always write to what may only be read
                self._write_over(path, content, there[1], mode)
                files[name] = there[0], len(content)
                return
        self.leave_out(path)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(fd, content)
            if len(content) < CHUNK:
                files[name] = _mark(os.fstat(fd)), len(content)
        finally:
            os.close(fd)

    def _write_over(self, path: str, content: bytes, size: int, mode: int) -> None:
        shut = not mode & 0o200 and os.geteuid() != 0
        if shut:
            os.chmod(path, mode | 0o200)
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_all(fd, content)
            if size > len(content):
                os.ftruncate(fd, len(content))
            if shut:
                os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def leave_out(self, path: str) -> None:
        """Let there be nothing where a file was asked for."""
        parent, _, name = path.rpartition("/")
        if self._folders[parent].files.pop(name, None) is not None:
            os.unlink(path)

    def keep(self) -> None:
        """Look through the directory when no process of the attempt is left, and keep what is as it was made."""
        root, kept = self._root, f"{os.path.dirname(self._root)}/kept-{os.getpid()}"
        self._count, self._now = 0, time.time_ns()
        try:
            if self._as_new(root, self._top) and self._look(root, self._top):
                os.rename(root, kept)
                self._kept = kept
                return
        except OSError:
            pass
        remove(root)

    def _look(self, path: str, folder: Folder) -> bool:
        """Remove what is not as it was made; return whether what remains is little enough to be kept."""
        folders: dict[str, Folder] = {}
        files: dict[str, tuple[Mark, int] | None] = {}
        with os.scandir(path) as found:
            items = list(found)
        for item in items:
            name, place = item.name, f"{path}/{item.name}"
            self._count += 1
            if item.is_dir(follow_symlinks=False):
                inner = folder.folders.get(name)
                if inner is not None and self._as_new(place, inner):
                    if not self._look(place, inner):
                        return False
                    folders[name] = inner
                else:
                    remove(place)
                    if os.path.lexists(place):
                        return False
            elif (made := folder.files.get(name)) is not None and (size := self._unchanged(place, made[0])) is not None:
                files[name] = made[0], size
            else:
                os.unlink(place)
        folder.folders, folder.files = folders, files
        return self._count <= _KEPT

    def _as_new(self, path: str, folder: Folder) -> bool:
        """Return whether a folder is the one that was made, by all that is told of it."""
        found = os.lstat(path)
        mark = (found.st_mode, found.st_uid, found.st_gid, found.st_dev)
        if mark != self._new or found.st_ino != folder.inode or found.st_size >= CHUNK or os.listxattr(path):
            return False  # a mount, say, one that has held very many names, one with an access list
        self._set_time(path, found)
        return True

    def _unchanged(self, path: str, mark: Mark) -> int | None:
        """Return the size of a small file that is the one of that mark, and goes by no other name; else None."""
        found = os.lstat(path)
        small = found.st_size < CHUNK and found.st_blocks * 512 <= 2 * CHUNK  # nor has room been reserved for it
        if _mark(found) != mark or found.st_nlink != 1 or not small or os.listxattr(path, follow_symlinks=False):
            return None
        self._set_time(path, found)
        return found.st_size

    def _set_time(self, path: str, found: os.stat_result) -> None:
        """Let no time be one that only a step can have set. Of root's files the times are set anyhow: that is refused, and
        the file given up, where root made it immutable.
        """
        times = found.st_atime_ns, found.st_mtime_ns
        if _ROOT or min(times) < self._begun or max(times) > self._now:
            os.utime(path, ns=(self._now, self._now))


def _mark(found: os.stat_result) -> Mark:
    return found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_dev
