"""Pipeline outputs: their values, and which of them a run cannot have because it leaves steps out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .errors import StoreDamaged
from .expression import Bound, Call, EvaluationError, Node, Ref, Template
from .fingerprint import Before, World, settle
from .gate import GOOD
from .pipeline import Pipeline, Step
from .values import Artifact, plain_json

_LEFT_OUT = Before("not_selected")


def results(
    pipeline: Pipeline,
    params: Mapping[str, Any],
    before: Mapping[str, Before],
    world: World,
    run: Mapping[str, str],
) -> dict[str, Any]:
    """Return the pipeline's outputs as a record has them; `before` is how the steps of the run ended.

    An output that needs a step which is no part of the run is left out, and so is one that has no value.
    """
    found: dict[str, Any] = {}
    holder = Step(name="", kind="command")
    for name, template in pipeline.outputs.items():
        needed = {ref.path[1] for ref in template.refs() if ref.path[0] == "steps"}
        if any(step not in before or before[step].status not in GOOD for step in needed) and template.exact is None:
            continue
        ends = {**before, **{step: _LEFT_OUT for step in needed if step not in before}}
        try:
            value = settle(template, holder, pipeline, params, ends, world, run)
        except (EvaluationError, StoreDamaged):
            continue
        if value is not None:
            found[name] = _result(value)
    return found


def _result(value: Any) -> Any:
    if isinstance(value, Artifact):
        return {"type": value.kind, "digest": value.digest, "name": value.name}
    return [_result(item) for item in value] if isinstance(value, list) else plain_json(value)


def left_out(template: Template, absent: Collection[str]) -> tuple[list[str], bool]:
    """Return which of the absent steps an output reads, and whether it is sure to need one of them."""
    reads = dict.fromkeys(ref.path[1] for ref in template.refs() if ref.path[0] == "steps" and ref.path[1] in absent)
    needed = {ref.path[1] for part in template.parts if not isinstance(part, str) for ref in _always_read(part)}
    return list(reads), bool(needed & reads.keys())


def _always_read(node: Node) -> Iterator[Ref]:
    """Yield the references that are read whatever the others are."""
    match node:
        case Ref(path=("steps", *_)):
            yield node
        case Call(name="coalesce" | "default" | "and" | "or" | "if", args=(first, *_)):
            yield from _always_read(first)
        case Call(args=args):
            for arg in args:
                yield from _always_read(arg)
        case Bound(template=Template(parts=parts)):
            for part in parts:
                if not isinstance(part, str):
                    yield from _always_read(part)
