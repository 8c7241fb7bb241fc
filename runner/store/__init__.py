"""Artifacts by digest, and the records of runs: few verbs, the same for every store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..frozen import frozen
from ..record import Event
from ..reference import Past


@frozen
class Damage:
    """Stored bytes that are missing or are not what their digest says."""

    digest: str
    what: str
    path: str = ""  # below the store, of what is to be put aside
    inside: str = ""  # the digest of the directory that it is a file of
    named: bool = True  # whether anything may refer to it; else it is a leftover, which nothing is lost with
    note: bool = False  # whether the bytes are right, though this is not as the runner has made it


@frozen
class RunSummary:
    """One line of a listing of runs."""

    run: str
    pipeline: str
    title: str
    status: str
    started: float
    seconds: float | None
    exit_code: int | None
    path: str
    request: str  # file of the request, empty if there was none
    trial: bool
    reference: str
    labels: Mapping[str, str]


class Ledger(Protocol):
    """The journal of one run, written by the run's owner alone."""

    number: int  # of the run in its store: a later one has a higher number, whatever its clock says
    full: str  # what was said when there was no room any more; from then on there is only room to end the run

    def append(self, events: Sequence[Event]) -> None:
        """Keep events; when this returns, they and all artifacts that they name survive a power cut."""

    def conclude(self, events: Sequence[Event]) -> None:
        """Keep the last events of a run after `append` has failed, on the room that is kept for them."""

    def log(self, step: str, attempt: int) -> str:
        """Return the path of an attempt's log."""

    def scratch(self, step: str, attempt: int) -> str:
        """Return the path of an attempt's directory, which is not there yet."""

    def inbox(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the messages dropped for the run since the last call, in the order of their names.

        `by` and `at` are who dropped it and when, whatever the message says of that. One that cannot be read has only
        these and `unreadable`, why; it may be half written, and is looked at again.
        """

    def claim(self, fingerprint: str) -> bool:
        """Whether the result with a fingerprint is this run's to make, from now until it is released.

        One run at a time has it; the death of its owner releases it. To ask takes no time: nobody is waited for.
        """

    def claimant(self, fingerprint: str) -> str:
        """Return the other run that is making a result, or "" where that cannot be told."""

    def release(self, fingerprint: str) -> None:
        """Let other runs make a result, or take it."""

    def close(self) -> None:
        """Give the run up: from now on it is finished or interrupted."""


class Store(Past, Protocol):
    """Where artifacts and records of runs are kept."""

    def begin(self, plan: str = "") -> tuple[str, Ledger]:
        """Start a run; return its new id and its ledger. A `plan` digest starts one run only: else raises Moved."""

    def resume(self, run: str) -> Ledger:
        """Return the ledger of a run that waits; raise Moved if another process has it."""

    def register(self, version: Mapping[str, Any]) -> int:
        """Keep a new version of a model in its group; return its number. This is where another registry would be told."""

    def resolve(self, text: str) -> str:
        """Return the id of the one run whose id ends with `text`; raise ReferenceRunError for none or several."""

    def post(self, run: str, name: str, message: Mapping[str, Any]) -> None:
        """Drop a message for the owner of a run; names that are taken get a number."""

    def posted(self, run: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return all messages that were dropped for a run, as its ledger does."""

    def same_request(self, digest: str) -> Iterator[str]:
        """Yield the runs of a request that ended with exit code 0, newest first."""

    def runs(self, pipeline: str | None = None, limit: int | None = None) -> list[RunSummary]:
        """Return runs, newest first."""

    def newest(self, pipeline: str) -> Mapping[str, str]:
        """Return the run that has the newest success of each step of a pipeline."""

    def durations(self, pipeline: str, rows: int) -> dict[str, list[float]]:
        """Return what the steps of a pipeline took, newest first, from its newest `rows` successes."""

    def keep(self, path: str, digest: str) -> None:
        """Keep the bytes of a code file, so that a later plan can show what changed; best effort."""

    def places(self) -> tuple[str, str]:
        """Return the directories that workers publish objects and tree manifests into."""

    def object(self, digest: str, kind: str) -> str:
        """Return the path of a stored file, or of a stored directory's manifest."""

    def learn(self, marks: Mapping[str, list[int]]) -> None:
        """Remember what files of the store looked like when a worker had just stored them, by digest."""

    def mark(self, digest: str) -> list[int] | None:
        """Return what a stored file looked like when it was last known to be right, if that is known."""

    def read(self, digest: str) -> bytes:
        """Return the bytes of a stored file; raise StoreDamaged if they are not there."""

    def damaged(self, artifacts: Iterable[tuple[str, str]], whole: bool) -> list[Damage]:
        """Return what is wrong among (digest, kind). With `whole` every byte is read; else what changed since it was noted."""

    def quarantine(self, digest: str) -> None:
        """Move damaged bytes out of the way."""


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
