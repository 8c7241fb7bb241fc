"""Earlier runs -> what a result was made from: how the steps before it had ended in the run that made it.

A run that only reused a result knows nothing of what it was made from. The result is followed to the run in which the
step ran or was taken from the cache: the record of that run has every step before it, as it was consumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from .fingerprint import Before
from .frozen import frozen
from .pipeline import Step
from .record import RunRecord, StepEnded
from .reference import Past
from .select import Selection

_RECENT = 10  # runs that are read for a step's newest result, before the index is asked for its newest success


@frozen
class Made:
    """A result, and the record of the run in which it was made or taken from the cache."""

    ended: StepEnded
    record: RunRecord | None  # None: that run is gone

    def consumed(self, names: Iterable[str]) -> dict[str, Before]:
        """Return what the step found of its predecessors; those that had not ended, or are not known, are left out."""
        steps = self.record.steps if self.record else {}
        return {name: steps[name].before() for name in names if name in steps}

    @property
    def key(self) -> tuple[object, ...]:
        """What two results of one step have in common that need one verdict only."""
        ended = self.ended
        return ended.produced_by, ended.fingerprint, ended.status, ended.taken


class Lineage:
    """Finds results in the records of earlier runs."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._runs: dict[str, RunRecord | None] = {}
        self._recent: dict[str, tuple[list[RunRecord], Iterator[RunRecord]]] = {}
        self._successes: dict[str, Mapping[str, str]] = {}  # of each pipeline, the run of each step's newest

    def run(self, id: str) -> RunRecord | None:
        """Return the record of a run, or None if it is gone."""
        if id not in self._runs:
            self._runs[id] = self._past.run(id) if id else None
        return self._runs[id]

    def made(self, name: str, record: RunRecord | None) -> Made | None:
        """Return the result of a step in a run or, if the step was no part of it, in the run that it was based on."""
        while record is not None:
            ended = record.steps.get(name)
            if ended is not None:
                return self._followed(ended, record)
            record = self.run(record.started.reference)
        return None

    def newest(self, name: str, pipeline: str) -> Made | None:
        """Return the newest result of a step in the runs of a pipeline."""
        for record in self._recent_of(pipeline):
            if name in record.steps:
                return self.made(name, record)
        maker = self._makers(pipeline).get(name)
        return self.made(name, self.run(maker)) if maker else None

    def knows(self, pipeline: str) -> bool:
        """Whether there is any result of a pipeline."""
        return any(True for _ in self._recent_of(pipeline)) or bool(self._makers(pipeline))

    def _makers(self, pipeline: str) -> Mapping[str, str]:
        if pipeline not in self._successes:
            self._successes[pipeline] = self._past.newest(pipeline)
        return self._successes[pipeline]

    def _recent_of(self, pipeline: str) -> Iterator[RunRecord]:
        """Yield the newest finished runs, each read once for all steps."""
        if pipeline not in self._recent:
            self._recent[pipeline] = [], islice(self._past.finished(pipeline), _RECENT)
        read, rest = self._recent[pipeline]
        yield from read
        for record in rest:
            read.append(record)
            yield record

    def _followed(self, ended: StepEnded, record: RunRecord) -> Made:
        while ended.reused_from and ended.status in ("reused", "skipped"):
            origin = self.run(ended.reused_from)
            found = origin.steps.get(ended.step) if origin else None
            if origin is None or found is None:
                maker = self.run(ended.produced_by)
                found = maker.steps.get(ended.step) if maker else None
                return Made(found, maker) if found is not None else Made(ended, None)
            ended, record = found, origin
        return Made(ended, record)


@frozen
class Sources:
    """The results that a selection depends on, up to the roots."""

    made: Mapping[str, list[Made]]  # of each step above the selection; several where different results were consumed
    lost: frozenset[str]  # steps whose results were consumed by one whose run is gone


def sources(
    selection: Selection, steps: Mapping[str, Step], record: RunRecord, assumed: Iterable[str], lineage: Lineage
) -> Sources:
    """Return the results that `record` gives the selection, and all that these were made from."""
    made: dict[str, list[Made]] = {name: [] for name in selection.closure}
    holders: dict[str, dict[str, RunRecord]] = {name: {} for name in selection.closure}
    lost: set[str] = set()
    for name in selection.frontier:
        holders[name][record.id] = record
    for name in reversed(selection.closure):
        if name in assumed:
            continue
        seen = set()
        for holder in holders[name].values():
            found = lineage.made(name, holder)
            before: Iterable[str] = steps[name].before
            origin: RunRecord | None = holder
            if found is not None:
                origin = found.record
                before = {*before, *(read[0] for read in found.ended.reads)}
                if found.key not in seen:
                    seen.add(found.key)
                    made[name].append(found)
            for source in sorted(before):
                if source not in made:
                    continue
                if origin is None:
                    lost.add(source)
                else:
                    holders[source][origin.id] = origin
    return Sources(made, frozenset(lost))
