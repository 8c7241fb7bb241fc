"""Answers that may be lost, in a folder of the store: each sealed with a key of that store, the oldest make room.

The key is what nobody can foresee who has only put files into a repository: a file that came with one says nothing.
Of the standard library alone, since what is read here stands in place of loading more.
"""

from __future__ import annotations

import contextlib
import hmac
import os

KEPT = 64  # answers of one kind
_LIMIT = 1 << 28  # bytes of an answer
_SEAL = 32  # bytes


def read(place: str) -> bytes | None:
    """Return what was kept at a place, a file in a folder of the store, or None for what has not its seal."""
    with open(place, "rb", opener=_own) as file:  # no link is followed, no pipe waited for
        seal, content = file.read(_SEAL), file.read(_LIMIT) or b""
    return content if hmac.compare_digest(seal, _seal(place, content)) else None


def _own(place: str, flags: int) -> int:
    """Open a file of a cache: no link to a file of others, and no pipe that would be waited for."""
    return os.open(place, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def write(place: str, content: bytes) -> None:
    """Keep an answer; raises OSError where the store may not be written."""
    folder = os.path.dirname(place)
    if os.path.islink(folder):  # it would lead to files that are not ours
        return
    os.makedirs(folder, exist_ok=True)
    for old in sorted(os.scandir(folder), key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)[:-KEPT]:
        with contextlib.suppress(OSError):
            os.unlink(old.path)
    partial = f"{place}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(partial, flags, 0o644), "wb") as file:
            file.write(_seal(place, content) + content)
        os.replace(partial, place)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _seal(place: str, content: bytes) -> bytes:
    """Return a digest keyed by the birth of the store and the machine; answers of one kind are none of another."""
    folder = os.path.dirname(place)
    found = os.stat(f"{os.path.dirname(folder)}/format")
    key = f"{os.path.basename(folder)} {found.st_ino} {found.st_ctime_ns}".encode()
    with contextlib.suppress(OSError), open("/etc/machine-id", "rb") as file:
        key += file.read()
    return hmac.digest(key, content, "sha256")
