"""An inner Pipeline -> steps of the outer one: names get the prefix `outer/`, params the values that the outer step gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .expression import Bound, Call, Node, Ref, Template, levels
from .frozen import frozen
from .pipeline import Branch, CachePolicy, Fan, Output, Pipeline, ProjectPath, Step

Rename = Callable[[str], str]


def mapped(tree: Any, change: Callable[[Node], Node]) -> Any:
    """Return a tree with every expression in it changed."""
    match tree:
        case Template():
            return Template(tuple(p if isinstance(p, str) else change(p) for p in tree.parts))
        case list():
            return [mapped(item, change) for item in tree]
        case dict():
            return {key: mapped(value, change) for key, value in tree.items()}
        case _:
            return tree


def _changed(node: Node, leaf: Callable[[Ref], Node]) -> Node:
    match node:
        case Ref():
            return leaf(node)
        case Call():
            return replace(node, args=tuple(_changed(arg, leaf) for arg in node.args))
        case Bound():
            return replace(node, tree=mapped(node.tree, lambda inner: _changed(inner, leaf)))
        case _:
            return node


def renamed(step: Step, old: str, new: str) -> Step:
    """Return a step of the body of a fan-out as one of an item: `old` and all below it are called `new`."""

    def name(text: str) -> str:
        return new + text[len(old) :] if text == old or text.startswith((f"{old}/", f"{old}[")) else text

    return moved(step, name, lambda ref: _named(ref, name))


def with_inputs(tree: Any, inputs: Mapping[str, Any]) -> Any:
    """Return a tree with the values of named inputs in place of their names: who settles it knows no inputs."""

    def leaf(ref: Ref) -> Node:
        return Bound(ref.path[1], inputs[ref.path[1]], None, ref.at) if ref.path[0] == "inputs" else ref

    return mapped(tree, lambda node: _changed(node, leaf))


def _named(ref: Ref, name: Rename) -> Ref:
    if ref.path[0] == "steps" and (now := name(ref.path[1])) != ref.path[1]:
        return replace(ref, path=("steps", now, *ref.path[2:]))
    return ref


def moved(step: Step, name: Rename, leaf: Callable[[Ref], Node]) -> Step:
    """Return a step with other step names, and other things in place of its references."""

    def tree(value: Any) -> Any:
        return mapped(value, lambda node: _changed(node, leaf))

    own = tree(dict(step.own))
    for side in ("then", "else"):
        if step.kind == "condition":
            own[side] = [name(target) for target in step.own[side]]
    return replace(
        step, name=name(step.name), own=own, needs=tuple(map(name, step.needs)), when=tree(step.when), timeout=tree(step.timeout),
        inputs=tree(dict(step.inputs)), env=tree(dict(step.env)), cpu=tree(step.cpu), memory=tree(step.memory),
        cache=replace(step.cache, key=tuple(tree(k) for k in step.cache.key)),
        branch=Branch(name(step.branch.condition), step.branch.outcome) if step.branch else None,
        reads=frozenset(map(name, step.reads)), unguarded=frozenset(map(name, step.unguarded)),
        foreach=_fan(step.foreach, name, leaf) if step.foreach else None, within=tuple((name(f), name(i)) for f, i in step.within),
        items=tuple(map(name, step.items)),
    )  # fmt: skip


def _fan(fan: Fan, name: Rename, leaf: Callable[[Ref], Node]) -> Fan:
    return replace(
        fan, over={axis: mapped(values, lambda node: _changed(node, leaf)) for axis, values in fan.over.items()},
        reads=frozenset(map(name, fan.reads)), body={name(n): moved(s, name, leaf) for n, s in fan.body.items()},
    )  # fmt: skip


@frozen
class Edges:
    """What a value that is given to an inner pipeline refers to, outside of it."""

    reads: frozenset[str]
    unguarded: frozenset[str]
    params: frozenset[str]
    files: tuple[ProjectPath, ...] = ()


def levels_of(step: Step) -> int:
    """Return how deep the deepest tree of a step is, or of the steps that it repeats."""
    trees = [step.own, step.when, step.timeout, step.inputs, step.env, step.cpu, step.memory, *step.cache.key]
    fan = step.foreach
    inside = [levels(fan.over), *map(levels_of, fan.body.values())] if fan else []
    return max(*map(levels, trees), *inside)


def embed(inner: Pipeline, outer: Step, given: Mapping[str, Bound], edges: Mapping[str, Edges]) -> dict[str, Step]:
    """Return the steps of an inner pipeline as `outer/name`, and last the step that joins its outputs.

    `given` has a value for each of its params. What gates the outer step gates each of them.
    """
    if outer.foreach is not None:
        key = outer.foreach.key

        def own_each(ref: Ref) -> Node:
            return (
                replace(ref, path=("each", key, ref.path[1])) if ref.path[0] == "each" and len(ref.path) == 2 else ref
            )

        given = {p: replace(b, tree=mapped(b.tree, lambda node: _changed(node, own_each))) for p, b in given.items()}
        outer = replace(
            outer, when=mapped(outer.when, lambda node: _changed(node, own_each)),
            cache=replace(outer.cache, key=tuple(mapped(k, lambda node: _changed(node, own_each)) for k in outer.cache.key)),
        )  # fmt: skip
    out = {name: _gated(step, outer) for name, step in _inside(inner.steps, outer.name, given, edges).items()}
    own = {"outputs": {n: _moved_tree(t, outer.name, given) for n, t in inner.outputs.items()}}
    read = {r.path[1] for t in inner.outputs.values() for r in t.refs() if r.path[0] == "steps"}
    needed = {
        ref.path[1]
        for name, template in inner.outputs.items()
        if not inner.output_types[name].optional
        for ref in template.refs()
        if ref.path[0] == "steps"
    }
    after = {before for step in inner.steps.values() for before in step.before}
    leaves = {name for name in inner.steps if name not in after}
    unguarded = {name for e in edges.values() for name in e.unguarded}
    out[outer.name] = replace(
        outer, own=own, foreach=None, reads=frozenset(f"{outer.name}/{n}" for n in read | leaves),
        unguarded=frozenset(f"{outer.name}/{n}" for n in needed), needs=tuple(sorted({*outer.needs, *unguarded})),
        outputs={n: Output(n, replace(t, optional=False), optional=t.optional) for n, t in inner.output_types.items()},
        params=frozenset(), gate_params=frozenset(),
        computed=any(not isinstance(t, Template) or not isinstance(t.exact, Ref) for t in own["outputs"].values()),
    )  # fmt: skip
    return out


def embed_finals(
    inner: Pipeline, outer: str, given: Mapping[str, Bound], edges: Mapping[str, Edges]
) -> dict[str, Step]:
    """Return the steps of an inner pipeline's `finally`: they run with those of the outer one."""
    return _inside(inner.finals, outer, given, edges)


