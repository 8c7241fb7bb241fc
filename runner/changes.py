"""A folder x a revision of git -> the run requests in it that differ since then, themselves or in what they name."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cached_property

from . import reading, settings
from .errors import EnvironmentFailure, Invalid, UsageError
from .frozen import frozen

_RUN = re.compile(rb"kind[\"']?\s*:\s*(?:&\w+\s+)?[\"']?Run\b")  # or what looks like it; who reads it knows
_LEFT_OUT = {".git", ".runner", ".venv", "node_modules", "__pycache__"}
# Nothing that a repository's own settings could make git execute or fetch.
_GIT = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "diff.external="]
_QUIET = {"GIT_ALLOW_PROTOCOL": "none", "GIT_OPTIONAL_LOCKS": "0"}


def requests_below(folder: str) -> Iterator[str]:
    """Yield the files below `folder` that seem to say `kind: Run`, sorted."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT)
        for name in files:
            path = os.path.join(place, name)
            if name.endswith((".yaml", ".yml")) and _RUN.search(_head(path)):
                found.append(os.path.normpath(path))
    yield from sorted(found)


def _head(path: str) -> bytes:
    """Return the beginning of a file, nothing of what is no file or cannot be read."""
    try:
        return reading.content(path, 1 << 20)
    except (OSError, ValueError):
        return b""


@frozen
class Since:
    """What differs in a repository from where a revision and HEAD parted, uncommitted changes too."""

    top: str  # the folder of the repository
    base: str  # the commit
    names: tuple[str, ...]  # of the files, from there

    @cached_property
    def places(self) -> set[str]:
        """The real paths of the files."""
        return {os.path.realpath(os.path.join(self.top, name)) for name in self.names}


def changed_since(revision: str, folder: str) -> Since:
    """Return what differs from where `revision` and HEAD parted."""
    if revision.startswith("-"):
        raise UsageError(f"--base {revision} is no revision of git")
    top = _git(folder, "rev-parse", "--show-toplevel", "--quiet").strip()
    try:
        base = _git(folder, "merge-base", revision, "HEAD").strip()
    except UsageError:
        base = _git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", of=revision).strip()
    names = _git(
        folder, "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", base, "--", ":/",
        settings=_no_filters(folder),
    )  # fmt: skip
    names += _git(top, "ls-files", "-o", "-z", "--exclude-standard")
    return Since(top, base, tuple(name for name in dict.fromkeys(names.split("\0")) if name))


def settings_since(since: Since, folder: str) -> Iterator[tuple[str, settings.Changed]]:
    """Yield each runner.toml that governs a folder, or lies below it, and differs; by its path from the current folder."""
    top, here = os.path.realpath(since.top), os.path.realpath(folder)
    found = {name for name in since.names if os.path.basename(name) == "runner.toml"}
    # A link to a file that has changed has not changed itself.
    above = reading.project_above(here)
    if above is not None and os.path.realpath(f"{above}/runner.toml") in since.places:
        found.add(os.path.relpath(f"{above}/runner.toml", top))
    for name in sorted(found):
        place = os.path.dirname(os.path.join(top, name))
        if reading.within(place, here) or reading.within(here, place):
            change = _settings_change(since, name, os.path.join(top, name))
            if change.keys or change.error or change.file != "changed":
                yield os.path.relpath(os.path.join(place, "runner.toml")), change


def _settings_change(since: Since, name: str, path: str) -> settings.Changed:
    """Return what differs in one runner.toml."""
    errors = []
    then = now = None
    try:
        raw = _blob(since, name)
        then = settings.parsed(raw, f"{name} at {since.base[:9]}")[1] if raw is not None else None
    except (Invalid, reading.Refused) as error:
        errors.append(f"at {since.base[:9]}: {error}")
    if os.path.lexists(path):
        try:
            settings.of(path)
            now = settings.parsed(settings.read(path), path)[1]
        except Invalid as error:
            errors.append(str(error))
    file = "added" if then is None and not errors else "changed" if os.path.lexists(path) else "removed"
    return settings.Changed(file, settings.differing(then or {}, now or {}) if not errors else (), "\n".join(errors))


def _blob(since: Since, name: str) -> bytes | None:
    """Return the bytes of a file of the base commit, through links inside the repository; None where there is none."""
    for _ in range(8):
        entry = _git(since.top, "ls-tree", "-z", "--full-tree", since.base, "--", name).split("\0")[0]
        if not entry:
            return None
        mode, kind, digest = entry.partition("\t")[0].split()
        if kind != "blob":
            raise reading.Refused("it was no file")
        if int(_git(since.top, "cat-file", "-s", digest)) > settings.MAX_BYTES:
            raise reading.Refused("it was larger than a runner.toml may be")
        content = _git(since.top, "cat-file", "blob", digest)
        if mode != "120000":
            return content.encode("utf-8", "surrogateescape")
        name = os.path.normpath(os.path.join(os.path.dirname(name), content))
        if name.startswith(("/", "..")):
            raise reading.Refused("it was a symlink that leads out of the repository")
    raise reading.Refused("it was a symlink that leads to itself")


def _no_filters(folder: str) -> dict[str, str]:
    """Return the settings that turn off all programs which this repository filters its files by."""
    listed = _git(folder, "config", "-z", "--name-only", "--list").split("\0")
    names = sorted({name for name in listed if name.startswith("filter.")})
    return {name: "false" if name.endswith(".required") else "" for name in names}


def _git(folder: str, *args: str, of: str = "", settings: Mapping[str, str] | None = None) -> str:
    env = {**os.environ, **_QUIET, "GIT_CONFIG_COUNT": str(len(settings or {}))}
    for number, (name, value) in enumerate((settings or {}).items()):
        env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    try:
        done = subprocess.run([*_GIT, "-C", folder, *args], capture_output=True, stdin=subprocess.DEVNULL, env=env)
    except OSError as error:
        raise EnvironmentFailure(f"git cannot be started: {error.strerror}", help="--base needs git") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UsageError(
            f"git knows no revision {of}" if of else f"git: {said[0] if said else f'exit code {done.returncode}'}",
            help="fetch it first: a shallow clone has no history" if of else "",
        )
    return done.stdout.decode("utf-8", "surrogateescape")
