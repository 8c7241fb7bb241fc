"""What is kept -> what may go: runs beyond the limits, and stored bytes that no kept run refers to.

First all that is kept is marked, from the texts of journals, models and manifests; whatever cannot be read ends it
before anything is removed. Then what was not marked is swept. Both happen while this process has the store for itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..errors import EnvironmentFailure, RunnerError, StoreDamaged
from ..executors.folders import remove
from ..frozen import frozen
from ..record import RunRecord
from . import models, rights, sync_folder
from .checked import is_run
from .leftovers import end_attempts
from .reading import LARGE, Denied, content, opened, parsed

if TYPE_CHECKING:
    from .local import LocalStore

PATIENCE = 5.0  # seconds that others may still use the store
OPEN_DAYS = 30.0  # a plan file that was not applied in this time is taken as given up
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_DAY = 86400.0


@frozen
class Limits:
    """Which runs are kept besides those that something else keeps; with neither, all are."""

    last: int | None = None  # the newest runs of each pipeline
    days: float | None = None  # runs that ended in the last days

    @property
    def any(self) -> bool:
        return self.last is not None or self.days is not None


@frozen
class Garbage:
    """What may go: runs, the files below `objects` and `trees` with their sizes, and what dead attempts left."""

    runs: tuple[RunRecord, ...] = ()
    never_began: tuple[str, ...] = ()  # runs that died before their first event
    kept: Mapping[str, str] = field(default_factory=dict)  # runs beyond the limits -> why they stay
    files: Mapping[str, int] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()  # below tmp
    bytes: int = 0


# pins, and plan files that were not applied yet


def pin(store: LocalStore, run: str) -> None:
    """Keep a run whatever the limits are."""
    _write(f"{store.path}/runs/{run}/pin", "")


def unpin(store: LocalStore, run: str) -> bool:
    """Return whether there was a pin to take away."""
    try:
        os.unlink(f"{store.path}/runs/{run}/pin")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unwritable(store, error) from error
    return True


def pinned(store: LocalStore) -> list[str]:
    """Return the runs that are pinned."""
    runs = sorted(store.folders()) if store.exists else []
    return [run for run in runs if os.path.exists(f"{store.path}/runs/{run}/pin")]


def note_plan(store: LocalStore, digest: str, runs: Iterable[str]) -> None:
    """Note which runs a plan file stands on, where the store may be written."""
    if store.exists and (wanted := sorted(filter(None, runs))):
        with contextlib.suppress(OSError, EnvironmentFailure):
            os.makedirs(f"{store.path}/plans/open", exist_ok=True)
            _write(f"{store.path}/plans/open/{digest.removeprefix('sha256:')}", json.dumps({"runs": wanted}))


def _open_plans(store: LocalStore, days: float, now: float) -> Iterator[tuple[str, list[str]]]:
    """Yield the plans that may still be applied, with the runs that they stand on."""
    folder = f"{store.path}/plans/open"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = f"{folder}/{name}"
        try:
            runs = parsed(content(path, LARGE))["runs"]
            if not (isinstance(runs, list) and all(map(is_run, runs))):
                raise ValueError("it names no runs")
            age = now - os.stat(path).st_mtime
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(f"plans/open/{name}", error) from error
        if not os.path.exists(f"{store.path}/plans/{name}") and age < days * _DAY:
            yield name, runs


# marking


def find(store: LocalStore, limits: Limits, now: float) -> Garbage:
    """Return what may go; raises StoreDamaged or EnvironmentFailure if anything cannot be read that may refer to it."""
    try:
        records, never_began, half = _records(store)
        kept, why = _kept(store, [record for record in records if record.id not in half], limits, now)
        marked = _marked(store, kept)
        files = dict(_files(store, marked))
        leftovers = tuple(sorted(os.listdir(f"{store.path}/tmp")))
        gone = tuple(record for record in records if record.id not in kept)
        folders = [*(f"runs/{record.id}" for record in gone), *(f"runs/{id}" for id in never_began)]
        folders += [f"tmp/{name}" for name in leftovers]
        size = sum(files.values()) + sum(measure(f"{store.path}/{folder}")[1] for folder in folders)
        return Garbage(gone, never_began, why, files, leftovers, size)
    except OSError as error:
        raise _unreadable(error.filename or store.path, error) from error


def _records(store: LocalStore) -> tuple[list[RunRecord], tuple[str, ...], set[str]]:
    """Return all runs in the order in which they began, those that died before they could tell anything, and those
    that an earlier collection was removing when it died."""
    listed = {id: (seq, bool(known)) for id, seq, known in store.rows("SELECT id, seq, summary IS NOT NULL FROM runs")}
    records, empty, removed = [], [], store.removed().keys()
    for id in sorted({*store.folders(), *(id for id, (_, known) in listed.items() if known)}):
        record = store.run(id)
        if record is not None:
            records.append(record)
        elif id in removed:
            continue
        elif listed.get(id, (0, False))[1] or os.path.exists(f"{store.path}/runs/{id}/logs"):
            raise store.lost_journal(id)
        else:
            empty.append(id)
    later = max((seq for seq, _ in listed.values()), default=0) + 1
    records.sort(key=lambda r: (listed.get(r.id, (later, True))[0], r.started.at))
    return records, tuple(empty), removed - set(pinned(store))


def _kept(store: LocalStore, records: list[RunRecord], limits: Limits, now: float) -> tuple[set[str], dict[str, str]]:
    """Return the runs that stay, and of those beyond the limits why."""
    if not limits.any:
        return {record.id for record in records}, {}
    within: set[str] = set()
    good: dict[str, str] = {}  # pipeline -> its newest success
    counts: dict[str, int] = {}
    for record in reversed(records):
        name = record.started.pipeline
        counts[name] = counts.get(name, 0) + 1
        ended = record.ended.at if record.ended else record.started.at
        if counts[name] <= (limits.last or 0) or (limits.days is not None and now - ended < limits.days * _DAY):
            within.add(record.id)
        if record.status == "succeeded" and not record.started.trial:
            good.setdefault(name, record.id)
    why: dict[str, str] = {}
    for group, version in _versions(store):
        if version["status"] == "approved":
            for run in (version["run"], version["model"].get("run", "")):
                why[run] = f"version {version['version']} of the model {group} was approved"
    days = OPEN_DAYS if limits.days is None else limits.days
    for name, runs in _open_plans(store, days, now):
        why |= dict.fromkeys(runs, f"the plan sha256:{name[:8]} stands on it")
    why |= {run: f"the newest success of {pipeline}" for pipeline, run in good.items()}
    why |= {record.id: f"it is {record.status}" for record in records if not record.finished}
    why |= dict.fromkeys(pinned(store), "pinned")
    why = {record.id: why[record.id] for record in records if record.id in why and record.id not in within}
    return within | why.keys(), why


def _versions(store: LocalStore) -> Iterator[tuple[str, dict[str, Any]]]:
    folder = f"{store.path}/models"
    for group in models.groups(folder):
        for version in models.versions(folder, group):
            yield group, version


def _marked(store: LocalStore, kept: Iterable[str]) -> set[str]:
    """Return every digest that is named where something that stays may refer to stored bytes."""
    marked: set[str] = set()
    for id in kept:
        marked |= _digests(content(f"{store.path}/runs/{id}/journal.jsonl", LARGE))
    for folder, _, names in os.walk(f"{store.path}/quarantine", onerror=_raise):
        for name in names:
            if name == "journal.jsonl" and stat.S_ISREG(os.lstat(f"{folder}/{name}").st_mode):
                marked |= _digests(content(f"{folder}/{name}", LARGE))  # a person may still repair it
    for _, version in _versions(store):
        marked.add(version["model"]["digest"])
    for name in sorted(os.listdir(f"{store.path}/trees")):
        digest = f"sha256:{name}"
        if digest in marked:
            if wrong := store.wrong(digest, "dir", True):
                raise StoreDamaged(f"the manifest trees/{name} {wrong}", help="`runner store verify --repair`")
            marked |= {inner for _, kind, inner, _ in store.entries(digest) if kind in ("file", "exec")}
    return marked


def _digests(text: bytes) -> set[str]:
    return {found.decode() for found in _DIGEST.findall(text)}


# An object or manifest; and what a worker that was killed has left on its way to one.
_STORED = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{32})?|new-[0-9a-f]{32}")


def _files(store: LocalStore, marked: set[str]) -> Iterator[tuple[str, int]]:
    """Yield the objects and manifests that are not marked, below the store, with their sizes."""
    for top in ("objects", "trees"):
        for folder, _, names in os.walk(f"{store.path}/{top}", onerror=_raise):
            for name in sorted(names):
                path = f"{folder}/{name}"
                found = os.lstat(path)
                if _STORED.fullmatch(name) and f"sha256:{name}" not in marked and stat.S_ISREG(found.st_mode):
                    yield os.path.relpath(path, store.path), found.st_size


def _raise(error: OSError) -> None:
    raise error


def measure(path: str) -> tuple[int, int]:
    """Return how many files are at or below `path`, and their bytes; what cannot be read counts for nothing."""
    count = size = 0
    if not os.path.isdir(path) or os.path.islink(path):
        return (1, os.lstat(path).st_size) if os.path.lexists(path) else (0, 0)
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(f"{folder}/{name}").st_size
                count += 1
    return count, size


# sweeping


def collect(store: LocalStore, limits: Limits, dry: bool, tell: Callable[[str], None]) -> Garbage:
    """Find what may go and, unless `dry`, remove it."""
    with store.alone(PATIENCE, tell):
        found = find(store, limits, time.time())
        if not dry:
            rights.refuse_unwritable(store.path)
            rights.refuse_unremovable(store.path, _places(store, found))
            try:
                _sweep(store, found)
            except OSError as error:
                raise _unwritable(store, error) from error
        return found


def _places(store: LocalStore, found: Garbage) -> Iterator[str]:
    """Yield the path of all that is to be removed."""
    runs = [f"runs/{id}" for id in (*(record.id for record in found.runs), *found.never_began)]
    plans = "plans/open"
    opened = os.listdir(f"{store.path}/{plans}") if os.path.isdir(f"{store.path}/{plans}") else []
    for path in (*runs, *found.files, *(f"tmp/{name}" for name in found.leftovers), *(f"{plans}/{n}" for n in opened)):
        yield f"{store.path}/{path}"
    if os.path.exists(removed := f"{store.path}/removed.jsonl") and not os.access(removed, os.W_OK):
        raise EnvironmentFailure(f"{removed} cannot be written: Permission denied")


def _sweep(store: LocalStore, found: Garbage) -> None:
    """Remove runs, then the bytes that only they named: a crash at any point leaves no run without its bytes."""
    runs = [*(record.id for record in found.runs), *found.never_began]
    if found.runs:  # first of all: what was begun is ended by the next collection
        at = round(time.time(), 3)
        lines = "".join(json.dumps({"run": r.id, "pipeline": r.started.pipeline, "at": at}) + "\n" for r in found.runs)
        _write(f"{store.path}/removed.jsonl", lines, append=True)
    # All that were ever removed: a reader may have entered one anew while it went.
    _forget(store, [*store.removed(), *found.never_began], [f"{store.path}/{path}" for path in found.files])
    for run in runs:
        os.rename(f"{store.path}/runs/{run}", f"{store.path}/tmp/removed-{run}")
    sync_folder(f"{store.path}/runs")
    for path in sorted(found.files, reverse=True):  # trees before objects: none is without its files
        os.unlink(f"{store.path}/{path}")
    end_attempts(store.path, os.listdir(f"{store.path}/tmp"))  # the store is ours alone: no run is under way
    for name in os.listdir(f"{store.path}/tmp"):
        remove(f"{store.path}/tmp/{name}")  # what cannot be removed stays
    opened = {name for name, _ in _open_plans(store, OPEN_DAYS, time.time())}
    for name in os.listdir(f"{store.path}/plans/open") if os.path.isdir(f"{store.path}/plans/open") else []:
        if name not in opened:
            os.unlink(f"{store.path}/plans/open/{name}")


def _forget(store: LocalStore, runs: list[str], paths: list[str]) -> None:
    """Take runs and files out of the index, durably: it must never offer what has gone."""
    index = store.index
    index.execute("PRAGMA synchronous=FULL")
    index.execute("BEGIN IMMEDIATE")
    index.executemany("DELETE FROM successes WHERE run=?", [(run,) for run in runs])
    index.executemany("DELETE FROM runs WHERE id=?", [(run,) for run in runs])
    index.executemany("DELETE FROM files WHERE path=?", [(path,) for path in paths])
    index.execute("COMMIT")


def _write(path: str, text: str, append: bool = False) -> None:
    try:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
        with open(opened(path, flags), "a" if append else "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror}") from error


def _unreadable(what: str, error: Exception) -> RunnerError:
    if isinstance(error, PermissionError):
        return Denied(what)
    why = getattr(error, "strerror", None) or error
    return StoreDamaged(f"{what} cannot be read: {why}", help="nothing was removed; see `runner store verify`")


def _unwritable(store: LocalStore, error: OSError) -> EnvironmentFailure:
    return EnvironmentFailure(f"the store {store.path} cannot be written: {error.strerror}")
