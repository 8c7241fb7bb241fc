"""The project's files: where they may be, what they are, what the machine grants; and its settings."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from . import reading
from .document import MAX_BYTES
from .errors import Diagnostic, Invalid, LeadsOut, RunnerError
from .executors.collecting import manifest_text
from .executors.files import signature
from .expression import EvaluationError
from .fingerprint import World
from .pipeline import Pipeline, Runtime
from .settings import Settings
from .settings import of as settings_of
from .values import Artifact, digest_of, sha256

_LEFT_OUT = {"__pycache__", ".git", ".runner"}
_INSIDE = "name a file of the project, not a link out of it"

# What compiling asked of the file system: paths located, kinds of locations, patterns expanded, digests of what was read.
Answers = tuple[
    dict[tuple[str, str], str | None], dict[str, str | None], dict[tuple[str, str], list[str]], dict[str, str]
]


class Project:
    """The files below `root`; a location is a path from there, or an absolute one below a granted input root."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.input_roots = _input_roots()
        self._kinds: dict[str, str | None] = {}
        self.answers: Answers = ({}, self._kinds, {}, {})
        self._folders: dict[str, str] = {}
        self._settings: Settings | None = None

    @staticmethod
    def of(path: str, pipeline: str = "") -> Project:
        """Return the project of a file: the nearest folder above with runner.toml or .git, else the pipeline's folder."""
        folder = os.path.dirname(os.path.realpath(path))
        if root := reading.project_above(folder):
            return Project(root)
        return Project(os.path.dirname(os.path.realpath(pipeline)) if pipeline else folder)

    def location(self, path: str) -> str:
        """Return the location of a file given by its path in the file system."""
        return os.path.relpath(os.path.realpath(path), self.root)

    def path(self, location: str) -> str:
        return location if location.startswith("/") else f"{self.root}/{location}"

    # what the compiler asks

    def locate(self, path: str, base: str) -> str:
        self.answers[0][path, base] = None
        location = self._locate(path, base)
        self.answers[0][path, base] = location
        return location

    def asked_of(self) -> tuple[set[str], set[str]]:
        """Return the paths of what compiling asked of the file system and was told of, and of what was not there."""
        _, kinds, expanded, read = self.answers
        there = {self.path(location) for location in (*read, *(n for n, kind in kinds.items() if kind))}
        absent = {self.path(location) for location, kind in kinds.items() if kind is None}
        for (pattern, base), found in expanded.items():
            start = os.path.normpath(os.path.join(base, pattern))
            if found != [start]:  # a folder, or a pattern: any folder below may get what it names
                while any(sign in start for sign in "*?["):
                    start = os.path.dirname(start)
                there |= {path for path in below(self.path(start or "."), _LEFT_OUT) if os.path.isdir(path)}
        for settings in (f"{self.root}/runner.toml", _config()):
            (there if os.path.exists(settings) else absent).add(settings)
        return there, absent

    def answers_still(self, answers: Answers) -> bool:
        """Whether the file system gives the same answers to all that compiling once asked."""
        located, kinds, expanded, read = answers
        for (path, base), location in located.items():
            with contextlib.suppress(ValueError):
                if self._locate(path, base) != location:
                    return False
                continue
            if location is not None:
                return False
        try:
            return (
                all(self.kind(location) == kind for location, kind in kinds.items())
                and all(self.expand(pattern, base) == found for (pattern, base), found in expanded.items())
                and all(sha256(self.read(location)) == digest for location, digest in read.items())
            )
        except Invalid:
            return False

    def refuse_outside(self, location: str, shown: str) -> None:
        """Raise Invalid for a location that a record or a plan names and that is not in the project."""
        try:
            self._locate(location, ".")
        except ValueError as error:
            raise Invalid([Diagnostic(shown, 0, 0, "E109", str(error), _INSIDE)]) from None
        confine(self.path(location), shown)

    def _locate(self, path: str, base: str) -> str:
        if "\0" in path:
            raise ValueError("the path holds a NUL character")
        if path.startswith("~") or "://" in path or re.match(r"\$[A-Za-z{]", path):
            raise ValueError(f"{path}: `~`, variables and URLs are not paths here; give a path relative to this file")
        if path.startswith("/"):
            return self._granted(path)
        location = os.path.normpath(os.path.join(base, path))
        if location == ".." or location.startswith("../"):
            raise ValueError(f"{path} leads out of the project root {self.root}")
        self._confine(location, path)
        return location

    def _granted(self, path: str) -> str:
        real = os.path.realpath(path)
        if any(real == root or real.startswith(root.rstrip("/") + "/") for root in self.input_roots):
            return os.path.normpath(path)
        granted = f"granted are: {', '.join(self.input_roots)}" if self.input_roots else "none is granted here"
        raise ValueError(
            f"{path} is absolute and below no input root ({granted}); set RUNNER_INPUT_ROOTS on this machine, or give a relative path"
        )

    def _confine(self, location: str, shown: str) -> None:
        """Refuse a path that a symlink leads out of the project."""
        folder, name = os.path.split(f"{self.root}/{location}")
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        real = f"{self._folders[folder]}/{name}"
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not reading.within(real, self.root) and not any(
            real.startswith(r.rstrip("/") + "/") for r in self.input_roots
        ):
            raise LeadsOut(f"{shown} is a symlink that leads out of the project root")

    def kind(self, location: str) -> str | None:
        if location not in self._kinds:
            try:
                mode = os.stat(self.path(location)).st_mode
                self._kinds[location] = "dir" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else None
            except (OSError, ValueError):
                self._kinds[location] = None
        return self._kinds[location]

    def read(self, location: str) -> bytes:
        content = content_of(self.path(location), location)
        self.answers[3][location] = sha256(content)
        return content

    def expand(self, pattern: str, base: str) -> list[str]:
        found = self.answers[2][pattern, base] = self._expand(pattern, base)
        return found

    def _expand(self, pattern: str, base: str) -> list[str]:
        location = self.locate(pattern, base)
        if location.startswith("/"):
            raise ValueError(f"{pattern}: code lies in the project")
        if self.kind(location) == "file":
            return [location]
        if self.kind(location) == "dir":
            return sorted(self._files_below(location))
        import glob

        found: set[str] = set()
        for path in glob.iglob(
            self.path(location) if not glob.has_magic(self.root) else f"{glob.escape(self.root)}/{location}",
            recursive=True,
            include_hidden=True,
        ):
            place = os.path.relpath(path, self.root)
            if not _LEFT_OUT.isdisjoint(place.split("/")):
                continue
            if os.path.isfile(path):
                self._confine(place, place)
                found.add(place)
            elif os.path.isdir(path):
                found.update(self._files_below(place))
        return sorted(found)

    def _files_below(self, location: str) -> Iterable[str]:
        """Yield the files below a folder; raises ValueError for a link that leads out of the project."""
        folders = [location]
        while folders:
            folder = folders.pop()
            prefix = "" if folder == "." else f"{folder}/"
            try:
                entries = list(os.scandir(self.path(folder)))
            except OSError:
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _LEFT_OUT:
                        folders.append(prefix + entry.name)
                elif entry.is_file():
                    if entry.is_symlink():
                        self._confine(prefix + entry.name, prefix + entry.name)
                    yield prefix + entry.name

    # what planning knows of files

    def world(
        self, pipeline: Pipeline, params: dict[str, Any], digest: Callable[[str], str], read: Callable[[str], bytes]
    ) -> World:
        """Return the digests of all files that steps of `pipeline` are given."""
        wanted = {
            params[name]
            for name, param in pipeline.params.items()
            if param.type.name in ("file", "dir") and name in params
        }
        code: set[str] = set()
        steps = list(pipeline.every_step())
        for step in steps:
            wanted |= {tree.location for tree in step.files}
            code.update(step.code)
        files, marks, executables = {}, {}, set()
        for location in sorted(wanted):
            path = self.path(location)
            try:
                marks[location] = signature(path)
                files[location] = tree_digest(path, digest) if os.path.isdir(path) else digest(path)
                if os.path.isfile(path) and os.stat(path).st_mode & 0o100:
                    executables.add(location)
            except OSError as error:
                raise RunnerError(f"{location} cannot be read: {error.strerror}") from error
        return World(
            files,
            {place: self._code(place, digest) for place in sorted(code)},
            runtime_digest(),
            self._reader(read),
            frozenset(executables),
            marks,
            {found: self._runtime(found, digest) for found in dict.fromkeys(s.runtime for s in steps if s.runtime)},
        )

    def _runtime(self, runtime: Runtime, digest: Callable[[str], str]) -> str:
        """Return what a runtime stands for in fingerprints."""
        body: dict[str, Any] = {"kind": runtime.kind, "env": {n: os.environ.get(n) for n in runtime.inherit_env}}
        if runtime.kind == "container":
            return digest_of(body | {"image": runtime.image})
        body |= {"host": runtime_digest(), "preload": list(runtime.preload)}
        try:
            from . import environments

            if runtime.kind == "venv":
                body |= {"python": runtime.python, "path": runtime.path}
            if runtime.file:
                path = self.path(runtime.file)
                files = environments.contents(path).files if runtime.kind == "venv" else (path,)
                body["files"] = [[os.path.basename(file), digest(file)] for file in files]
        except OSError as error:
            raise RunnerError(f"{runtime.file} cannot be read: {error.strerror}") from error
        return digest_of(body)

    def _code(self, location: str, digest: Callable[[str], str]) -> tuple[str, bool]:
        path = self.path(location)
        try:
            return digest(path), bool(os.stat(path).st_mode & 0o100)
        except OSError as error:
            raise RunnerError(f"{location} cannot be read: {error.strerror}") from error

    def _reader(self, read: Callable[[str], bytes]) -> Callable[[Artifact], Any]:
        parsed: dict[str, Any] = {}

        def read_json(artifact: Artifact) -> Any:
            if artifact.digest not in parsed:
                if artifact.source == "store:":
                    content = read(artifact.digest)
                else:
                    with open(self.path(artifact.source.partition(":")[2]), "rb") as file:
                        content = file.read()
                try:
                    parsed[artifact.digest] = json.loads(content, parse_constant=_no_number)
                except (ValueError, RecursionError) as error:
                    raise EvaluationError(f"{artifact.name} is not JSON: {error}") from None
            return parsed[artifact.digest]

        return read_json

    # settings

    def settings(self) -> Settings:
        """Return what runner.toml says; raises Invalid for what it may not say."""
        if self._settings is None:
            self._settings = settings_of(f"{self.root}/runner.toml")
        return self._settings


