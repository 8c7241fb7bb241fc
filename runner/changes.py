"""A folder x a revision of git -> the run requests in it that differ since then, themselves or in what they name."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping

from . import reading
from .errors import EnvironmentFailure, UsageError

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


def changed_since(revision: str, folder: str) -> set[str]:
    """Return the real paths of all files that differ from where `revision` and HEAD parted, uncommitted ones too."""
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
    return {os.path.realpath(os.path.join(top, name)) for name in names.split("\0") if name}


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
