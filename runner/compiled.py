"""Pipelines as they were compiled before, kept in the store: to read and check YAML anew is half of a plan.

A kept pipeline is used only if the text of its file, the runner and every question that compiling asked of the file
system have the same answers, and its own digest is right. It is read by an unpickler that knows the compiler's value
types and nothing else, and sealed (`caches.py`), so that a file that came with a repository executes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import sys
from typing import Any

from . import __version__, caches, errors, expression, pipeline, values
from .pipeline import Pipeline
from .project import Project

FORMAT = 2  # of what is kept: another one whenever the compiler makes something else of the same text

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


def _place(folder: str, text: bytes, location: str, shown: str) -> str:
    mark = f"{__version__} {FORMAT} {sys.version} {location}\0{shown}\0".encode() + text
    return f"{folder}/{hashlib.sha256(mark).hexdigest()}"


def kept(folder: str, path: str, location: str, project: Project) -> Pipeline | None:
    """Return the pipeline of the file `path` as it was compiled, if all that it depends on is as it was."""
    try:
        with open(path, "rb") as file:
            place = _place(folder, file.read(1 << 24), location, path)
        if (content := caches.read(place)) is None:
            return None
        answers, found = _Unpickler(io.BytesIO(content)).load()
        return found if isinstance(found, Pipeline) and project.answers_still(answers) else None
    except Exception:  # a cache: whatever is wrong with it, the file is compiled
        return None


def keep(folder: str, path: str, location: str, project: Project, made: Pipeline) -> None:
    """Keep a compiled pipeline, where the store may be written."""
    with contextlib.suppress(OSError, RecursionError):  # what is nested too deeply for a pickle is compiled each time
        with open(path, "rb") as file:
            place = _place(folder, file.read(1 << 24), location, path)
        caches.write(place, pickle.dumps((project.answers, made), protocol=5))