def confine(path: str, shown: str) -> None:
    """Raise Invalid for a run or pipeline file that is not there, is no file, or is no file of its project."""
    help = ""
    try:
        mode = os.stat(path).st_mode
        text = "" if stat.S_ISREG(mode) else "it is not a file"
        reading.refuse_outside(path)
    except (FileNotFoundError, NotADirectoryError):
        text = "there is no such file"
    except reading.Refused as error:
        text, help = str(error), _INSIDE
    except (OSError, ValueError) as error:
        too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        text = "there is no such file" if too_long else _unreadable(error)
    if text:
        raise Invalid([Diagnostic(shown, 0, 0, "E109", text, help)])


def content_of(path: str, shown: str, limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of a file that is read whole, one too many of a file that is too large; raises Invalid."""
    try:
        return reading.content(path, limit)
    except reading.Refused as error:
        text = str(error)
    except (OSError, ValueError) as error:
        text = _unreadable(error)
    raise Invalid([Diagnostic(shown, 0, 0, "E109", text)])


def _unreadable(error: OSError | ValueError) -> str:
    return f"it cannot be read: {getattr(error, 'strerror', None) or error}"


def _config() -> str:
    """Return where the user's own settings are."""
    return os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "runner", "config.toml")


def _no_number(text: str) -> Any:
    """Refuse what Python reads and JSON does not have: NaN and infinity."""
    raise ValueError(f"{text} is not a number of JSON")


