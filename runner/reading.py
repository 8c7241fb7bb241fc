"""Read files that a repository names: regular files of a bounded size, which no link leads out of the project.

A pull request may put a link to any file of the machine, a pipe or a folder at a name that the runner opens. Nothing of
them is read, so nothing of them is printed, and nobody waits for a pipe.
"""

from __future__ import annotations

import os
import stat

MARKS = ("runner.toml", ".git")  # what makes a folder the root of a project
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Refused(ValueError):
    """A file that is not read; the text says why."""


def content(path: str, limit: int) -> bytes:
    """Return the bytes of a regular file, at most `limit` + 1 of them; raises Refused for anything else."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise Refused(f"it is {kind_of(mode)}, not a file")
        parts, left = [], limit + 1
        while left and (part := os.read(fd, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def kind_of(mode: int) -> str:
    """Return what something in the file system is, in the user's words."""
    return next((word for is_kind, word in _KINDS if is_kind(mode)), "no regular file")


def within(path: str, root: str) -> bool:
    """Whether a real path is a folder or lies below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def project_above(folder: str) -> str | None:
    """Return the nearest folder, this one or above, that is the root of a project."""
    while not any(os.path.lexists(f"{folder}/{name}") for name in MARKS):
        if folder == os.path.dirname(folder):
            return None
        folder = os.path.dirname(folder)
    return folder


def refuse_outside(path: str) -> None:
    """Raise Refused where a link on the way to a file leads out of the project that the link lies in.

    A link to a folder that lies in no project is the user's own; the file itself must not be a link out of its folder.
    """
    at = "/" if path.startswith("/") else os.getcwd()
    names = [name for name in path.split("/") if name not in ("", ".")]
    for index, name in enumerate(names):
        place = os.path.dirname(at) if name == ".." else os.path.join(at, name)
        if name == ".." or not os.path.islink(place):
            at = place
            continue
        root = project_above(at) or (at if index == len(names) - 1 else None)
        at = os.path.realpath(place)
        if root is not None and not within(at, root):
            raise Refused(f"it leads out of the project {root} through the symlink {name}")
