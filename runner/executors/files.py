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


def write_all(fd: int, content: bytes | memoryview) -> None:
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
