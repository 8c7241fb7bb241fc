"""What lies below a folder, reached by descriptors: no name on the way may be a link, whoever has put it there.

A step may leave a link, a pipe or a folder under any name that it can reach, and a process that has been handed a descriptor of
a folder may swap names at any time. Who opens, renames or removes something there names it within a folder that is open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from types import TracebackType

# A folder, to be listed; one that is only gone through need not be readable.
LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PASSED = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEP = 40  # folders below one another that are open at a time while a tree is removed


def enter(folder: int, path: str, flags: int = PASSED) -> int:
    """Open a folder below an open one, component by component; ELOOP where one of them is a link."""
    inner = -1
    try:
        for name in path.split("/"):
            outer = folder if inner < 0 else inner
            if name == "..":  # a process may move the folder that it leaves
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            try:
                found = os.open(name, flags, dir_fd=outer)
            except NotADirectoryError:
                if stat.S_ISLNK(os.stat(name, dir_fd=outer, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                raise
            if inner >= 0:
                os.close(inner)
            inner = found
    except BaseException:
        if inner >= 0:
            os.close(inner)
        raise
    return inner


class Inside:
    """An open folder, and of the folders below it the one that was asked for last."""

    def __init__(self, top: int, flags: int = PASSED) -> None:
        self.top, self.flags = top, flags
        self._path, self._fd = "", -1

    def __enter__(self) -> Inside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        os.close(self.top)

    def folder(self, path: str) -> int:
        """Return a descriptor of the folder at a relative path, for as long as no other is asked for; "" is the top."""
        if not path:
            return self.top
        if path != self._path or self._fd < 0:
            self._leave()
            self._fd = enter(self.top, path, self.flags)
            self._path = path
        return self._fd

    def place(self, path: str) -> tuple[int, str]:
        """Return the folder that a relative path is in, and its name there."""
        folder, _, name = path.rpartition("/")
        return self.folder(folder), name

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def relative(path: str, folder: str) -> str:
    """Return an absolute path as it is called below a folder, without dots."""
    if path.startswith(f"{folder}/") and "/." not in path and "//" not in path:
        return path[len(folder) + 1 :]
    return os.path.relpath(path, folder)


# --- removing -----------------------------------------------------------------------------------------------------


def remove(path: str) -> None:
    """Remove a tree, whatever its modes and however deep it is. What cannot be removed stays; a link is not followed."""
    parent, name = os.path.split(os.path.normpath(path))
    with contextlib.suppress(OSError):
        folder = os.open(parent or ".", PASSED & ~os.O_NOFOLLOW)
        try:
            remove_in(folder, name)
        finally:
            os.close(folder)


def remove_in(folder: int, name: str) -> None:
    """Remove what has a name in an open folder, as `remove` does."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except FileNotFoundError:
        return
    except OSError:
        pass  # a folder, or what may not be removed
    top = _listed(folder, name)
    if top < 0:
        return
    try:
        while _empty(top, top, 1):  # again, for the folders that were moved up
            pass
    finally:
        os.close(top)
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=folder)


def _empty(folder: int, top: int, depth: int) -> bool:
    """Remove what is in an open folder; return whether a folder that lies deep was moved up to `top`."""
    moved = False
    if os.fstat(folder).st_mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):
            os.fchmod(folder, 0o700)
    with os.scandir(folder) as found:
        items = [(item.name, item.is_dir(follow_symlinks=False)) for item in found]
    for name, is_folder in items:
        with contextlib.suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
            elif depth < _DEEP:
                moved |= _remove_folder(folder, name, top, depth + 1)
            else:
                _move_up(folder, name, top)
                moved = True
    return moved


def _move_up(folder: int, name: str, top: int) -> None:
    fd = _listed(folder, name)
    try:
        os.fchmod(fd, 0o700)  # what is moved gets another parent, which is written into it
    finally:
        os.close(fd)
    os.rename(name, os.urandom(16).hex(), src_dir_fd=folder, dst_dir_fd=top)


def _remove_folder(folder: int, name: str, top: int, depth: int) -> bool:
    fd = _listed(folder, name)
    if fd < 0:
        return False
    try:
        moved = _empty(fd, top, depth)
    finally:
        os.close(fd)
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=folder)
    return moved


def _listed(folder: int, name: str) -> int:
    """Open a folder to list it, whatever its mode; -1 if that cannot be."""
    try:
        return os.open(name, LISTED, dir_fd=folder)
    except PermissionError:
        pass
    except OSError:
        return -1
    with contextlib.suppress(OSError):
        passed = os.open(name, PASSED, dir_fd=folder)
        try:
            os.chmod(f"/proc/self/fd/{passed}", 0o700)  # of what is open, whatever has that name by now
            return os.open(name, LISTED, dir_fd=folder)
        finally:
            os.close(passed)
    return -1
