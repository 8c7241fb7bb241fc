"""RunRequest x Graph x past runs -> the Selection and the reference run it stands on, and why not a newer one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from .axes import is_literal
from .errors import ReferenceRunError, suggest
from .frozen import frozen
from .gate import GOOD
from .graph import Graph
from .params import check_value
from .pipeline import Latest, Pipeline, RunRequest
from .record import RunRecord, StepEnded
from .select import Facts, Selection, SelectorError, select, statuses_of, uses_reference
from .values import plain, text_of

Changed = Callable[[RunRecord, str], set[str]]  # the steps that differ now, by own causes of a kind
View = Callable[[RunRecord | None], tuple[Pipeline, Graph]]  # the pipeline with the items that a reference run gives it
Same = Callable[[RunRecord, str], bool]  # whether a parameter had the value that this request gives it


class Past(Protocol):
    """What planning may ask of earlier runs."""

    def finished(self, pipeline: str) -> Iterator[RunRecord]:
        """Yield the finished runs of a pipeline, newest first."""

    def run(self, id: str) -> RunRecord | None:
        """Return a run by its whole id."""

    def success(self, fingerprint: str) -> StepEnded | None:
        """Return the newest stored success of a fingerprint that may be taken in this checkout."""

    def successes(self, fingerprint: str) -> Iterator[StepEnded]:
        """Yield all stored successes of a fingerprint that may be taken in this checkout, newest first."""

    def elsewhere(self, ended: StepEnded) -> str:
        """Return the other checkout that a result belongs to, since it was made outside the sandbox, or ""."""

    def newest(self, pipeline: str) -> Mapping[str, str]:
        """Return the run that has the newest success of each step of a pipeline."""


@frozen
class Reference:
    record: RunRecord
    why: str
    rejected: tuple[tuple[str, str], ...] = ()  # newer run, why not


@frozen
class Candidate:
    """A finished run as the reference run of a request, for a listing from best to worst."""

    run: str
    status: str
    at: float  # UTC seconds of its start
    why_not: str = ""  # why it cannot serve at all
    unsound: int = 0  # reused steps that would need a decision
    redo: float = 0.0  # seconds that the least honest selection adds

    @property
    def rank(self) -> tuple[bool, int, float, float]:
        return bool(self.why_not), self.unsound, self.redo, -self.at


def choose(
    request: RunRequest, view: View, past: Past, changed: Changed, same: Same, now: float
) -> tuple[Selection, Reference | None]:
    """Return what is selected and the reference run; raises SelectorError or ReferenceRunError."""
    pipeline, _ = view(None)
    for name, value in request.latest.where.items() if request.latest else ():
        if name not in pipeline.params:
            raise ReferenceRunError(
                f"`where` names no parameter: {name}", help=suggest(name, pipeline.params, "params")
            )
        if value != "same" and (wrong := check_value(pipeline.params[name], value)):
            raise ReferenceRunError(
                f"`where`: params.{name}: {wrong}", help="write `same`, or a value that it may have"
            )
    wanted = request.reference or ("latest" if _leaves_something(request) else "none")
    if wanted == "none":
        selection = _select(request, view, None, changed)
        if lacking := [name for name in selection.frontier if name not in request.assume]:
            raise ReferenceRunError(
                f"the selection needs the outputs of {', '.join(lacking)}, and there is no reference run (`reference: none`)",
                help=f"select {', '.join(lacking)} too, or name a reference run",
            )
        return selection, None
    if wanted != "latest":
        return _named(wanted, request, view, past, changed)
    return _latest(request, view, past, changed, lambda record: _misfit(request.latest, record, same, now))


def _leaves_something(request: RunRequest) -> bool:
    return request.select is not None or bool(request.exclude)


def facts_of(record: RunRecord | None, pipeline: Pipeline, changed: Changed) -> Facts:
    """Return what selectors may ask of a run."""

    def need(record: RunRecord | None) -> RunRecord:
        if record is None:
            raise SelectorError(
                "E402",
                "this selector needs a reference run, and there is none",
                "run the pipeline once, or name the steps",
            )
        return record

    return Facts(
        having_status=lambda status: statuses_of(status, need(record).statuses) & set(pipeline.steps),
        changed=lambda kind: changed(need(record), kind),
    )


def _select(request: RunRequest, view: View, record: RunRecord | None, changed: Changed) -> Selection:
    pipeline, graph = view(record)
    facts = facts_of(record, pipeline, changed)
    return select(request.select, request.exclude, request.islands, pipeline, graph, facts)


def _named(id: str, request: RunRequest, view: View, past: Past, changed: Changed) -> tuple[Selection, Reference]:
    pipeline, _ = view(None)
    record = past.run(id)
    if record is None:
        raise ReferenceRunError(f"there is no run {id}", help="`runner runs` lists them")
    if record.started.pipeline != pipeline.name:
        raise ReferenceRunError(f"run {id} is of the pipeline {record.started.pipeline}, not {pipeline.name}")
    if not record.finished:
        raise ReferenceRunError(f"run {id} is {record.status}", help="a reference run must have finished")
    selection = _select(request, view, record, changed)
    if lacks := list(unusable(selection, request, view(record)[0], record)):
        raise ReferenceRunError(f"run {id} cannot serve: " + "; ".join(why for _, why in lacks), help=_add(lacks))
    return selection, Reference(record, "named in the request")


def _misfit(wanted: Latest | None, record: RunRecord, same: Same, now: float) -> str:
    """Return why a run is not what `reference: {latest: ...}` asks for, or nothing."""
    if wanted is None:
        return ""
    if wanted.status and record.status not in wanted.status:
        return f"it {'failed' if record.status == 'failed' else 'ended ' + record.status}"
    for key, value in wanted.labels.items():
        if record.started.labels.get(key) != value:
            return f"its label {key} is {record.started.labels.get(key, 'not set')}, not {value}"
    for name, value in wanted.where.items():
        had = record.started.params.get(name)
        if not same(record, name) if value == "same" else plain(had) != plain(value):
            return f"its {name} was {'not set' if had is None else text_of(had)}" + (
                "" if value == "same" else f", not {text_of(value)}"
            )
    if wanted.max_age is not None and now - record.started.at > wanted.max_age:
        return "it is too old"
    return ""


def _latest(
    request: RunRequest,
    view: View,
    past: Past,
    changed: Changed,
    misfit: Callable[[RunRecord], str],
) -> tuple[Selection, Reference | None]:
    selectors = [*(request.select or ()), *request.exclude, *request.force]
    by_status = uses_reference(selectors, ("status",))
    pipeline, graph = view(None)
    # What is selected may depend on the run: by a selector that asks it, or by items that its results or params give.
    varies = uses_reference(selectors) or any(s.foreach and not is_literal(s.foreach) for s in pipeline.steps.values())
    fixed = None if varies else _select(request, view, None, changed)
    rejected: list[tuple[str, str]] = []
    first_lacks: list[tuple[str, str]] = []
    misfits = 0
    for record in past.finished(pipeline.name):
        if record.started.trial:
            rejected.append((record.id, "it is a trial"))
            continue
        if wrong := misfit(record):
            rejected.append((record.id, wrong))
            misfits += 1
            continue
        selection = fixed or _select(request, view, record, changed)
        lacks = list(unusable(selection, request, view(record)[0], record))
        if not lacks:
            return selection, Reference(record, _praise(selection), tuple(rejected))
        first_lacks = first_lacks or lacks
        rejected.append((record.id, "; ".join(why for _, why in lacks)))
        if by_status:
            raise ReferenceRunError(f"the latest run {record.id} cannot serve: {rejected[-1][1]}", help=_add(lacks))
    if fixed is None:
        fixed = _select(request, view, None, changed)  # says what it needs
    lacking = [name for name in fixed.frontier if name not in request.assume]
    if not lacking and not (request.latest and rejected):
        return fixed, None
    shown = "".join(f"\n  {id}: {why}" for id, why in rejected[:5]) + (
        f"\n  and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    )
    what = (
        f"no finished run of `{pipeline.name}` has usable outputs of {', '.join(lacking)}"
        if lacking and not misfits
        else f"no finished run of `{pipeline.name}` is what `reference` asks for"
    )
    if misfits and not first_lacks:
        raise ReferenceRunError(what + shown, help="ask for less, or name a run")
    raise ReferenceRunError(
        what + shown,
        help=_add(first_lacks)
        if first_lacks
        else f"run the pipeline first, or add {', '.join(graph.sorted(fixed.closure))} to `select`",
    )


def _praise(selection: Selection) -> str:
    return (
        f"latest with a usable {', '.join(selection.frontier[:6])}" if selection.frontier else "the latest finished run"
    )


def _add(lacks: Iterable[tuple[str, str]]) -> str:
    return f"add {', '.join(dict.fromkeys(name for name, _ in lacks))} to `select`, or name another run"


def unusable(
    selection: Selection, request: RunRequest, pipeline: Pipeline, record: RunRecord
) -> Iterator[tuple[str, str]]:
    """Yield each frontier step that `record` cannot stand for, with the reason."""
    for name in selection.frontier:
        if name in request.assume:
            continue
        step, ended = pipeline.steps[name], record.steps.get(name)
        if ended is None:
            status = record.statuses.get(name)
            yield (
                name,
                f"{name} never ran there"
                if status is None
                else f"{name} was not part of it"
                if status == "not_selected"
                else f"its {name} was {status.replace('_', ' ')}",
            )
        elif ended.status == "skipped":
            readers = [pipeline.steps[s] for s in selection.steps if name in pipeline.steps[s].before]
            if any(
                name in r.unguarded or name in r.needs or (r.branch and r.branch.condition == name)
                for r in readers
                if r.trigger == "all_succeeded"
            ):
                yield name, f"its {name} was skipped"
        elif ended.status not in GOOD:
            yield (
                name,
                f"its {name} {'failed' if ended.status == 'failed' else 'ended ' + ended.status.replace('_', ' ')}",
            )
        elif step.kind == "condition" and ended.taken is None:
            yield name, f"its {name} was no condition"
        else:
            missing = [o.name for o in step.outputs.values() if not o.optional and o.name not in ended.outputs]
            if missing:
                yield name, f"its {name} has no output {', '.join(missing)}"
