"""An exception -> what this machine or this user has too little of, in one sentence. Loaded only when something was raised."""

from __future__ import annotations

import errno
import os
import sys

_LACKS = {
    errno.EMFILE: ("too many files are open", "allow more by `ulimit -n`, or run with fewer --workers"),
    errno.ENFILE: ("too many files are open on this machine", "end other programs, or raise `fs.file-max`"),
    errno.ENOMEM: ("there is not enough memory", "allow more by `ulimit -v`, or end other programs"),
    errno.EAGAIN: (
        "no more processes or threads can be started",
        "allow more by `ulimit -u`, or run with fewer --workers",
    ),
}


def of(error: BaseException) -> tuple[str, str] | None:
    """Return what is lacking and a remedy, or None where the exception says nothing of the kind."""
    seen: BaseException | None = error
    while seen is not None:
        if (found := _of(seen)) is not None:
            return found
        seen = seen.__cause__ or seen.__context__
    return _of_folder(error)


def _of(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, MemoryError):
        return _LACKS[errno.ENOMEM]
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _LACKS[errno.EAGAIN]
    if isinstance(error, ImportError) and any(
        word in str(error) for word in ("failed to map", "annot allocate memory")
    ):
        return _LACKS[errno.ENOMEM]
    if isinstance(error, ImportError) and "Too many open files" in str(error):
        return _LACKS[errno.EMFILE]
    return _LACKS.get(error.errno or 0) if isinstance(error, OSError) else None


def _of_folder(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except FileNotFoundError:
            return "the current folder is not there any more", "go to a folder of the project first"
    return None


def report(lack: tuple[str, str]) -> int:
    """Print what is lacking; return the exit code."""
    print(f"error: {lack[0]}\n  = help: {lack[1]}", file=sys.stderr, flush=True)
    return 6