def _inside(
    steps: Mapping[str, Step], outer: str, given: Mapping[str, Bound], edges: Mapping[str, Edges]
) -> dict[str, Step]:
    def name(text: str) -> str:
        return f"{outer}/{text}"

    # What these give is checked against the rules of the param, too.
    computed = {param for param, bound in given.items() if any(True for _ in refs_of(bound.tree))}
    out = {}
    for step in steps.values():
        made = _keyed(moved(step, name, _leaf(outer, given)), name)
        if (step.params | step.gate_params) & computed:
            made = replace(made, computed=True)
        out[made.name] = _with_edges(made, step, edges)
    return out


def _leaf(outer: str, given: Mapping[str, Bound]) -> Callable[[Ref], Node]:
    def leaf(ref: Ref) -> Node:
        match ref.path:
            case ("params", param):
                return replace(given[param], at=ref.at)
            case ("steps", step, *rest):
                return replace(ref, path=("steps", f"{outer}/{step}", *rest))
            case ("each", key, axis):
                return replace(ref, path=("each", f"{outer}/{key}", axis))
            case _:
                return ref

    return leaf


def _moved_tree(tree: Any, outer: str, given: Mapping[str, Bound]) -> Any:
    return mapped(tree, lambda node: _changed(node, _leaf(outer, given)))


