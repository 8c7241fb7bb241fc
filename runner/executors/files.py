"""What staging, collecting and the store do with files and folders alike."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Called now and then in all that takes long, with what is being done ("hashing o/x"), how many bytes of it are done, and
    # how many there are in all (0: nobody knows). It raises `Failed` to end that.
    Heed = Callable[[str, int, int], None]

CHUNK = 1 << 16


LITTLE_ROOM, FEW_FILES = 16 << 20, 1000  # bytes and files of a disk that may have been full a moment ago


def signature(path: str) -> Any:
    """Return what changes when the bytes at `path` do: of a directory, of all that is in it."""
    found = os.stat(path)
    mark = [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
    if not stat.S_ISDIR(found.st_mode):
        return mark
    import json

    marks = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(os.path.join(folder, name))
                marks.append([name, found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns])
        marks.append([folder, folders])
    return hashlib.sha256(json.dumps(marks).encode("utf-8", "surrogateescape")).hexdigest()


def write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


def at_once(path: str, flags: int) -> int:
    """Open what should be a file, as an opener of `open`: a pipe, which would wait for its other end, is empty."""
    return os.open(path, flags | os.O_NONBLOCK)


def pass_by(what: str = "", done: int = 0, total: int = 0) -> None:
    """Let whatever takes long go on."""


def object_path(objects: str, digest: str) -> str:
    digest = digest[7:]
    return f"{objects}/sha256/{digest[:2]}/{digest}"


def digest_of(fd: int, size: int, heed: Heed = pass_by, what: str = "") -> str:
    """Return the digest of a file; a small one is read at once, which takes a fifth of the time. While a large one
    is read `heed` is called, to look whether it is still wanted.
    """
    if size < CHUNK:
        content = os.read(fd, CHUNK)
        if len(content) == size:
            return "sha256:" + hashlib.sha256(content).hexdigest()
        os.lseek(fd, 0, os.SEEK_SET)
    found, buffer = hashlib.sha256(), memoryview(bytearray(1 << 18))
    done = 0
    with open(fd, "rb", buffering=0, closefd=False) as file:
        while count := file.readinto(buffer):
            found.update(buffer[:count])
            done += count
            heed(what, done, size)
    return "sha256:" + found.hexdigest()


def holds(path: str, size: int, digest: str) -> bool:
    """Return whether a file is there with these bytes."""
    try:
        with open(path, "rb", opener=at_once) as file:
            found = os.fstat(file.fileno())
            return (
                stat.S_ISREG(found.st_mode)
                and found.st_size == size
                and "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == digest
            )
    except OSError:
        return False


def full(path: str, said: str) -> bool:
    """Return whether the disk below a path has no room left, or so little that a step which said so was right then."""
    room, files = free(path)
    told = any(os.strerror(number) in said for number in (errno.ENOSPC, errno.EDQUOT))
    return room < 1 << 16 or not files or (told and (room < LITTLE_ROOM or files < FEW_FILES))


def free(path: str) -> tuple[int, int]:
    """Return the bytes and files that there is still room for on the disk of a path."""
    disk = os.statvfs(path)
    room = disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)  # some is kept for root
    return room, disk.f_favail if disk.f_files else sys.maxsize  # not every file system counts files


def remove(path: str) -> None:
    """Remove a tree, whatever its modes and however deep it is. What cannot be removed stays; a link is not followed."""
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(OSError):
            os.unlink(path)
        return
    with contextlib.suppress(OSError, RecursionError):
        empty(path, os.rmdir)  # no process is left that could swap a folder for a link meanwhile
        return
    folders = [path]
    for folder in folders:  # grows: each that is found is moved up, so that no path gets long
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
            with os.scandir(folder) as found:
                items = list(found)
            for item in items:
                with contextlib.suppress(OSError):
                    if item.is_dir(follow_symlinks=False):
                        os.chmod(item.path, 0o700)  # to be moved
                        place = item.path if folder == path else f"{path}/{len(folders)}.{os.getpid()}"
                        os.rename(item.path, place)
                        folders.append(place)
                    else:
                        os.unlink(item.path)
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def empty(path: str, drop: Callable[[str], None]) -> None:
    """Remove all files of a tree, and drop each folder once it is empty."""
    with os.scandir(path) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                empty(item.path, drop)
            else:
                os.unlink(item.path)
    drop(path)
