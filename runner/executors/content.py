"""The bytes of a file: hashed and copied in one pass, holes skipped; and whether anybody could still write to them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import signal
import stat

from .files import CHUNK, at_once, pass_by, write_all
from .processes import libc

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .files import Heed

_PIECE = 1 << 18  # bytes: what the processor's cache holds
_LARGE = 64 << 20  # bytes that the kernel copies before it is asked whether they are still wanted
_ZEROS = memoryview(bytes(_PIECE))
_OVERLAY = 0x794C7630  # of `statfs`


# --- reading ------------------------------------------------------------------------------------------------------


def digest_of(fd: int, size: int, heed: Heed = pass_by, what: str = "") -> str:
    """Return the digest of a file; a small one is read at once, which takes a fifth of the time. While a large one
    is read `heed` is called, to look whether it is still wanted. `what` is what it is told.
    """
    if size < CHUNK:
        content = os.pread(fd, CHUNK, 0)
        if len(content) == size:
            return "sha256:" + hashlib.sha256(content).hexdigest()
    found = hashlib.sha256()
    for _, piece in pieces(fd, size, heed, what):
        found.update(piece)
    return "sha256:" + found.hexdigest()


def pieces(fd: int, size: int, heed: Heed, what: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the bytes of a file, and where they are; each piece is good until the next. Those of a hole are of `_ZEROS`."""
    buffer = memoryview(bytearray(_PIECE))
    for start, end, full in spans(fd, size):
        while start < end:
            left = min(_PIECE, end - start)
            count = os.preadv(fd, [buffer[:left]], start) if full else left
            if not count:
                return  # it was cut meanwhile
            yield start, buffer[:count] if full else _ZEROS[:count]
            start += count
            heed(what, start, size)


def spans(fd: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the parts of a file, from where to where, and whether there is anything but a hole."""
    start = 0
    while start < size:
        try:
            data = min(os.lseek(fd, start, os.SEEK_DATA), size)
            end = min(os.lseek(fd, data, os.SEEK_HOLE), size) if data < size else size
        except OSError as error:
            if error.errno == errno.ENXIO:  # there is nothing from here on
                yield start, size, False
            else:  # not every file system tells
                yield start, size, True
            return
        if start < data:
            yield start, data, False
        if data < size and end <= data:  # somebody has just made a hole there
            end = min(data + CHUNK, size)
        if data < end:
            yield data, end, True
        start = end


def holds(path: str, size: int, digest: str, heed: Heed = pass_by, what: str = "") -> bool:
    """Return whether a file is there with these bytes."""
    try:
        fd = at_once(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        whole = stat.S_ISREG(found.st_mode) and found.st_size == size
        return whole and digest_of(fd, size, heed, what) == digest
    except OSError:
        return False
    finally:
        os.close(fd)


# --- copying ------------------------------------------------------------------------------------------------------


def copy_hashed(old: int, new: int, size: int, heed: Heed, what: str) -> str:
    """Copy a file into an empty one; return the digest of what was copied, even if somebody writes to it meanwhile."""
    found = hashlib.sha256()
    for start, piece in pieces(old, size, heed, what):
        found.update(piece)
        if piece.obj is not _ZEROS.obj:
            os.lseek(new, start, os.SEEK_SET)
            write_all(new, piece)
    os.ftruncate(new, size)
    return "sha256:" + found.hexdigest()


def copy_fast(old: int, new: int, size: int, heed: Heed, what: str) -> None:
    """Copy a file into an empty one, by a reflink where the file system has them."""
    for start, end, full in spans(old, size):
        while full and start < end:
            try:
                done = os.copy_file_range(old, new, min(end - start, _LARGE), start, start)
            except (OSError, AttributeError):  # not every system has it
                done = 0
            if not done:
                copy_hashed(old, new, size, heed, what)
                return
            start += done
            heed(what, start, size)
    os.ftruncate(new, size)


def copy_file(source: str, target: str) -> None:
    """Copy a file to where nothing is yet."""
    with open(source, "rb", buffering=0, opener=at_once) as old, open(target, "xb", buffering=0) as new:
        copy_fast(old.fileno(), new.fileno(), os.fstat(old.fileno()).st_size, pass_by, "")


# --- who else has it ----------------------------------------------------------------------------------------------


def leased(fd: int, kind: int = fcntl.F_RDLCK) -> tuple[bool, os.stat_result]:
    """Make sure that nobody has a file open for writing, or mapped, nor will without our notice until it is closed. Return
    whether that is so, and what the file is now.

    With a read lease (`fd` is open for reading) who wants to write waits until it is closed or some seconds have passed;
    `unbroken` tells whether anybody did. A write lease (`fd` is open for writing) holds up readers, too. Only the owner of a file
    gets one, and not on every file system.
    """
    try:
        # Who breaks a lease has the holder sent a signal: one that is ignored by default, for the usual one ends a process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except OSError:
        return False, os.fstat(fd)
    found = os.fstat(fd)
    return _counts_maps(fd, found.st_dev), found


def unbroken(fd: int) -> bool:
    """Return whether nobody has wanted to write to a file since it was leased."""
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK


def release(fd: int) -> None:
    """Give a lease back before the file is closed."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


_counting: dict[int, bool] = {}  # by device


def _counts_maps(fd: int, device: int) -> bool:
    """Return whether a file that is mapped to be written counts as open: not in an overlay, which maps the file below it."""
    if device not in _counting:
        import ctypes

        found = ctypes.create_string_buffer(256)
        _counting[device] = (
            libc().fstatfs(fd, found) == 0 and int.from_bytes(found.raw[:8], "little") & 0xFFFFFFFF != _OVERLAY
        )
    return _counting[device]
