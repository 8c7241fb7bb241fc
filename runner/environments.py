"""Venv -> the path of its interpreter: environments made once from a requirements file, shared by all who name the same.

An environment lies under a digest of what it is made of, so it never changes: a changed file is another environment.
It is made in its final place (a virtual environment cannot be moved), under a lock, and a marker written last says
that all of it is there; without the marker it is removed and made anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from .errors import EnvironmentFailure, Moved, printable
from .frozen import frozen

_LAST = 20  # last lines of a tool that failed
_HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
# Variables that would have the tools install into another place, or not at all.
_ASTRAY = {
    "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON",
    "PIP_DRY_RUN", "UV_WORKING_DIR", "UV_WORKING_DIRECTORY",
}  # fmt: skip
_NESTED = re.compile(r"(?:-(?P<short>[rc])|--(?P<long>requirement|constraint)s?)[\s=]*(?P<path>.+)")
_LOCAL = re.compile(r"(?:-e|--editable|-f|--find-links)[\s=]*")


@frozen
class Venv:
    """What a virtual environment is made of."""

    name: str  # of the runtime in the pipeline, for messages
    requirements: str  # absolute path of the requirements or lock file; "" for an environment that is there already
    digest: str  # "sha256:..." of that file's bytes
    python: str = (
        ""  # "" = the interpreter that runs this; else "3.12", "python3.12" or a path (of a folder: its bin/python)
    )


@frozen
class Contents:
    """What a requirements file asks for and names on this machine, nested files included."""

    requirements: int
    files: tuple[str, ...]  # itself, nested files, constraints, wheels, archives: their bytes decide what is installed
    folders: tuple[str, ...]  # of sources (`-e .`) and --find-links: what is in them is not looked at


@frozen
class _Base:
    """An interpreter of this machine that environments are made from."""

    path: str
    version: str  # such as 3.12; what is installed for one patch release serves the next


def interpreter_of(venv: Venv, folder: str) -> str:
    """Return the path of an environment's interpreter, made or not; those that the runner makes lie below `folder`."""
    if venv.requirements:
        return f"{os.path.abspath(folder)}/{_key(venv)}/bin/python"
    return next(filter(_executable, _places(venv.python)), venv.python)


def lacks(venv: Venv) -> str:
    """Return what this machine lacks for an environment, or ""."""
    there = _base(venv) if venv.requirements else _executable(interpreter_of(venv, ""))
    return "" if there else f"the runtime `{venv.name}` asks for {_name(venv.python)}, which this machine lacks"


def prepare(venv: Venv, folder: str, tell: Callable[[str], None]) -> str:
    """Make the environment unless it is there; return the path of its interpreter.

    Raises EnvironmentFailure if it cannot be made, Moved if a file it is made from is not what `venv` says.
    """
    if lacking := lacks(venv):
        raise EnvironmentFailure(lacking, help="install it here, or name another `python`")
    python = interpreter_of(venv, folder)
    place = python.removesuffix("/bin/python")
    if not venv.requirements or _usable(place):
        return python
    try:
        os.makedirs(folder, exist_ok=True)
        with _alone(venv, f"{place}.lock", tell) as lock:
            if not _usable(place):
                _make(venv, place, lock, tell)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise EnvironmentFailure(
            f"the environment `{venv.name}` cannot be made: {error.strerror}{where}",
            help="free the space or give the rights that this needs",
        ) from error
    return python


# --- what an environment is made of -----------------------------------------------------------------------------


