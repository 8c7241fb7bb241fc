"""Pipelines as they were compiled before, kept in the store: to read and check YAML anew is half of a plan.

A kept pipeline is used only if the text of its file, the runner and every question that compiling asked of the file
system have the same answers, and its own digest is right. It is read by an unpickler that knows the compiler's value
types and nothing else, and sealed with a key of this store, so that a file that came with a repository executes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import os
import pickle
import sys
from typing import Any

from . import __version__, errors, expression, pipeline, values
from .pipeline import Pipeline
from .project import Project

KEPT = 64  # pipelines
_TYPES = {
    (module.__name__, name): found
    for module in (errors, expression, pipeline, values)
    for name, found in vars(module).items()
    if isinstance(found, type) and found.__module__ == module.__name__ and not issubclass(found, BaseException)
} | {("builtins", t.__name__): t for t in (set, frozenset)}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _TYPES:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _TYPES[module, name]


def _seal(folder: str, content: bytes) -> bytes:
    """Return a digest keyed by what nobody can foresee who has only put files into a repository: this store's birth."""
    found = os.stat(f"{os.path.dirname(folder)}/format")
    key = f"{found.st_ino} {found.st_ctime_ns}"
    with contextlib.suppress(OSError), open("/etc/machine-id") as file:
        key += file.read()
    return hmac.digest(key.encode(), content, "sha256")


def _place(folder: str, text: bytes, location: str, shown: str) -> str:
    mark = f"{__version__} {sys.version} {location}\0{shown}\0".encode() + text
    return f"{folder}/{hashlib.sha256(mark).hexdigest()}"


def kept(folder: str, path: str, location: str, project: Project) -> Pipeline | None:
    """Return the pipeline of the file `path` as it was compiled, if all that it depends on is as it was."""
    try:
        with open(path, "rb") as file:
            place = _place(folder, file.read(1 << 24), location, path)
        with open(place, "rb") as file:
            digest, content = file.read(32), file.read()
        if not hmac.compare_digest(_seal(folder, content), digest):
            return None
        answers, found = _Unpickler(io.BytesIO(content)).load()
        return found if isinstance(found, Pipeline) and project.answers_still(answers) else None
    except Exception:  # a cache: whatever is wrong with it, the file is compiled
        return None


def keep(folder: str, path: str, location: str, project: Project, made: Pipeline) -> None:
    """Keep a compiled pipeline, where the store may be written."""
    if os.path.islink(folder):
        return
    with contextlib.suppress(OSError):
        with open(path, "rb") as file:
            place = _place(folder, file.read(1 << 24), location, path)
        content = pickle.dumps((project.answers, made), protocol=5)
        os.makedirs(folder, exist_ok=True)
        for old in sorted(os.scandir(folder), key=lambda entry: entry.stat().st_mtime)[:-KEPT]:
            os.unlink(old.path)
        partial = f"{place}.{os.getpid()}"
        try:
            with open(partial, "wb") as file:
                file.write(_seal(folder, content) + content)
            os.replace(partial, place)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