def _gated(step: Step, outer: Step) -> Step:
    """Put what gates the outer step before one of its own, and before all that a fan-out among them repeats."""
    fan = step.foreach
    if fan is not None and fan.body:
        fan = replace(fan, body={name: _gated(inner, outer) for name, inner in fan.body.items()})
    when = step.when
    if when is True:
        when = outer.when
    elif isinstance(when, Template) and isinstance(outer.when, Template):
        both = (outer.when.parts[0], when.parts[0])
        when = Template((Call("and", tuple(part for part in both if not isinstance(part, str)), 0),))
    elif outer.when is False:
        when = False
    gates = set(refs_of(outer.when))
    keys = {ref for key in outer.cache.key for ref in refs_of(key)} if step.has_process or step.deferred else set()
    names = {ref.path[1] for ref in gates | keys if ref.path[0] == "steps"}
    params = step.params | {ref.path[1] for ref in keys if ref.path[0] == "params"}
    return replace(
        step, foreach=fan, when=when, needs=tuple(dict.fromkeys([*step.needs, *outer.needs])), branch=step.branch or outer.branch,
        on_failure="continue" if outer.on_failure == "continue" else step.on_failure, tags=step.tags | outer.tags, cache=_cached(step, outer),
        reads=step.reads | names, unguarded=step.unguarded | (outer.unguarded & names),
        params=params, gate_params=(step.gate_params | outer.gate_params) - params,
    )  # fmt: skip


def _cached(step: Step, outer: Step) -> CachePolicy:
    """Return when an earlier success may stand for a step: what the outer step says counts beside what it says itself."""
    limits = [limit for limit in (step.cache.expire_after, outer.cache.expire_after) if limit is not None]
    return replace(
        step.cache,
        enabled=step.cache.enabled and outer.cache.enabled,
        expire_after=min(limits, default=None),
        key=(*step.cache.key, *outer.cache.key),
    )


def refs_of(tree: Any) -> Iterator[Ref]:
    """Yield every reference in a tree."""
    match tree:
        case Template():
            yield from tree.refs()
        case list():
            for item in tree:
                yield from refs_of(item)
        case dict():
            for value in tree.values():
                yield from refs_of(value)


def _keyed(step: Step, name: Rename) -> Step:
    if step.foreach is None:
        return step
    body = {inner: _keyed(of, name) for inner, of in step.foreach.body.items()}
    return replace(step, foreach=replace(step.foreach, key=name(step.foreach.key), body=body))


def _with_edges(made: Step, inner: Step, edges: Mapping[str, Edges]) -> Step:
    """Replace the inner params that a step reads by what is behind them in the outer pipeline."""
    data = [edges[param] for param in inner.params]
    gates = [edges[param] for param in inner.gate_params]
    fan = made.foreach
    behind = [edges[p] for p in inner.foreach.params] if inner.foreach else []
    if fan is not None:
        fan = replace(
            fan, reads=fan.reads.union(*(e.reads for e in behind)), params=frozenset[str]().union(*(e.params for e in behind)),
            body={n: _with_edges(s, _inner_body(inner, n, made.name), edges) for n, s in fan.body.items()},
        )  # fmt: skip
    return replace(
        made, foreach=fan, reads=made.reads.union(*(e.reads for e in (*data, *gates))),
        unguarded=made.unguarded.union(*(e.unguarded for e in (*data, *gates))),
        params=frozenset[str]().union(*(e.params for e in data)),
        gate_params=frozenset[str]().union(*(e.params for e in gates)) - frozenset[str]().union(*(e.params for e in data)),
        files=(*made.files, *(f for e in (*data, *gates, *behind) for f in e.files)),
    )  # fmt: skip


def _inner_body(inner: Step, name: str, outer: str) -> Step:
    assert inner.foreach is not None
    return inner.foreach.body[inner.name + name[len(outer) :]]
