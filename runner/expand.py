"""Pipeline x params x known results -> the Pipeline whose fan-outs are items, as far as their axes are known.

An item is a step of its own, named by its values: `train[depth=4,eta=0.1]`. The fan-out's own name becomes a step that
joins the items. A fan-out whose axes come from a step that has not ended stays one step; the engine spreads it later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .axes import AxisError, Combination, combinations, is_literal, name_of
from .embed import renamed
from .expression import EvaluationError
from .fingerprint import Before, Read, World, axis_values
from .frozen import changed, frozen
from .pipeline import Fan, Pipeline, Step


@frozen
class Known:
    """What axes may be computed from: parameters, and the results of steps that have ended."""

    pipeline: Pipeline
    params: Mapping[str, Any]
    before: Mapping[str, Before]
    world: World


def items(step: Step, known: Known | None) -> dict[str, Step]:
    """Return the steps that stand for a fan-out, itself as the one that joins them last.

    With `known` None only literal axes are spread. Raises EvaluationError where the axes have no values, or too many.
    """
    fan = step.foreach
    assert fan is not None
    axes, reads = _axes(step, fan, known)
    out: dict[str, Step] = {}
    names: list[str] = []
    for values in combinations(step.name, fan, axes):
        name = name_of(step.name, values)
        if name in out:
            raise AxisError(
                f"two items are called {name}: a value is given twice",
                help="items are named by their values: give each value once",
            )
        names.append(name)
        out |= _item(step, fan, name, values, reads)
    values = {axis: [out[name].each[axis] for name in names] for axis in axes} if fan.best else {}
    out[step.name] = _join(step, fan, tuple(names), values)
    return out


def _axes(step: Step, fan: Fan, known: Known | None) -> tuple[dict[str, list[Any]], tuple[Read, ...]]:
    if known is None:
        return {axis: list(values) for axis, values in fan.over.items()}, ()
    return axis_values(step, known.pipeline, known.params, known.before, known.world)


def _item(step: Step, fan: Fan, name: str, values: Combination, reads: tuple[Read, ...]) -> dict[str, Step]:
    if not fan.body:
        return {name: changed(
            step, name=name, foreach=None, each={**step.each, **values}, axis_reads=(*step.axis_reads, *reads),
            within=(*step.within, (step.name, name)),
        )}  # fmt: skip
    # What is inside of a fan-out that itself is part of an item has the values of that item, too.
    keyed = {**step.each, **{f"{fan.key}.{axis}": value for axis, value in values.items()}}
    behind = {read.step for read in step.axis_reads}
    out = {}
    for inner in fan.body.values():
        made = renamed(inner, step.name, name)
        out[made.name] = changed(
            made, each={**made.each, **keyed}, axis_reads=(*step.axis_reads, *made.axis_reads, *reads),
            reads=made.reads | fan.reads | behind, within=(*step.within, (step.name, name), *made.within),
        )  # fmt: skip
    # The values stand also under their bare names, for who asks the item itself.
    out[name] = changed(out[name], each={**out[name].each, **values})
    return out


def _join(step: Step, fan: Fan, names: tuple[str, ...], values: Mapping[str, list[Any]]) -> Step:
    return replace(
        step, kind="foreach", own={}, when=True, inputs={}, env={}, code=(), files=(), items=names,
        reads=frozenset(names), unguarded=frozenset(),
        needs=tuple(sorted({*step.needs, *step.unguarded, *fan.reads})), params=frozenset(), gate_params=fan.params,
        each={**step.each, **values},
    )  # fmt: skip


def _ready(step: Step, known: Known | None) -> bool:
    fan = step.foreach
    assert fan is not None
    if known is None:
        return is_literal(fan)
    return all(name in known.before for name in fan.reads)


def deferred(pipeline: Pipeline) -> Iterator[Step]:
    """Yield the fan-outs whose items are not known yet."""
    return (step for step in pipeline.steps.values() if step.deferred)


def expand(pipeline: Pipeline, known: Known | None = None) -> Pipeline:
    """Return the pipeline with every fan-out spread whose axes are known; with `known` None only literal ones are.

    A fan-out whose axes have no values, or too many, stays one step: it may not be going to run, and the results that
    they are computed from may be of another time. Whoever is to run it finds out what is wrong with them.
    """
    steps: Mapping[str, Step] = pipeline.steps
    without: set[str] = set()
    while any(step.deferred and name not in without and _ready(step, known) for name, step in steps.items()):
        made: dict[str, Step] = {}
        # An axis inside of an item may be computed by a step of that item, which only the layer before has made.
        known = replace(known, pipeline=replace(pipeline, steps=steps)) if known is not None else None
        for name, step in steps.items():
            made[name] = step
            if step.deferred and name not in without and _ready(step, known):
                try:
                    spread = items(step, known)
                except EvaluationError:
                    without.add(name)
                else:
                    del made[name]
                    made |= spread
        steps = made
    return pipeline if steps is pipeline.steps else replace(pipeline, steps=steps)
