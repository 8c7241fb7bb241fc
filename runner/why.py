"""Plan x step -> Why: all that is counted for one step, with then and now, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .causes import shown
from .decide import Decision, Kept, Run
from .errors import UsageError, suggest
from .fingerprint import Before, Outline, Produced, outline, when_holds
from .frozen import frozen
from .lineage import Lineage, Made
from .pipeline import Step
from .plan import Plan
from .record import StepEnded
from .reference import Past
from .review import Finding, GateReport
from .values import canonical, digest_of


@frozen
class Counted:
    """One thing that is part of a step's fingerprint."""

    kind: str  # code param input env field runtime definition
    name: str
    then: str  # as text; empty where there is nothing to compare with
    now: str
    changed: bool


@frozen
class Consumed:
    """An output of another step that the step reads."""

    step: str
    output: str
    then: str  # digest; empty where it was not read
    now: str  # digest; empty where it is known only once that step has ended
    produced_by: str
    decision: str  # on that step


@frozen
class Gated:
    """One thing that decides whether the step starts."""

    kind: str  # branch, when or after
    name: str
    then: str
    now: str


@frozen
class Why:
    """The plan's answer for one step."""

    step: str
    decision: Decision | None  # None: a step of `finally`, which always runs
    compared: Made | None
    compared_why: str
    counted: tuple[Counted, ...]
    reads: tuple[Consumed, ...]
    gates: tuple[Gated, ...]
    asked: tuple[GateReport, ...]  # what the plan says of its gates
    findings: tuple[Finding, ...]
    readers: tuple[tuple[str, str], ...]  # step that reads it, decision


def explain(plan: Plan, name: str, past: Past) -> Why:
    """Return why the plan decides as it does about a step. Raises UsageError for a name that is none."""
    steps = {**plan.pipeline.steps, **plan.pipeline.finals}
    if name not in steps:
        raise UsageError(f"the pipeline has no step `{name}`", help=suggest(name, steps, "steps"))
    step, lineage = steps[name], Lineage(past)
    made = lineage.made(name, plan.reference.record if plan.reference else None)
    compared_why = "the reference run" if made else "its newest result"
    made = made or lineage.newest(name, plan.pipeline.name)
    consumed = made.consumed(step.reads) if made else {n: b for n, b in _kept(plan).items() if n in step.reads}
    now = outline(replace(step, axis_reads=()), plan.pipeline, plan.params, consumed, plan.world)
    ended = made.ended if made else None
    return Why(
        name, plan.decisions.get(name), made, compared_why if made else "", tuple(_counted(ended, now)),
        tuple(_reads(plan, step, ended)), tuple(_gates(plan, step, made)),
        tuple(gate for gate in plan.gates if gate.step == name),
        tuple(f for f in plan.findings if name in {f.subject, *(s for s, _ in f.causes)}),
        tuple((n, plan.decisions[n].name) for n in plan.graph.after.get(name, ())),
    )  # fmt: skip


def _kept(plan: Plan) -> dict[str, Before]:
    """Return what is known already of the steps of a plan."""
    known = {n: d.past.before() for n, d in plan.decisions.items() if isinstance(d, Kept)}
    known |= {
        n: Before("succeeded", {}, d.outcome)
        for n, d in plan.decisions.items()
        if isinstance(d, Run) and d.outcome is not None
    }
    return known


_GROUPS = (("input", "inputs"), ("env", "env"), ("field", "own"))
_WHOLE = ("kind", "each", "items", "outputs", "workdir", "success_codes", "cache_key")


def _counted(ended: StepEnded | None, now: Outline) -> Iterator[Counted]:
    then: Mapping[str, Any] = ended.recipe if ended else {}
    old_code = {path: rest for path, *rest in then.get("code", ())}
    new_code = {path: rest for path, *rest in now.recipe.get("code", ())}
    for path in sorted({*old_code, *new_code}):
        yield _row("code", path, _code(old_code.get(path)), _code(new_code.get(path)), ended)
    params = ended.params if ended else {}
    for name in sorted({*params, *now.params}):
        yield _row("param", name, *_texts(params, now.params, name), ended)
    for kind, group in _GROUPS:
        old, new = then.get(group, {}), now.recipe.get(group, {})
        for name in sorted({*old, *new}):
            error = now.errors.get(f"{group}.{name}")
            before, after = _texts(old, new, name)
            yield _row(kind, name, before, f"not known: {error}" if error else after, ended)
    if "runtime" in then or "runtime" in now.recipe:
        yield _row("runtime", "interpreter and platform", *_texts(then, now.recipe, "runtime"), ended)
    for name in _WHOLE:
        if name in then or name in now.recipe:
            yield _row("definition", name, *_texts(then, now.recipe, name), ended)


def _code(entry: Any) -> str:
    return f"{entry[1]}{', executable' if entry[0] else ''}" if entry else "none"


def _texts(then: Mapping[str, Any], now: Mapping[str, Any], name: str) -> tuple[str, str]:
    return _text(then, name), _text(now, name)


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    is_file = isinstance(value, dict) and value.keys() <= {"digest", "name", "executable"}
    structured = isinstance(value, list | dict) and not is_file
    return shown(canonical(value) if structured else value, name in values)


def _row(kind: str, name: str, then: str, now: str, ended: StepEnded | None) -> Counted:
    return Counted(kind, name, then if ended else "", now, bool(ended) and then != now)


def _reads(plan: Plan, step: Step, ended: StepEnded | None) -> Iterator[Consumed]:
    before = {(source, output): (digest, run) for source, output, digest, run in ended.reads} if ended else {}
    now: dict[tuple[str, str], str] = {}
    for source in plan.graph.sorted(n for n in step.reads if n in plan.decisions):
        decision = plan.decisions[source]
        outputs = {o for s, o in before if s == source} or set(plan.pipeline.steps[source].outputs)
        for output in outputs:
            now[source, output] = _digest(decision, output)
    for source, output in sorted({*before, *now}):
        digest, run = before.get((source, output), ("", ""))
        found = plan.decisions.get(source)
        yield Consumed(source, output, digest, now.get((source, output), ""), run, found.name if found else "")


def _digest(decision: Decision, output: str) -> str:
    """Return what a step is known to hand on, or nothing."""
    match decision:
        case Kept(past=past) if output in past.outputs:
            return Produced.of_json(past.outputs[output]).identity
        case Kept(past=past) if output == "taken" and past.taken is not None:
            return digest_of(past.taken)
        case Run(outcome=bool()) if output == "taken":
            return digest_of(decision.outcome)
    return ""


def _gates(plan: Plan, step: Step, made: Made | None) -> Iterator[Gated]:
    steps = made.record.steps if made and made.record else {}
    known = _kept(plan)
    if step.branch:
        name = step.branch.condition
        past, now = steps.get(name), known.get(name)
        yield Gated(
            "branch",
            f"{name} is {_word(step.branch.outcome)}",
            _word(past.taken if past else None),
            _word(now.taken if now else None),
        )
    if step.when is not True:
        then = "" if made is None else "false" if made.ended.status == "skipped" and not made.ended.by else "true"
        yield Gated("when", "`when`", then, _word(when_holds(step, plan.pipeline, plan.params, known, plan.world)))
    for name in plan.graph.sorted(n for n in step.before if n in plan.decisions):
        past = steps.get(name)
        yield Gated("after", name, past.status if past else "", plan.decisions[name].name)


def _word(value: bool | None) -> str:
    return {True: "true", False: "false", None: ""}[value]
