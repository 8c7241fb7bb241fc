"""Two runs -> what differs between them, and which factors a changed metric comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .causes import Cause, differences, shown
from .fingerprint import Produced
from .frozen import frozen
from .record import RunRecord, StepEnded
from .values import alike, digest_of, plain

Load = Callable[[str], RunRecord | None]


@frozen
class Change:
    """One thing that is not the same in both runs, as text; empty where a run lacks it."""

    what: str  # of a step: step/name
    then: str
    now: str


@frozen
class MetricChange:
    step: str
    name: str
    then: float | None
    now: float | None
    factors: tuple[Cause, ...]  # all that differs on its path
    path: tuple[str, ...]  # the steps that it was computed by

    @property
    def change(self) -> float | None:
        return None if self.then is None or self.now is None else self.now - self.then


@frozen
class Difference:
    then: RunRecord
    now: RunRecord
    params: tuple[Change, ...]
    metrics: tuple[MetricChange, ...]
    code: tuple[Change, ...]
    inputs: tuple[Change, ...]
    outputs: tuple[Change, ...]
    statuses: tuple[Change, ...]
    durations: tuple[tuple[str, float, float], ...]  # of steps that ran in both


def compare(then: RunRecord, now: RunRecord, load: Load) -> Difference:
    """Return what differs; `load` finds the runs that made what was reused."""
    steps = list(dict.fromkeys([*then.started.decisions, *now.started.decisions]))
    pairs = [(n, then.steps.get(n), now.steps.get(n)) for n in steps]
    both = [(n, a, b) for n, a, b in pairs if a and b and a.recipe and b.recipe]
    own = {n: tuple(factors(a, b)) for n, a, b in both}
    return Difference(
        then, now,
        tuple(_changes(then.started.params, now.started.params)),
        tuple(_metrics(then, now, load)),
        tuple(dict.fromkeys(Change(c.name, c.then, c.now) for causes in own.values() for c in causes if c.kind == "code")),
        tuple(dict.fromkeys(Change(f"{n}/{c.name}", c.then, c.now) for n, causes in own.items() for c in causes if c.kind in ("input", "env"))),
        tuple(
            Change(f"{n}/{name}", _content(a.outputs.get(name)), _content(b.outputs.get(name)))
            for n, a, b in both for name in _declared({*a.outputs, *b.outputs}) if _content(a.outputs.get(name)) != _content(b.outputs.get(name))
        ),
        tuple(_changes(then.statuses, now.statuses)),
        tuple((n, a.seconds, b.seconds) for n, a, b in pairs if a and b and a.status == b.status == "succeeded" and a.taken is None),
    )  # fmt: skip


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*then, *now]):
        a, b = then.get(name), now.get(name)
        if not alike(a, b) or (name in then) != (name in now):
            yield Change(name, shown(plain(a), name in then), shown(plain(b), name in now))


def _declared(names: Iterable[str]) -> list[str]:
    """Return the names of outputs without what a fan-out keeps for itself: how many items it had, and their values."""
    return sorted(name for name in names if not name.startswith("."))


def _content(output: Mapping[str, Any] | None) -> str:
    if output is None:
        return "none"
    if "items" in output:
        return Produced.of_json(output).identity
    return str(output.get("digest") or shown(output.get("value"), True))


def _metrics(then: RunRecord, now: RunRecord, load: Load) -> Iterator[MetricChange]:
    for step in dict.fromkeys([*then.steps, *now.steps]):
        old, new = _numbers(then.steps.get(step)), _numbers(now.steps.get(step))
        for name in dict.fromkeys([*old, *new]):
            a, b = old.get(name), new.get(name)
            if a == b:
                continue
            causes: tuple[Cause, ...] = ()
            path: tuple[str, ...] = ()
            if a is not None and b is not None:
                before, after = lineage(then, step, load), lineage(now, step, load)
                path = tuple(sorted({*before, *after}))
                found = [c for n in path if n in before and n in after for c in factors(before[n], after[n])]
                found += [
                    Cause(
                        "code",
                        f"step {n}",
                        "none" if n not in before else "there",
                        "none" if n not in after else "there",
                    )
                    for n in path
                    if (n in before) != (n in after)
                ]
                causes = tuple(dict.fromkeys(found))
            yield MetricChange(step, name, a, b, causes, path)


def _numbers(ended: StepEnded | None) -> dict[str, float]:
    """Return a step's metrics, of a reused one too: its values that are numbers."""
    if ended is None:
        return {}
    values = {**{n: ended.outputs[n].get("value") for n in _declared(ended.outputs)}, **ended.metrics}
    return {n: float(v) for n, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def lineage(record: RunRecord, step: str, load: Load) -> dict[str, StepEnded]:
    """Return all results that a step's own was made from, and its own."""
    found: dict[str, StepEnded] = {}
    todo = [(step, record)]
    while todo:
        name, run = todo.pop()
        ended = run.steps.get(name)
        if ended is None or name in found:
            continue
        found[name] = ended
        for source, _, _, made_by in ended.reads:
            origin = run if made_by == run.id or source in run.steps else load(made_by)
            if origin is not None:
                todo.append((source, origin))
    return found


def factors(then: StepEnded, now: StepEnded) -> tuple[Cause, ...]:
    """Return in what a step itself differs, apart from what it read of other steps."""
    if then.fingerprint == now.fingerprint or not (then.recipe and now.recipe):
        return ()
    a, b = _without_reads(then), _without_reads(now)
    return differences(a, b, then.params, now.params) if a != b or then.params != now.params else ()


def _without_reads(ended: StepEnded) -> Any:
    """Return the recipe with a name in place of everything that came from another step."""
    names = {digest: f"{step}.{output}" for step, output, digest, _ in ended.reads}
    return _renamed(ended.recipe, names)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    match value:
        case {"digest": str(digest), "name": _} if digest in names:
            return {"from": names[digest]}
        case Mapping():
            return {key: _renamed(inner, names) for key, inner in value.items()}
        case list() | tuple():
            files = [[item["digest"], item["name"]] if _is_file(item) else item for item in value]
            found = names.get(digest_of(value)) or names.get(digest_of(files))
            return {"from": found} if found else [_renamed(inner, names) for inner in value]
        case _:
            found = names.get(digest_of(value))
            return {"from": found} if found else value


def _is_file(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"digest", "name"}


def statement(metric: MetricChange) -> str:
    """Return what a changed metric comes from: every difference on its path, or that nothing recorded differs."""
    where = f"{metric.name} of {metric.step}"
    if metric.then is None or metric.now is None:
        return f"{where} is in one of the runs only"
    if not metric.factors:
        return f"{where}: nothing that is recorded differs on its path, so the step is not reproducible"
    listed = "; ".join(map(str, metric.factors))
    count = len(metric.factors)
    return f"{where}: all that differs on its path is {listed}" + ("" if count == 1 else f" ({count} factors)")
