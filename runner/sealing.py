"""Step -> how it is sealed on this machine, or why it is not; what of the closed folders its interpreter needs."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence

from .errors import printable
from .pipeline import Step
from .steps import bubblewrap

_PARTS = ("bin", "include", "lib", "lib64", "libexec", "share", "pyvenv.cfg")  # of an interpreter's prefix


@functools.cache
def version() -> int:
    """Return the version of Landlock that this kernel has; 0 where it has none."""
    from .executors import landlock  # loads ctypes: only for who starts or plans a process

    return landlock.version()


def seal_of(step: Step) -> str:
    """Return what keeps a step to what it declares: container, bwrap, landlock, or "" for nothing."""
    if step.runtime and step.runtime.kind == "container":
        return "container"
    if step.isolation == "bwrap":
        return "bwrap"
    return "landlock" if step.workdir == "attempt" and version() else ""


def unsealed(step: Step) -> str:
    """Return why a step may read and write what it does not declare, or ""."""
    if step.workdir == "project":
        return "it works in the project's folder"
    return "" if seal_of(step) else missing()


def missing() -> str:
    """Return what is lacking to seal steps here, or ""."""
    if sys.platform != "linux":
        return "only Linux has Landlock"
    return "" if version() else "this kernel has no Landlock, or it is switched off"


def notes(steps: Iterable[Step]) -> tuple[str, ...]:
    """Return what a plan says of how its steps are sealed on this machine; nothing where all is well."""
    if not any(s.has_process and s.workdir == "attempt" and seal_of(s) in ("landlock", "") for s in steps):
        return ()
    if lacking := missing():
        return (f"steps are not sealed here: {lacking}; `isolation: bwrap` seals a step without it",)
    if version() < 3:
        return ("steps are sealed here but for one thing: this kernel's Landlock lets them empty a file by its path",)
    return ()


@functools.cache
def bubblewrap_lacks(attempt: bool) -> str:
    """Return why bubblewrap makes no sandbox here, or "". Only with `attempt` is it started to find out."""
    import shutil  # only for who has such steps

    if not shutil.which(bubblewrap.PROGRAM):
        return f"there is no program {bubblewrap.PROGRAM} (bubblewrap) for its isolation"
    if not attempt:
        return ""
    import subprocess

    done = subprocess.run(bubblewrap.PROBE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    why = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return (
        f"bubblewrap makes no sandbox here: {printable(why[-1]) if why else done.returncode}" if done.returncode else ""
    )


def within(path: str, folders: Iterable[str]) -> bool:
    """Return whether a path is one of these folders or lies in one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def needed(interpreter: str, path: str, closed: Sequence[str]) -> tuple[str, ...]:
    """Return what of the closed folders an interpreter is made of, and the environments on a PATH that lie there.

    A virtual environment in the project is no part of it: what a step takes from there is its runtime.
    """
    real = [os.path.realpath(folder) for folder in closed]
    found = [place for prefix in _prefixes(interpreter, path) for place in _of_prefix(prefix, real)]
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "executors")
    programs = [f"{folder}/{name}" for name in ("python_step.py", "notebook_step.py")]  # where this is not installed
    wanted = dict.fromkeys(place for place in (*found, *programs) if within(os.path.realpath(place), real))
    return tuple(wanted)


def _prefixes(interpreter: str, path: str) -> Iterator[str]:
    for place in (interpreter, os.path.realpath(interpreter)):
        yield os.path.dirname(os.path.dirname(place))
    if interpreter == sys.executable:
        yield from (sys.prefix, sys.base_prefix, sys.exec_prefix)
        import site

        if site.ENABLE_USER_SITE:
            yield site.getusersitepackages()
    for folder in path.split(os.pathsep):
        prefix = os.path.dirname(os.path.normpath(folder))
        if os.path.exists(f"{prefix}/pyvenv.cfg") or os.path.exists(f"{prefix}/conda-meta"):
            yield prefix


def _of_prefix(prefix: str, closed: Sequence[str]) -> Iterator[str]:
    """Yield a prefix, or of one that holds a closed folder only the usual parts."""
    real = os.path.realpath(prefix)
    if not any(within(folder, [real]) for folder in closed):
        yield prefix
        return
    yield from (f"{prefix}/{part}" for part in _PARTS if os.path.exists(f"{prefix}/{part}"))
