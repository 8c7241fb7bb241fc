"""RunRequest x Graph x past runs -> the Selection and the reference run it stands on, and why not a newer one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from .errors import ReferenceRunError
from .gate import GOOD
from .graph import Graph
from .pipeline import Pipeline, RunRequest
from .record import RunRecord, StepEnded
from .select import Facts, Selection, SelectorError, select, statuses_of, uses_reference

Changed = Callable[[RunRecord, str], set[str]]  # the steps that differ now, by own causes of a kind


class Past(Protocol):
    """What planning may ask of earlier runs."""

    def finished(self, pipeline: str) -> Iterator[RunRecord]:
        """Yield the finished runs of a pipeline, newest first."""

    def run(self, id: str) -> RunRecord | None:
        """Return a run by its whole id."""

    def success(self, fingerprint: str) -> StepEnded | None:
        """Return the newest stored success of a fingerprint."""

    def successes(self, fingerprint: str) -> Iterator[StepEnded]:
        """Yield all stored successes of a fingerprint, newest first."""


@dataclass(frozen=True)
class Reference:
    record: RunRecord
    why: str
    rejected: tuple[tuple[str, str], ...] = ()  # newer run, why not


def choose(
    request: RunRequest, pipeline: Pipeline, graph: Graph, past: Past, changed: Changed
) -> tuple[Selection, Reference | None]:
    """Return what is selected and the reference run; raises SelectorError or ReferenceRunError."""
    wanted = request.reference or ("latest" if _leaves_something(request) else "none")
    if wanted == "none":
        selection = _select(request, pipeline, graph, None, changed)
        if lacking := [name for name in selection.frontier if name not in request.assume]:
            raise ReferenceRunError(
                f"the selection needs the outputs of {', '.join(lacking)}, and there is no reference run (`reference: none`)",
                help=f"select {', '.join(lacking)} too, or name a reference run",
            )
        return selection, None
    if wanted != "latest":
        return _named(wanted, request, pipeline, graph, past, changed)
    return _latest(request, pipeline, graph, past, changed)


def _leaves_something(request: RunRequest) -> bool:
    return request.select is not None or bool(request.exclude)


def _select(
    request: RunRequest, pipeline: Pipeline, graph: Graph, record: RunRecord | None, changed: Changed
) -> Selection:
    def need(record: RunRecord | None) -> RunRecord:
        if record is None:
            raise SelectorError(
                "E402",
                "this selector needs a reference run, and there is none",
                "run the pipeline once, or name the steps",
            )
        return record

    facts = Facts(
        having_status=lambda status: statuses_of(status, need(record).statuses) & set(pipeline.steps),
        changed=lambda kind: changed(need(record), kind),
    )
    return select(request.select, request.exclude, request.islands, pipeline, graph, facts)


def _named(
    id: str, request: RunRequest, pipeline: Pipeline, graph: Graph, past: Past, changed: Changed
) -> tuple[Selection, Reference]:
    record = past.run(id)
    if record is None:
        raise ReferenceRunError(f"there is no run {id}", help="`runner runs` lists them")
    if record.started.pipeline != pipeline.name:
        raise ReferenceRunError(f"run {id} is of the pipeline {record.started.pipeline}, not {pipeline.name}")
    if not record.finished:
        raise ReferenceRunError(f"run {id} is {record.status}", help="a reference run must have finished")
    selection = _select(request, pipeline, graph, record, changed)
    if lacks := list(unusable(selection, request, pipeline, record)):
        raise ReferenceRunError(f"run {id} cannot serve: " + "; ".join(why for _, why in lacks), help=_add(lacks))
    return selection, Reference(record, "named in the request")


def _latest(
    request: RunRequest, pipeline: Pipeline, graph: Graph, past: Past, changed: Changed
) -> tuple[Selection, Reference | None]:
    selectors = [*(request.select or ()), *request.exclude, *request.force]
    by_status = uses_reference(selectors, ("status",))
    fixed = None if uses_reference(selectors) else _select(request, pipeline, graph, None, changed)
    rejected: list[tuple[str, str]] = []
    first_lacks: list[tuple[str, str]] = []
    for record in past.finished(pipeline.name):
        if record.started.trial:
            rejected.append((record.id, "it is a trial"))
            continue
        selection = fixed or _select(request, pipeline, graph, record, changed)
        lacks = list(unusable(selection, request, pipeline, record))
        if not lacks:
            return selection, Reference(record, _praise(selection), tuple(rejected))
        first_lacks = first_lacks or lacks
        rejected.append((record.id, "; ".join(why for _, why in lacks)))
        if by_status:
            raise ReferenceRunError(f"the latest run {record.id} cannot serve: {rejected[-1][1]}", help=_add(lacks))
    if fixed is None:
        fixed = _select(request, pipeline, graph, None, changed)  # says what it needs
    lacking = [name for name in fixed.frontier if name not in request.assume]
    if not lacking:
        return fixed, None
    shown = "".join(f"\n  {id}: {why}" for id, why in rejected[:5]) + (
        f"\n  and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    )
    what = f"no finished run of `{pipeline.name}` has usable outputs of {', '.join(lacking)}"
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
        readers = [pipeline.steps[s] for s in selection.steps if name in pipeline.steps[s].before]
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
