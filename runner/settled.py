"""A command line that found nothing to do -> what it said, while all that it looked at is as it was.

To say that nothing is to be done, `runner apply` and `plan` read the pipeline, the index and past runs. What was found is kept in the
store with the size, inode and times of every file that it stood on: of the project, of the stored results, of the list
of runs. While they are the same, so is the answer. This is what planning trusts, too, when it does not hash a file anew.

The way back is all standard library, and loads nothing of the runner but `caches`: it takes as long as the interpreter and
the stats.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from . import __version__

_LIMIT = 50_000  # files that an answer may stand on
_VARIABLES = ("PATH", "HOME", "VIRTUAL_ENV", "XDG_CONFIG_HOME", "CI", "GITHUB_ACTIONS", "NO_COLOR", "FORCE_COLOR")


def said(args: Sequence[str]) -> str | None:
    """Return what `runner` said to these arguments when it found nothing to do, if it would find that again."""
    try:
        place = _place(args)
        if place is None:
            return None
        import marshal

        from . import caches

        if (content := caches.read(place)) is None:
            return None
        message, there, absent = marshal.loads(content)
        for path, mark in there.items():
            if mark_of(path) != mark:
                return None
        return None if any(os.access(path, os.F_OK) for path in absent) else str(message)
    except (OSError, ValueError, EOFError, TypeError):
        return None  # then it is found out anew


def keep(args: Sequence[str], message: str, files: Iterable[str], stored: Iterable[str], absent: Iterable[str]) -> None:
    """Keep what was said, with what it stands on: files of the project and of the store, and those that are not there."""
    import contextlib
    import marshal
    import time

    from . import caches

    place = _place(args)
    if place is None:
        return
    with contextlib.suppress(OSError):
        now = time.time_ns()
        marks = {}
        # What was touched just now may be written again within the grain of its times; in the store nobody does.
        for paths, grain in ((files, 2_000_000_000), (stored, 50_000_000)):
            for path in paths:
                marks[path] = mark = mark_of(path)
                if now - max(mark[2], mark[3]) < grain or len(marks) > _LIMIT:
                    return
        caches.write(place, marshal.dumps((message, marks, list(absent))))


def mark_of(path: str) -> tuple[int, int, int, int]:
    """Return what changes when a file's bytes do, or a folder's names."""
    found = os.stat(path)
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def plain(args: Sequence[str]) -> tuple[str, str, tuple[str, ...]] | None:
    """Return command, file and parameters of `apply FILE [-p NAME=VALUE]...` and `plan FILE ...`; None of what has other options."""
    if len(args) < 2 or args[0] not in ("apply", "plan") or args[1].startswith("-"):
        return None
    rest = args[2:]
    if any(word not in ("-p", "--param") for word in rest[::2]) or len(rest) % 2:
        return None
    return args[0], args[1], tuple(rest[1::2])


def _place(args: Sequence[str]) -> str | None:
    """Return where the answer is kept; None for what is always found out anew."""
    if plain(args) is None:
        return None
    root = os.path.dirname(os.path.realpath(args[1]))
    while not any(os.path.exists(f"{root}/{name}") for name in ("runner.toml", ".git")):
        if root == (root := os.path.dirname(root)):
            return None
    store = os.environ.get("RUNNER_STORE") or f"{root}/.runner"
    key = _key([os.getcwd(), *args])
    return f"{os.path.abspath(store)}/settled/{key}" if os.path.isdir(store) else None


def _key(parts: list[str]) -> str:
    import hashlib

    variables = [f"{n}={v}" for n, v in os.environ.items() if n in _VARIABLES or n.startswith("RUNNER_")]
    known: list[Any] = [__version__, sys.version, sys.executable, os.geteuid(), *parts, *sorted(variables)]
    return hashlib.sha256(repr(known).encode("utf-8", "surrogateescape")).hexdigest()
