"""A call -> the attempt's directory with only what its step declares; and the end of that directory.

Folders and small files are used again for the next attempt.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import stat

from .failed import Failed
from .files import CHUNK, empty, holds, object_path, remove, signature, write_all

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]


def stage(call: Json) -> dict[str, tuple[Any, str]]:
    """Make the attempt's directory with only what the step declares; return the signatures of its inputs."""
    root = call["root"]
    _given.clear()
    if not _emptied:
        os.makedirs(os.path.dirname(root), exist_ok=True)
    make_folder(root)
    made = {root}

    def make(folder: str) -> None:
        if folder not in made:
            make(os.path.dirname(folder))
            make_folder(folder)
            made.add(folder)

    def folder_of(path: str) -> None:
        make(os.path.dirname(path))

    make(call["work"])

    for path, text in call["files"].items():
        write_new(path, text.encode("utf-8", "surrogateescape"), 0o644)
    marks: dict[str, tuple[Any, str]] = {}
    for target, source, digest, mark in call["links"]:
        folder_of(target)
        if digest and copy_small(source, target, digest):
            continue
        try:
            found = signature(source)
        except FileNotFoundError:
            raise Failed("environment", f"{source} is gone") from None
        if mark is not None and found != mark:
            raise Failed("environment", f"{source} has changed since it was planned")
        marks[source] = (found, digest)
        os.symlink(source, target)
    for target, source, digest in call["copies"]:
        folder_of(target)
        copy(source, target, digest)
    for target, manifest, objects in call["trees"]:
        folder_of(target)
        unpack(target, manifest, objects)
    for path in call["folders"]:
        make(path)
    return marks


# Folders that attempts have left empty, and small files that they were given, by mode: each is used for the next. To free
# one is a request to the disk, which a file system mounted with `discard` waits for, and one without a journal passes over
# each number that was freed in the last minute when it looks for a free one. One that differs from a new one is not kept.
_emptied: list[str] = []


_spare: dict[int, list[tuple[str, int]]] = {}  # each with its size


_given: list[tuple[str, tuple[int, ...]]] = []  # the files of the attempt, and what they were


_KEPT = 64


_numbers = itertools.count()


def make_folder(path: str) -> None:
    while _emptied:
        try:
            os.rename(_emptied.pop(), path)
            return
        except FileNotFoundError:
            continue
    os.mkdir(path)


def write_new(path: str, content: bytes, mode: int) -> None:
    """Write a file that is not there yet; `open` would ask four things more of it."""
    if len(content) >= CHUNK or not rewrite(path, content, mode):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(fd, content)
            found = os.fstat(fd)
        finally:
            os.close(fd)
        _given.append((path, (found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_dev)))


def rewrite(path: str, content: bytes, mode: int) -> bool:
    """Let a file of an attempt before be the new one; return whether there was one."""
    spare = _spare.get(mode)
    if not spare:
        return False
    place, size = spare.pop()
    try:
        fd = os.open(place, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_all(fd, content)
            if size > len(content):
                os.ftruncate(fd, len(content))
            found = os.fstat(fd)
        finally:
            os.close(fd)
        os.rename(place, path)
    except (FileNotFoundError, PermissionError):
        return False
    _given.append((path, (found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_dev)))
    return True


def clear(root: str) -> None:
    """Remove an attempt's directory when no process is left in it; keep its folders and small files for the next."""
    kept = f"{os.path.dirname(root)}/emptied-{os.getpid()}"
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(kept)
        new = os.stat(kept)
        fresh = (new.st_mode, new.st_uid, new.st_gid, new.st_dev)
        for path, was in _given:
            _spare_file(path, kept, was)
        empty(root, lambda path: _set_apart(path, kept, fresh, _KEPT + (path == root)))  # its seal is for that folder
    except OSError:
        remove(root)


def _spare_file(path: str, kept: str, was: tuple[int, ...]) -> None:
    """Keep a file in `kept` if it is as it was made, and goes by no other name."""
    try:
        mark = os.lstat(path)
    except OSError:
        return
    spare = _spare.setdefault(stat.S_IMODE(mark.st_mode), [])
    if (
        len(spare) < _KEPT
        and (mark.st_ino, mark.st_mode, mark.st_uid, mark.st_gid, mark.st_dev) == was
        and mark.st_nlink == 1
        and mark.st_size < CHUNK
        and not os.listxattr(path, follow_symlinks=False)
    ):
        place = f"{kept}/{next(_numbers)}"
        os.rename(path, place)
        spare.append((place, mark.st_size))


def _set_apart(path: str, kept: str, fresh: tuple[int, ...], room: int) -> None:
    """Keep an emptied folder in `kept` if it is as a new one; else remove it."""
    mark = os.lstat(path)
    if (
        len(_emptied) < room
        and (mark.st_mode, mark.st_uid, mark.st_gid, mark.st_dev) == fresh
        and not os.listxattr(path)  # nor an access list
    ):
        place = f"{kept}/{next(_numbers)}"
        os.rename(path, place)
        _emptied.append(place)
    else:
        os.rmdir(path)


def copy(source: str, target: str, digest: str) -> None:
    """Copy a file that must still be what the plan saw."""
    try:
        with open(source, "rb") as file:
            content = file.read()
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise Failed("environment", f"{source}: {error.strerror}") from None
    if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
        raise Failed("environment", f"{source} has changed since it was planned")
    with open(target, "wb", opener=lambda p, flags: os.open(p, flags, 0o555 if mode & 0o100 else 0o444)) as file:
        file.write(content)


def copy_small(source: str, target: str, digest: str) -> bool:
    """Copy a stored file that is small, which is cheaper than a link of more than 59 characters: that takes a block of
    the disk, and gives it back. Return whether it was.
    """
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # told by who links it
    try:
        mode, size = os.fstat(fd).st_mode, os.fstat(fd).st_size
        content = os.read(fd, CHUNK) if size < CHUNK and stat.S_ISREG(mode) else None
    finally:
        os.close(fd)
    if content is None or len(content) != size:
        return False
    if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
        raise Failed("environment", f"{source} has not the bytes that were stored", digest)
    write_new(target, content, 0o444)
    return True


def unpack(target: str, manifest: str, objects: str) -> None:
    """Lay out a stored directory as a copy of its own, so that no step can reach the store through it."""
    with open(manifest, encoding="utf-8", errors="surrogateescape") as file:
        entries = json.load(file)["entries"]
    os.mkdir(target)
    for path, kind, content, _ in entries:
        place = os.path.join(target, path)
        if kind == "dir":
            os.makedirs(place, exist_ok=True)
        elif kind == "link":
            os.symlink(content, place)
        else:
            _copy_object(object_path(objects, content), place, kind == "exec")


def _copy_object(source: str, target: str, executable: bool) -> None:
    with (
        open(source, "rb") as old,
        open(target, "wb", opener=lambda p, flags: os.open(p, flags, 0o555 if executable else 0o444)) as new,
    ):
        left = os.fstat(old.fileno()).st_size
        while left > 0:
            try:
                done = os.copy_file_range(old.fileno(), new.fileno(), left)  # a reflink where the file system has them
            except OSError:
                done = 0
            if not done:
                content = old.read()
                new.write(content)
                break
            left -= done


def check_inputs(marks: dict[str, tuple[Any, str]]) -> None:
    """Raise Failed if an input is no longer what it was when the attempt began."""
    for source, (mark, digest) in marks.items():
        try:
            same = signature(source) == mark or (digest and holds(source, os.stat(source).st_size, digest))
        except OSError:
            same = False
        if not same:
            raise Failed("environment", f"its input {source} changed while it ran", digest)
