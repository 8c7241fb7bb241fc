"""A store -> all that is wrong with it. Nothing ends the search: what cannot be read is told, and the rest is read.

Objects and manifests are compared with their names, journals with their sums, what journals and models name with what
is there, and the index with the journals. What is right, but not as the runner makes it, is noted: a link, a file of another
user or with another name elsewhere, one that may be written.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import EnvironmentFailure, StoreDamaged, printable
from ..fingerprint import artifacts
from ..gate import GOOD
from ..record import Event, StepEnded, fold, to_json
from ..values import canonical
from . import Damage, garbage, models, rights
from .checked import is_run
from .local import login
from .reading import Denied, content

if TYPE_CHECKING:
    from .local import LocalStore

_NAME = re.compile("[0-9a-f]{64}")
_UNNAMED = re.compile("new-[0-9a-f]{32}")  # what a worker has not given its name
# What lies in a store, beside the index.
_PLACES = {
    ".gitignore", "format", "objects", "trees", "runs", "plans", "quarantine", "tmp", "groups", "claims", "models", "compiled",
    "settled", "environments", "removed.jsonl",
}  # fmt: skip


def verify(store: LocalStore) -> Iterator[Damage]:
    """Yield all damage; raises EnvironmentFailure for what a newer runner wrote."""
    rows = _Rows(store)  # before the journals: they are written first
    yield from _format(store)
    wrong = _told_apart(store, [*_objects(store), *_manifests(store)])
    yield from wrong
    yield from _runs(store, rows)
    yield from _models(store)
    yield from _plans(store)
    yield from rows.damage
    yield from _foreign(store, {damage.path for damage in wrong})
    store.flush()


def _told_apart(store: LocalStore, found: list[Damage]) -> list[Damage]:
    """Mark the files that nothing refers to: a power cut leaves those that no journal had come to name."""
    if not found:
        return found
    try:
        free = garbage.find(store, garbage.Limits(), 0.0).files
    except (StoreDamaged, EnvironmentFailure):
        return found  # what cannot be read may name any of them
    return [replace(d, named=(d.path or f"trees/{d.inside[7:]}") not in free) for d in found]


def _format(store: LocalStore) -> Iterator[Damage]:
    found = content(f"{store.path}/format")
    if not re.fullmatch(rb"[1-9]\d*\n", found):
        yield Damage("", f"format is {found[:40]!r}")


def _entries(path: str, store: LocalStore, wrong: list[Damage]) -> list[os.DirEntry[str]]:
    """Return what a folder holds, in order; one that cannot be read is added to `wrong`."""
    try:
        return sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        if isinstance(error, PermissionError) and rights.foreign(path):
            raise Denied(path) from error
        wrong.append(Damage("", f"{os.path.relpath(path, store.path)} cannot be read ({error.strerror})"))
        return []


def _wrong(store: LocalStore, digest: str, kind: str) -> str:
    """Return what is wrong with stored bytes; what the owner of a file may not read is wrong, too."""
    try:
        return store.wrong(digest, kind, True)
    except Denied as error:
        if rights.foreign(error.path):
            raise
        return "cannot be read (Permission denied)"


def _objects(store: LocalStore) -> Iterator[Damage]:
    unread: list[Damage] = []
    for algorithm in _entries(f"{store.path}/objects", store, unread):
        if _UNNAMED.fullmatch(algorithm.name):
            yield Damage("", f"objects/{algorithm.name} was not finished", f"objects/{algorithm.name}")
            continue
        for folder in _entries(algorithm.path, store, unread):
            for entry in _entries(folder.path, store, unread):
                path = os.path.relpath(entry.path, store.path)
                known = _NAME.fullmatch(entry.name) and folder.name == entry.name[:2] and algorithm.name == "sha256"
                if not known:
                    yield Damage("", f"{path} is no object", path)
                elif wrong := _wrong(store, f"sha256:{entry.name}", "file"):
                    yield Damage(f"sha256:{entry.name}", f"{path} {wrong}{_but(entry)}", path)
    yield from unread


def _manifests(store: LocalStore) -> Iterator[Damage]:
    unread: list[Damage] = []
    for entry in _entries(f"{store.path}/trees", store, unread):
        path, digest = f"trees/{entry.name}", f"sha256:{entry.name}"
        if not _NAME.fullmatch(entry.name):
            what = "was not finished" if _UNNAMED.fullmatch(entry.name) else "is no manifest"
            yield Damage("", f"{path} {what}", path)
            continue
        if wrong := _wrong(store, digest, "dir"):
            yield Damage(digest, f"{path} {wrong}{_but(entry)}", path)
            continue
        try:
            entries = store.entries(digest)
        except StoreDamaged as error:
            yield Damage(digest, error.text, path)
            continue
        for name, kind, inner, _ in entries:
            if kind in ("file", "exec") and not os.path.lexists(store.object(inner, "file")):
                yield Damage(inner, f"{name} of trees/{digest[7:15]} is missing", inside=digest)
    yield from unread


def _but(entry: os.DirEntry[str]) -> str:
    """Return what stands where a file should."""
    what = _kind(entry.path, entry.stat(follow_symlinks=False).st_mode)
    return f", but {what}" if what else ""


def _kind(path: str, mode: int) -> str:
    """Return what something is that is no file, nor a folder that should be there; nothing for a file."""
    if stat.S_ISLNK(mode):
        return f"a symlink to {printable(os.readlink(path))}"
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"


def _runs(store: LocalStore, rows: _Rows) -> Iterator[Damage]:
    unread: list[Damage] = []
    seen: set[str] = set()
    there = set()
    for entry in _entries(f"{store.path}/runs", store, unread):
        id = entry.name
        if not entry.is_dir(follow_symlinks=False) or not is_run(id):
            yield Damage("", f"runs/{id} is no run", f"runs/{id}")
            continue
        there.add(id)
        try:
            events = list(store.events(id))
        except StoreDamaged as error:
            yield Damage("", error.text, f"runs/{id}")
            continue
        except Denied as error:
            if rights.foreign(f"{entry.path}/journal.jsonl"):
                raise
            yield Damage("", error.text, f"runs/{id}")
            continue
        record = fold(events)
        if record is None:
            if rows.started(id) or os.path.exists(f"{entry.path}/logs"):
                yield Damage("", f"run {id} has lost its journal", f"runs/{id}")
            continue
        rows.compare(id, events)
        for ended in record.steps.values():
            for name, output in ended.outputs.items() if ended.status in GOOD else []:
                for digest, kind in artifacts([output]):
                    if digest not in seen and not os.path.lexists(store.object(digest, kind)):
                        yield Damage(digest, f"output {name} of {ended.step} in run {id} is missing")
                    seen.add(digest)
    yield from unread
    removed = store.removed()
    for id in rows.all_started():
        if id not in there and id not in removed:
            yield Damage("", f"run {id} is in the index, but not in runs", rows.NAME)


def _models(store: LocalStore) -> Iterator[Damage]:
    folder = f"{store.path}/models"
    try:
        groups = models.groups(folder)
        numbers = [(group, number) for group in groups for number in models.numbers(folder, group)]
    except StoreDamaged as error:
        yield Damage("", error.text)
        return
    for group, number in numbers:
        try:
            model = models.version(folder, group, number)["model"]
            if not os.path.lexists(store.object(model["digest"], model["type"])):
                yield Damage(model["digest"], f"the model of {group} version {number} is missing")
        except (StoreDamaged, OSError) as error:
            yield Damage("", getattr(error, "text", str(error)))


def _plans(store: LocalStore) -> Iterator[Damage]:
    removed = store.removed()
    unread: list[Damage] = []
    for entry in _entries(f"{store.path}/plans", store, unread):
        if entry.name == "open":
            continue
        try:
            run = content(entry.path).decode("ascii", "replace")
        except OSError as error:
            yield Damage("", f"plans/{entry.name} cannot be read ({error.strerror})")
            continue
        id = run.removesuffix("\n")
        if run and not (
            run.endswith("\n") and (id in removed or (is_run(id) and os.path.isdir(f"{store.path}/runs/{id}")))
        ):
            yield Damage("", f"plans/{entry.name[:8]} names {id[:40]!r}, which is no run")
    yield from unread


def _foreign(store: LocalStore, told: Container[str]) -> Iterator[Damage]:
    """Note what the runner has not made so. No byte is wrong by that, but somebody may have meant to make it so, or may yet.
    Of what is `told` as damage there is no more to say.
    """
    owner = os.stat(store.path).st_uid
    others: dict[int, list[str]] = {}
    for path, found in _all(store):
        if path in told or os.path.dirname(path) in told:
            continue
        what = "" if stat.S_ISDIR(found.st_mode) else _kind(f"{store.path}/{path}", found.st_mode)
        stored = path.startswith(("objects/", "trees/"))
        if "/" not in path and path not in _PLACES and not path.startswith("index.db"):
            yield _note(f"{path} is nothing that the runner puts into a store")
        elif what:
            yield _note(f"{path} is {what}")
        if found.st_uid != owner:
            others.setdefault(found.st_uid, []).append(path)
        if not stat.S_ISREG(found.st_mode) or not (stored or path.endswith("/journal.jsonl") or "/" not in path):
            continue
        if found.st_nlink > 1:
            yield _note(f"{path} has {found.st_nlink} names: who has another of them may write to it")
        if stored and found.st_mode & 0o222:
            yield _note(f"{path} may be written: its mode is {stat.S_IMODE(found.st_mode):04o}")
    for uid, paths in sorted(others.items()):
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield _note(f"{paths[0]}{more}: of {login(uid)}, the store is of {login(owner)}")


def _note(what: str) -> Damage:
    return Damage("", what, note=True)


def _all(store: LocalStore) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all that lies in a store, by its path there; no link is followed. In `tmp` and `quarantine` anything may be."""
    todo = [""]
    for folder in todo:  # grows
        for entry in _entries(f"{store.path}/{folder}", store, []):
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # of a run that goes on
            yield path, found
            if stat.S_ISDIR(found.st_mode) and path not in ("tmp", "quarantine"):
                todo.append(path)


