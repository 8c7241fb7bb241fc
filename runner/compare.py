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
    own = {n: factors(a, b, _edited((a, then), (b, now), load)) for n, a, b in both}
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
                found = [
                    cause
                    for n in path
                    if n in before and n in after
                    for cause in factors(before[n][0], after[n][0], _edited(before[n], after[n], load))
                ]
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


Held = tuple[StepEnded, RunRecord]  # a result, and the run whose record has it


def _edited(then: Held, now: Held, load: Load) -> bool:
    """Whether the pipeline was edited between the runs that made two results; where one is gone, it may have been."""
    runs = [load(ended.produced_by) if ended.produced_by not in ("", run.id) else run for ended, run in (then, now)]
    first, second = (run.started.definition if run else None for run in runs)
    return first is None or first != second


def lineage(record: RunRecord, step: str, load: Load) -> dict[str, Held]:
    """Return all results that a step's own was made from, and its own."""
    found: dict[str, Held] = {}
    todo = [(step, record)]
    while todo:
        name, run = todo.pop()
        ended = run.steps.get(name)
        if ended is None or name in found:
            continue
        found[name] = (ended, run)
        for source, _, _, made_by in ended.reads:
            origin = run if made_by == run.id or source in run.steps else load(made_by)
            if origin is not None:
                todo.append((source, origin))
    return found


def factors(then: StepEnded, now: StepEnded, edited: bool = True) -> tuple[Cause, ...]:
    """Return in what a step itself differs, apart from what it read of other steps.

    Where the pipeline was not `edited` between the two, a value that differs and is no file can only have been computed:
    of parameters, which are factors themselves, or of what was read.
    """
    if then.fingerprint == now.fingerprint or not (then.recipe and now.recipe):
        return ()
    old, new = _read_by(then), _read_by(now)
    found: tuple[Cause, ...] = ()
    for computed in (True, False) if not edited and old != new else (False,):
        a, b = dict(then.recipe), dict(now.recipe)
        for part in _VALUES & a.keys() & b.keys():
            a[part], b[part] = _without_reads(a[part], b[part], old, new, computed)
        found = found or differences(a, b, then.params, now.params)
        if a == b and old != new:
            break  # nothing but what it read
    return found


_VALUES = {"own", "env", "inputs", "outputs", "each", "cache_key"}  # parts of a recipe that may hold what was read
Reads = Mapping[str, frozenset[str]]  # digest of what was read -> the outputs that had it


def _read_by(ended: StepEnded) -> Reads:
    names: dict[str, set[str]] = {}
    for step, output, digest, _ in ended.reads:
        names.setdefault(digest, set()).add(f"{step}.{output}")
    return {digest: frozenset(outputs) for digest, outputs in names.items()}


def _without_reads(a: Any, b: Any, old: Reads, new: Reads, computed: bool) -> tuple[Any, Any]:
    """Return two recipes without the differences that come from what was read.

    They are compared part by part: a number that is in both for another reason stays, whatever was read.
    """
    if a == b:
        return a, b
    if shared := _digests(a, old) & _digests(b, new):
        same = {"from": sorted(shared)}
        return same, same
    match a, b:
        case Mapping(), Mapping() if not (_is_file(a) and _is_file(b)):
            pairs = {k: _without_reads(a[k], b[k], old, new, computed) for k in a.keys() & b.keys()}
            return {**a, **{k: p[0] for k, p in pairs.items()}}, {**b, **{k: p[1] for k, p in pairs.items()}}
        case (list() | tuple(), list() | tuple()) if len(a) == len(b):
            elements = [_without_reads(x, y, old, new, computed) for x, y in zip(a, b, strict=True)]
            return [x for x, _ in elements], [y for _, y in elements]
    if computed and not _has_file(a) and not _has_file(b):
        return {"computed": True}, {"computed": True}
    return a, b


def _digests(value: Any, reads: Reads) -> frozenset[str]:
    """Return the outputs, of those that were read, that a part of a recipe can be."""
    if _is_file(value):
        return reads.get(value["digest"], frozenset())
    if isinstance(value, list | tuple):
        files = [[item["digest"], item["name"]] if _is_file(item) else item for item in value]
        return reads.get(digest_of(value), frozenset()) | reads.get(digest_of(files), frozenset())
    found = reads.get(digest_of(value), frozenset())
    return found | reads.get(value, frozenset()) if isinstance(value, str) else found


def _is_file(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() - {"executable"} == {"digest", "name"}


def _has_file(value: Any) -> bool:
    match value:
        case Mapping():
            return _is_file(value) or any(map(_has_file, value.values()))
        case list() | tuple():
            return any(map(_has_file, value))
        case _:
            return False


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
