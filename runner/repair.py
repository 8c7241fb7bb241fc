"""Damage -> who made what is lost, and the requests that make it again: new runs, each on the run that made it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .app import Asked, read
from .errors import EnvironmentFailure, StoreDamaged
from .fingerprint import artifacts
from .frozen import frozen
from .pipeline import RunRequest
from .project import Project
from .record import NO_RESULT, RunRecord, StepEnded
from .select import written_as
from .store import Damage, rights
from .store.local import LocalStore


@frozen
class Loss:
    """What one run made and the store has no more: the digests by step."""

    record: RunRecord
    steps: Mapping[str, frozenset[str]]

    @property
    def digests(self) -> frozenset[str]:
        return frozenset().union(*self.steps.values())


def put_aside(store: LocalStore, damage: Iterable[Damage]) -> None:
    """Move all that is damaged to the quarantine; offer no result of it any more; make the index anew."""
    damage = list(damage)
    rights.refuse_foreign_index(store.path)
    rights.refuse_unwritable(store.path)
    rights.refuse_unremovable(store.path, [f"{store.path}/{found.path}" for found in damage if found.path])
    for path in dict.fromkeys(found.path for found in damage if found.path and found.path != "index.db"):
        store.set_aside(path)
    store.reindex()
    store.forget({found.digest for found in damage if found.digest})


def losses(store: LocalStore, damage: Iterable[Damage]) -> list[Loss]:
    """Return who made the damaged bytes, the oldest run first, so that what one makes is there for the next."""
    wanted = {found.digest for found in damage if found.digest}
    records = [record for summary in reversed(store.runs()) if (record := store.run(summary.run)) and record.finished]
    there = {record.id: record for record in records}
    makers: dict[str, dict[str, frozenset[str]]] = {record.id: {} for record in records}
    for record in reversed(records):  # the newest that has it stands in for a run that was removed
        for name, ended in record.steps.items():
            if made := _lost(store, ended) & wanted:
                run = ended.produced_by if name in _steps(there.get(ended.produced_by)) else record.id
                makers[run][name] = makers[run].get(name, frozenset()) | made
                wanted -= made
    return [Loss(there[run], steps) for run, steps in makers.items() if steps]


def _steps(record: RunRecord | None) -> Mapping[str, StepEnded]:
    return record.steps if record else {}


def _lost(store: LocalStore, ended: StepEnded) -> set[str]:
    """Return the digests of all that a step made, the files in its directories too; nothing if it only joined others."""
    if not ended.usable or ended.recipe.get("kind") in NO_RESULT:
        return set()
    found = set()
    for digest, kind in artifacts(ended.outputs.values()):
        found.add(digest)
        if kind == "dir":
            try:
                found |= {content for _, _, content, _ in store.entries(digest)}
            except (OSError, EnvironmentFailure, ValueError, LookupError, TypeError):
                continue  # it is lost as a whole
    return found


def missing(store: LocalStore, loss: Loss) -> bool:
    """Whether something of it is still not there: an earlier repair may have made the same bytes."""
    kinds = {d: k for e in loss.record.steps.values() for d, k in artifacts(e.outputs.values())}
    return bool(store.damaged([(digest, kinds.get(digest, "file")) for digest in loss.digests], whole=False))


def request(project: Project, store: LocalStore, loss: Loss) -> Asked:
    """Return the request that runs the producers again, on the run that made what is lost, with its params."""
    path = os.path.relpath(project.path(loss.record.started.path))
    if not os.path.isfile(path):
        raise StoreDamaged(f"{path}, the pipeline of run {loss.record.id}, is gone")
    asked = read(path, None, store.path)
    known = [name for name in loss.steps if name in asked.pipeline.steps]
    # Items of a fan-out whose axes are computed are known when it is planned.
    chosen = [*written_as(known, asked.pipeline, asked.graph), *(n for n in loss.steps if n not in known)]
    wanted = RunRequest(
        pipeline=asked.pipeline.path, base=asked.pipeline.base, select=tuple(chosen), islands=True,
        reference=loss.record.id, mode="full",
    )  # fmt: skip
    return replace(asked, request=wanted)