def below(path: str, left_out: Collection[str] = ()) -> Iterator[str]:
    """Yield a path, and all files and folders below it but those with certain names."""
    yield path
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if name not in left_out]
        yield from (os.path.join(folder, name) for name in (*folders, *files))


def _input_roots() -> tuple[str, ...]:
    """Return the folders outside the project whose files may be inputs: granted by the machine, never by a repository."""
    if "RUNNER_INPUT_ROOTS" in os.environ:
        roots = [r for r in os.environ["RUNNER_INPUT_ROOTS"].split(os.pathsep) if r]
    else:
        path = _config()
        if not os.path.exists(path):
            return ()
        import tomllib

        try:
            with open(path, "rb") as file:
                value = tomllib.load(file)
        except OSError:
            return ()
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunnerError(f"{path}: {error}") from None
        roots = value.get("input_roots", [])
        if set(value) - {"input_roots"} or not isinstance(roots, list) or not all(isinstance(r, str) for r in roots):
            raise RunnerError(f"{path}: only `input_roots`, a list of absolute paths, is known there")
    for root in roots:
        if not root.startswith("/"):
            raise RunnerError(f"the input root {root} is not an absolute path")
    return tuple(os.path.realpath(root) for root in roots)


def tree_digest(path: str, digest: Callable[[str], str]) -> str:
    """Return the digest of a directory, as the store would give it."""
    entries: list[list[Any]] = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        prefix = os.path.relpath(folder, path)
        prefix = "" if prefix == "." else prefix + "/"
        for name in [*folders, *files]:
            place = f"{folder}/{name}"
            if os.path.islink(place):
                if not (os.path.realpath(place) + "/").startswith(os.path.realpath(path) + "/"):
                    raise RunnerError(
                        f"{place} is a symlink that leads out of {path}",
                        help="what it leads to would count for nothing; copy it in",
                    )
                entries.append([prefix + name, "link", os.readlink(place), 0])
            elif name in folders:
                entries.append([prefix + name, "dir", "", 0])
            elif os.path.isfile(place):
                found = os.stat(place)
                entries.append(
                    [prefix + name, "exec" if found.st_mode & 0o100 else "file", digest(place), found.st_size]
                )
            else:
                raise RunnerError(f"{place} is neither a file, a directory nor a symlink")
        folders[:] = [name for name in folders if not os.path.islink(f"{folder}/{name}")]
    return "sha256:" + hashlib.sha256(manifest_text(entries)).hexdigest()


def runtime_digest() -> str:
    """Return what the interpreter and the machine stand for in fingerprints."""
    return digest_of(
        {
            "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "platform": sys.platform,
            "machine": os.uname().machine,
        }
    )
