"""The last words of a failed step -> the line of the pipeline that would have given it what it missed (best effort).

Only the step itself is told what it was refused; what it prints of that is all that can be known. A path is named
where the project has it and the step does not declare it, or where nothing but the seal is known to be in the way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Set

from .frozen import frozen

_MISSED = re.compile(r"no such file|enoent|cannot find|could not find", re.I)
_REFUSED = re.compile(r"permission denied|eacces|read-only file system|erofs", re.I)
_MODULE = re.compile(r"No module named '([\w.]+)'")
# A path in quotes, or what stands between blanks and colons.
_PATH = re.compile(r"'([^'\n]+)'|\"([^\"\n]+)\"|\u2018([^\u2019\n]+)\u2019|([^\s'\"():,]+)")
_CODE = (".py", ".sh", ".R", ".r", ".jl", ".pl", ".sql", ".js", ".mjs", ".ipynb", ".so")
_SHOWN = 3


@frozen
class Attempt:
    """Where an attempt was. Paths are absolute and real."""

    root: str  # of the project
    base: str  # location of the pipeline's folder
    store: str
    scratch: str  # the attempt's own directory
    declared: Set[str]  # locations
    sealed: bool


def hints(tail: str, attempt: Attempt) -> tuple[str, ...]:
    """Return what to add or to change, at most three sentences."""
    return tuple(dict.fromkeys(_hints(tail, attempt)))[:_SHOWN]


def _hints(tail: str, attempt: Attempt) -> Iterator[str]:
    for line in tail.splitlines():
        for found in _MODULE.finditer(line):
            for path in (found[1].replace(".", "/") + ".py", found[1].replace(".", "/")):
                if _there(location := _location(path, attempt), attempt):
                    yield _undeclared(location, attempt, code=True)
                    break
        refused = bool(_REFUSED.search(line))
        if refused or _MISSED.search(line):
            for found in _PATH.finditer(line):
                yield from _about(next(filter(None, found.groups())), refused, attempt)


def _about(path: str, refused: bool, attempt: Attempt) -> Iterator[str]:
    if "\0" in path:
        return
    location = _location(path, attempt)
    if _there(location, attempt):
        if location not in attempt.declared and not any(d.startswith(f"{location}/") for d in attempt.declared):
            yield _undeclared(location, attempt, refused=refused)
        elif refused and attempt.sealed and location in attempt.declared:
            yield f"{_shown(location, attempt)} is an input, which a step cannot change: write a copy, and declare it in `outputs`"
    elif refused and attempt.sealed and path.startswith("/"):
        yield from _outside(path, location, attempt)


def _outside(path: str, location: str, attempt: Attempt) -> Iterator[str]:
    """Yield what is known of an absolute path that is no file of the project."""
    path = os.path.normpath(path)
    if path.startswith(f"{attempt.scratch}/"):
        return
    if _in(path, attempt.store):
        yield f"{path} is in the store, which is closed to steps: take a result by `$(steps.NAME.outputs.NAME)`"
    elif location:
        shown = _shown(location, attempt)
        name = _name(shown)
        yield (
            f"the step may not write {shown} in the project: add `outputs: {{{name}: {{type: file, path: {os.path.basename(shown)}}}}}`, "
            "and write it in $RUNNER_OUTPUT_DIR"
        )
    elif _in(attempt.root, path) or _in(attempt.store, path):
        yield f"a sealed step cannot list {path}, which the project or the store lies in"
    elif _in(attempt.root, os.path.dirname(path)) or _in(attempt.store, os.path.dirname(path)):
        above = os.path.dirname(path)
        yield f"a sealed step makes nothing directly in {above}, which the project or the store lies in: use $TMPDIR"


def _location(path: str, attempt: Attempt) -> str:
    """Return the location in the project that a step may mean by a path, or ""."""
    work = f"{attempt.scratch}/work"
    path = os.path.normpath(os.path.join(work, attempt.base, path))
    for folder in (work, attempt.root):
        if path.startswith(f"{folder}/") and (folder == work or not _in(path, attempt.store)):
            return os.path.relpath(path, folder)
    return ""


def _there(location: str, attempt: Attempt) -> bool:
    return bool(location) and os.path.exists(f"{attempt.root}/{location}")


def _in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _shown(location: str, attempt: Attempt) -> str:
    """Return a location as the pipeline would write it."""
    return os.path.relpath(location, attempt.base or ".")


def _undeclared(location: str, attempt: Attempt, code: bool = False, refused: bool = False) -> str:
    shown = _shown(location, attempt)
    code = code or location.endswith(_CODE)
    line = f"`code: [{shown}]`" if code else f"`inputs: {{{_name(shown)}: {shown}}}`"
    write = "; what it writes belongs in $RUNNER_OUTPUT_DIR and `outputs`" if refused and attempt.sealed else ""
    return f"the project has {shown}, which the step does not declare: add {line}{write}"


def _name(path: str) -> str:
    """Return a name for a file in `inputs` or `outputs`."""
    stem = re.sub(r"[^A-Za-z0-9]+", "_", os.path.basename(path).split(".")[0]).strip("_")
    return stem if stem[:1].isalpha() else f"f{stem}" if stem else "file"
