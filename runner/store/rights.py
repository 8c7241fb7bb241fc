"""What a user may do with a store, asked before anything is changed; each refusal is one sentence.

A store may be shared. What one user makes in it must not lock another out, and nothing is half done: who may not do the
whole of something does nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable

from ..errors import EnvironmentFailure, StoreDamaged
from .reading import Denied, unreadable

_FOLDERS = ("runs", "objects", "objects/sha256", "trees", "plans", "quarantine", "tmp")
_READ_BY_ALL = ("runs", "objects", "objects/sha256", "trees")
_INDEX = ("index.db", "index.db-wal", "index.db-shm")
_WRITTEN = ("runs", "tmp", "objects/sha256", "trees", "plans", *_INDEX, "claims")


def check(store: str) -> None:
    """Raise StoreDamaged where a folder of the store is none, and Denied where this user may not read the store."""
    for name in _FOLDERS:
        path = f"{store}/{name}"
        try:
            found = os.stat(path)
        except FileNotFoundError:
            _make_again(path)
            continue
        except OSError as error:
            raise unreadable(path, error) from error
        if not stat.S_ISDIR(found.st_mode):
            raise StoreDamaged(f"{path} is not a folder", help="move it away, and bring the folder back from a backup")
        # Of what is this user's own, `runner store verify` says more.
        needed = name in _READ_BY_ALL and (name == "runs" or found.st_uid != os.geteuid())
        if needed and not os.access(path, os.R_OK | os.X_OK):
            raise Denied(name, store)
    if os.path.exists(f"{store}/index.db") and not os.access(f"{store}/index.db", os.R_OK):
        raise Denied("index.db", store)


def _make_again(path: str) -> None:
    """Make a folder that is missing: what it held is reported by who looks for it."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return  # a link that leads nowhere, or another process was faster
    except OSError as error:
        raise StoreDamaged(f"the folder {path} is missing", help="bring it back from a backup") from error


def foreign(path: str) -> bool:
    """Whether what denies this user a path belongs to somebody else: the path, or a folder above it."""
    while True:
        try:
            return os.lstat(path).st_uid != os.geteuid()
        except OSError:
            if path == os.path.dirname(path):
                return True
            path = os.path.dirname(path)


def refuse_unwritable(store: str) -> None:
    """Raise EnvironmentFailure where this user may not write all that a run writes."""
    if not os.access(store, os.W_OK | os.X_OK):
        raise _unwritable(store, store)
    for name in _WRITTEN:
        path = f"{store}/{name}"
        if not os.access(path, os.W_OK) and os.path.exists(path):
            raise _unwritable(store, path)
    refuse_foreign_index(store, "the index is missing, and ")


def _unwritable(store: str, path: str) -> EnvironmentFailure:
    what = "" if path == store else f"{os.path.relpath(path, store)} of "
    with contextlib.suppress(OSError):
        if os.statvfs(store).f_flag & os.ST_RDONLY:
            return EnvironmentFailure(f"the store {store} is on a file system that is read-only")
    return EnvironmentFailure(
        f"this user may not write {what}the store {store}",
        help="ask its owner for the right to write it, or name another store by --store",
    )


def owner(store: str) -> os.stat_result:
    """Return whose index a new one must be: of that which is there or, where there is none, of the store."""
    with contextlib.suppress(OSError):
        return os.lstat(f"{store}/index.db")
    return os.stat(f"{store}/format")


def locks_out(store: str) -> str:
    """Return the user who could not write an index that this user makes, or ""."""
    me = os.geteuid()
    mine = os.stat(f"{store}/format").st_uid
    if me in (0, mine) or (found := owner(store)).st_uid in (me, _uid_of_new(store)):
        return ""  # what root makes is given to the owner
    from .local import login

    return login(found.st_uid)


def _uid_of_new(store: str) -> int:
    """Return who owns what this user makes in the store: some file systems give all to one user."""
    path = f"{store}/tmp/owner-{os.getpid()}"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        uid = os.lstat(path).st_uid
        os.unlink(path)
    except OSError:
        return -1
    return uid


def refuse_foreign_index(store: str, why: str = "") -> None:
    """Raise EnvironmentFailure where a new index would be this user's, and its owner could not write it any more."""
    if why and os.path.exists(f"{store}/index.db"):
        return
    if other := locks_out(store):
        raise EnvironmentFailure(
            f"{why}{other} could not write the store {store} any more if this user rebuilt its index",
            help=f"nothing was changed; let {other} run `runner store reindex`",
        )


def give(path: str, like: os.stat_result) -> None:
    """Make an empty file that belongs to whom the old one belonged, with its mode; one that is there stays."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            os.fchown(fd, like.st_uid, like.st_gid)
        if stat.S_ISREG(like.st_mode) and like.st_mode & 0o600 == 0o600:
            os.fchmod(fd, stat.S_IMODE(like.st_mode) & 0o666)
    except OSError as error:
        os.unlink(path)
        raise EnvironmentFailure(f"{path} cannot be given to its owner: {error.strerror}") from error
    finally:
        os.close(fd)


def refuse_unremovable(store: str, paths: Iterable[str]) -> None:
    """Raise EnvironmentFailure if this user may not remove one of these files and folders: then none is removed."""
    for path in paths:
        if kept := _unremovable(path):
            raise _unwritable(store, kept)


def _unremovable(path: str) -> str:
    """Return the folder that keeps this user from removing what is at `path`, or ""."""
    parent = os.path.dirname(path)
    try:
        found, above = os.lstat(path), os.stat(parent)
    except FileNotFoundError:
        return ""
    except OSError:
        return parent
    sticky = above.st_mode & stat.S_ISVTX and os.geteuid() not in (0, found.st_uid, above.st_uid)
    if sticky or not (above.st_uid == os.geteuid() or os.access(parent, os.W_OK | os.X_OK)):
        return parent
    if not stat.S_ISDIR(found.st_mode):
        return ""
    mine = found.st_uid == os.geteuid()  # its mode is no hindrance
    if not mine and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return path  # a folder that moves is written, also an empty one
    inside = sorted(os.listdir(path)) if os.access(path, os.R_OK) else []
    return next((kept for name in inside if (kept := _unremovable(f"{path}/{name}"))), "")