def contents(requirements: str) -> Contents:
    """Return what a requirements file names; a path is known when it is written out, without a variable."""
    # pip takes nested files from beside the file that names them, but packages from the current folder.
    folder, count = os.path.dirname(requirements), 0
    named, todo = [requirements], [(requirements, True)]
    while todo:
        path, installed = todo.pop()
        for line in _lines(path):
            if nested := _NESTED.match(line):
                found = os.path.normpath(os.path.join(os.path.dirname(path), nested["path"].strip("'\"")))
                if found not in named:
                    further = installed and (nested["short"] == "r" or nested["long"] == "requirement")
                    todo.append((found, further))
            elif local := _LOCAL.match(line):
                found = os.path.normpath(os.path.join(folder, _target(line[local.end() :])))
                count += installed and local[0].startswith(("-e", "--e"))
            elif line.startswith("-"):
                continue
            else:
                target = _target(line)
                found = os.path.normpath(os.path.join(folder, target))
                count += installed
                if "/" not in target and not target.startswith(".") and os.path.isdir(found):
                    continue  # the name of a package, which a folder of the project has too
            if found not in named:
                named.append(found)
    return Contents(count, tuple(filter(os.path.isfile, named)), tuple(filter(os.path.isdir, named)))


def _key(venv: Venv) -> str:
    """Return the name of an environment's folder: where any of this differs, so may what is installed."""
    base, named = _base(venv), contents(venv.requirements)
    made_of = {
        "requirements": venv.digest,
        "files": [_digest(path) for path in named.files if path != venv.requirements],
        "folders": named.folders,  # the same words in two checkouts name other sources
        "python": [base.version, base.path] if base else venv.python,
        "platform": sys.platform,
        "machine": os.uname().machine,
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:20]


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be read: {error.strerror}") from error


def _lines(path: str) -> list[str]:
    """Return the lines of a requirements file without comments, those that go on in the next one joined."""
    if not os.path.isfile(path):
        return []  # the tool will say so in its own words
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        text = file.read().replace("\\\n", " ")
    lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def _target(line: str) -> str:
    """Return what could be a path in a requirement: `tiny @ file:./tiny.whl ; marker --hash=...`."""
    target = re.split(r"\s;|\s--", line.split(" @ ", 1)[-1])[0].strip()
    return re.sub(r"^file:(//)?|#.*$|\[[^\]]*\]$", "", target)


# --- interpreters -----------------------------------------------------------------------------------------------


def _base(venv: Venv) -> _Base | None:
    """Return the interpreter to make an environment from; the first that works of those that may be meant."""
    if venv.python in ("", _HERE, f"python{_HERE}"):
        return _Base(os.path.realpath(sys.executable), _HERE)
    folder = os.path.dirname(venv.requirements)
    return next(filter(None, (_look(place, folder) for place in _places(venv.python))), None)


def _name(python: str) -> str:
    return f"python{python}" if python[:1].isdigit() else python or sys.executable


def _places(python: str) -> list[str]:
    """Return the paths where the interpreter asked for may be, the best first."""
    if not python:
        return [sys.executable]
    if "/" in python:
        return [f"{python}/bin/python" if os.path.isdir(python) else python]
    return [f"{folder}/{_name(python)}" for folder in os.get_exec_path()]


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _look(path: str, folder: str) -> _Base | None:
    """Return the interpreter at a path, if one is there."""
    real = os.path.realpath(path)
    if not _executable(real):
        return None
    named = re.search(r"/python(\d+\.\d+)$", real)
    with open(real, "rb") as file:
        # A version manager puts scripts on PATH that may stand for no interpreter; only asking them tells.
        asks = file.read(2) == b"#!"
    return _Base(real, named[1]) if named and not asks else _ask(real, folder)


