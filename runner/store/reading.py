"""Files of a store, opened as what they should be: plain files of a bounded size, no links, pipes, devices or folders.

A store may have come with somebody else's files. A link would lead to bytes that are not the store's, a pipe would have
to be waited for, and a device may have no end.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

from ..errors import EnvironmentFailure, RunnerError, StoreDamaged

SMALL = 1 << 20  # bytes of a mark, a lock or a number
LARGE = 4 << 30  # bytes of a journal
_LINK, _OTHER = "it is a link", "it is not a plain file"


class Denied(EnvironmentFailure):
    """A part of the store that this user may not read."""

    def __init__(self, path: str, store: str = "") -> None:
        text = f"this user may not read {path}{f' of the store {store}' if store else ''}"
        super().__init__(text, help="ask its owner for the right to read it, or name another store by --store")
        self.path = path


def opened(path: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """Open a plain file; raise OSError, whose text says what is there instead. Waits for nobody."""
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise OSError(errno.EINVAL, _LINK if error.errno == errno.ELOOP else _OTHER, path) from None
        raise
    found = os.fstat(fd).st_mode
    if stat.S_ISREG(found):
        return fd
    os.close(fd)
    raise OSError(errno.EISDIR if stat.S_ISDIR(found) else errno.EINVAL, _OTHER, path)


def content(path: str, limit: int = SMALL) -> bytes:
    """Return the bytes of a plain file; raise OSError where it is none, or larger than `limit`."""
    with open(opened(path), "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit >> 20} MiB", path)
        return file.readall()


def parsed(text: str | bytes) -> Any:
    """Return what a JSON text says; raise ValueError also for what is nested too deeply and for numbers that are none."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


def unreadable(what: str, error: OSError) -> RunnerError:
    """Return what to raise for a part of the store that could not be read: no right, and no room, is no damage."""
    if isinstance(error, PermissionError):
        return Denied(what)
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return EnvironmentFailure(f"{what} cannot be read: {error.strerror}")
    return StoreDamaged(f"{what} cannot be read: {error.strerror}")
