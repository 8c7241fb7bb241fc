"""Request x pipeline x reference run -> the steps that never take a stored result, also inside items to come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .graph import Graph, graph_of
from .pipeline import Pipeline, RunRequest, Step
from .record import RunRecord
from .reference import facts_of
from .select import Facts, SelectorError, union


def forced(request: RunRequest, pipeline: Pipeline, graph: Graph, reference: RunRecord | None) -> frozenset[str]:
    """Return the names of the steps that `force` means; what is inside a fan-out without items has the fan-out's name.

    Raises SelectorError for a selector that means nothing.
    """
    if not request.force:
        return frozenset()
    steps = {inner.name: inner for step in pipeline.steps.values() for inner in as_written(step)}
    whole = replace(pipeline, steps=steps)
    facts = Facts(facts_of(reference, whole, _no_changes).having_status, _no_changes)
    try:
        meant = union(request.force, whole, graph_of(steps, request.assume), facts, "force")
    except SelectorError:
        union(request.force, pipeline, graph, facts, "force")  # its error knows of `foreach`
        raise
    return frozenset(name for name in meant if not steps[name].joins)


def forced_inside(fan: Step, forced: frozenset[str]) -> tuple[list[str], bool]:
    """Return the forced steps of a fan-out without items, in the order of the file, and whether these are all of its steps."""
    able = [step.name for step in as_written(fan) if not step.joins and step.cache.enabled]
    found = [name for name in able if name in forced]
    return found, bool(found) and len(found) == len(able)


def is_forced(step: Step, forced: frozenset[str]) -> bool:
    """Whether a step is forced under its own name, or under the one it had before its items were known."""
    return not forced.isdisjoint(_names(step))


def looks_up(step: Step, mode: str, forced: frozenset[str] = frozenset()) -> bool:
    """Whether a stored success of the step's fingerprint is taken instead of running it."""
    return mode == "incremental" and step.cache.enabled and not (forced and is_forced(step, forced))


def _no_changes(*_: object) -> set[str]:
    raise SelectorError("E402", "`changed:` cannot be used in `force`")


def as_written(step: Step) -> Iterator[Step]:
    """Yield what stands for a step in a pipeline without items: a fan-out of pipelines as one that it consists of."""
    if not (step.deferred and step.foreach and step.foreach.body):
        yield step
        return
    for inner in step.foreach.body.values():
        yield from as_written(inner)


def _names(step: Step) -> Iterator[str]:
    name = step.name
    yield name
    for fan, item in reversed(step.within):
        name = fan + name[len(item) :]
        yield name