@functools.cache
def _ask(path: str, folder: str) -> _Base | None:
    """Return what an interpreter says of itself; `folder` is where it is asked, which version managers heed."""
    words = "import os, sys; print(os.path.realpath(sys.executable), '%d.%d' % sys.version_info[:2], sep='\\n')"
    try:
        done = subprocess.run(
            [path, "-I", "-c", words],
            cwd=folder, env=_variables(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = done.stdout.splitlines()
    return _Base(*answer) if done.returncode == 0 and len(answer) == 2 else None


# --- making -----------------------------------------------------------------------------------------------------


def _usable(place: str) -> bool:
    """Whether an environment was made to its end and its interpreter is still there."""
    return os.path.exists(f"{place}/ready") and _executable(f"{place}/bin/python")


@contextlib.contextmanager
def _alone(venv: Venv, path: str, tell: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock of an environment; its file stays, since another process may be waiting on it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting for the environment `{venv.name}`, which another process makes")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _make(venv: Venv, place: str, lock: int, tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    _remove(place)
    _refuse_moved(venv, place)
    count = contents(venv.requirements).requirements
    tell(f"making the environment `{venv.name}` ({count} requirement{'' if count == 1 else 's'}) …")
    try:
        for command in _commands(venv, place):
            _run(venv, command, lock)
        _refuse_moved(venv, place)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    _mark(venv, place)
    tell(f"made the environment `{venv.name}` in {time.monotonic() - began:.1f} s")


def _remove(place: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{place}/ready")  # first: what is removed by half must not be taken for whole
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(place)


def _refuse_moved(venv: Venv, place: str) -> None:
    """Refuse to put under a key what was made from other bytes."""
    same = os.path.isfile(venv.requirements) and _digest(venv.requirements) == venv.digest
    if not same or _key(venv) != os.path.basename(place):
        raise Moved(
            f"{venv.requirements} or a file that it names is not what was planned for the environment `{venv.name}`",
            help="plan again",
        )


def _commands(venv: Venv, place: str) -> list[list[str]]:
    """Return the commands that make an environment: with uv where it is, else with the interpreter's own tools.

    Not `uv pip sync`: it would leave out what a listed package needs where the file is not a whole lock, and pip has
    nothing like it. For a whole lock, both installs come to the same.
    """
    base = _base(venv)
    assert base is not None  # `prepare` has asked
    python, file = f"{place}/bin/python", venv.requirements
    if uv := shutil.which("uv"):
        return [
            [uv, "venv", "--no-project", "--no-python-downloads", "--python", base.path, place],
            # A sealed step cannot write bytecode here, so without it every attempt would compile all that it imports.
            [uv, "pip", "install", "--compile-bytecode", "--python", python, "-r", file],
        ]
    # -I: a module of the project that is named like one of the standard library must not come before it.
    return [
        [base.path, "-I", "-m", "venv", place],
        [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r", file],
    ]


def _run(venv: Venv, command: list[str], lock: int) -> None:
    """Run a tool where the requirements lie, as their author would; raise EnvironmentFailure with its last words."""
    done = subprocess.run(
        command, cwd=os.path.dirname(venv.requirements), env=_variables(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
        pass_fds=[lock],  # a tool that outlives this process keeps others from the folder that it writes to
    )  # fmt: skip
    if done.returncode == 0:
        return
    tool = "uv" if os.path.basename(command[0]) == "uv" else command[3]
    how = (
        f"was ended by {signal.Signals(-done.returncode).name}"
        if done.returncode < 0
        else f"ended with exit status {done.returncode}"
    )
    last = "".join(f"\n    {printable(line)}" for line in done.stdout.splitlines()[-_LAST:])
    raise EnvironmentFailure(
        f"the environment `{venv.name}` cannot be made: {tool} {how}{last}",
        help=f"correct {venv.requirements}; an index or a proxy is set as for {tool} itself"
        + (" (UV_* or uv.toml; it does not read pip's settings)" if tool == "uv" else " (PIP_* or pip.conf)"),
    )


def _variables() -> dict[str, str]:
    """Return the user's environment, for indexes and proxies, less what would lead the tools astray."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RUNNER_")) and k not in _ASTRAY}
    return {**kept, "NO_COLOR": "1"}


def _mark(venv: Venv, place: str) -> None:
    """Say that an environment is whole, once it is so on disk: the tools do not sync what they write."""
    folder = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not (sys.platform == "linux" and ctypes.CDLL(None).syncfs(folder) == 0):
            os.sync()
        mark = os.open("ready", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
        try:
            os.write(mark, os.fsencode(f"{venv.requirements} {venv.digest}\n"))
            os.fsync(mark)
        finally:
            os.close(mark)
        os.fsync(folder)
    finally:
        os.close(folder)