class _Rows:
    """What the index says, and where it differs from what the journals say."""

    NAME = "index.db"

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.damage: list[Damage] = []
        self.runs: dict[str, tuple[str, str, str, str]] = {}
        self.successes: dict[str, list[tuple[str, str, str]]] = {}  # run -> fingerprint, step, detail
        import sqlite3  # with the first query, not with the program

        try:
            index = store.index
            for (line,) in index.execute("PRAGMA integrity_check"):
                if line != "ok":
                    self._wrong(line.splitlines()[-1])
            query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
            if index.execute(query).fetchall() != store.empty_index().execute(query).fetchall():
                self._wrong("its tables are not those that were made")
            for id, *row in index.execute("SELECT id, pipeline, status, request_digest, summary FROM runs"):
                if row[-1] is not None:
                    self.runs[str(id)] = tuple(row)
            for run, *row, sum, sound in index.execute(
                "SELECT run, fingerprint, step, detail, sum, pipeline=(SELECT pipeline FROM runs WHERE id=run)"
                " AND seconds=coalesce(json_extract(detail, '$.seconds'), 0) FROM successes"
            ):
                if sum != store.row_sum(row[0], run, row[1], row[2]) or not sound:
                    self._wrong(f"a result of {row[1]} in run {run} is not what was entered")
                self.successes.setdefault(run, []).append(tuple(row))
            self._files(index.execute("SELECT path, mark, digest FROM files").fetchall())
        except (sqlite3.DatabaseError, UnicodeDecodeError, TypeError) as error:
            self._wrong(str(error))
        except StoreDamaged as error:  # it is a link, or has to be rebuilt from a journal that is damaged
            self._wrong(error.text)

    def _wrong(self, what: str) -> None:
        self.damage.append(Damage("", f"the index is damaged: {what}", self.NAME))

    def _files(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Compare the digests that were noted with those of the files, as far as these are what was noted."""
        inside = tuple(f"{place}/" for place in self.store.places())
        for path, mark, digest in rows:
            if path.startswith(inside):
                wrong = digest != f"sha256:{os.path.basename(path)}"
            else:
                try:
                    found = os.stat(path)
                    same = stat.S_ISREG(found.st_mode) and self.store.mark_of(found) == mark
                    wrong = same and self.store.digest(path, trust=False) != digest
                except (OSError, ValueError):
                    continue
            if wrong:
                self._wrong(f"{path} has not the digest that was noted")

    def started(self, id: str) -> bool:
        return id in self.runs

    def all_started(self) -> list[str]:
        return list(self.runs)

    def compare(self, id: str, events: list[Event]) -> None:
        """Compare the rows of a run with its journal, which may be ahead of them."""
        results = {
            (e.fingerprint, e.step, canonical(to_json(e))) for e in events if isinstance(e, StepEnded) and e.is_result
        }
        for row in self.successes.pop(id, []):
            if row not in results:
                self._wrong(f"a result of {row[1]} in run {id} is not in the journal")
        if id not in self.runs:
            return
        pipeline, status, request, summary = self.runs[id]
        record = fold(events)
        assert record is not None
        try:
            known = json.loads(summary)
        except ValueError:
            known = None
        expected, ended = self.store.summary_of(record, status != "running")
        if (pipeline, request, known) != (
            record.started.pipeline,
            record.started.request_digest,
            expected,
        ) or status not in ("running", ended, record.status):  # the last for a run whose owner was killed
            self._wrong(f"what it says of run {id} is not in the journal")
