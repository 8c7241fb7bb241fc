"""Case -> Plan: the value that is reviewed, printed and run; its JSON, and the digest that binds it.

The plan is complete: the engine looks at nothing else. It is an upper bound: nothing executes that it does not
call `run`. Printing a plan is the dry run; making one executes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from . import __version__
from .case import NO_RUN, Case
from .decide import Decision, Kept, Reuse, Run, Skip, decide
from .errors import NeedsDecision
from .expression import EvaluationError
from .fingerprint import Before, Produced, World, evaluate, when_holds
from .frozen import frozen
from .gate import Closed, Wait, gate
from .graph import Graph
from .pipeline import Pipeline, RunRequest, Step
from .record import RunRecord, StepEnded
from .reference import Reference
from .results import results
from .review import Effect, Finding, GateReport, review
from .select import Selection
from .values import alike, digest_of, plain
from .verdict import standing

FORMAT = 1  # of the plan as JSON; a reader refuses a newer one
# What is shown beside a plan and not bound by its digest: sentences, times, and what may change without changing it.
UNBOUND = ("digest", "notes", "estimate", "code_changes", "references", "checksum")


@frozen
class CodeChange:
    """The lines in which a code file of a reused step differs from what ran."""

    path: str
    then: str  # digests
    now: str
    lines: tuple[str, ...]  # of a unified diff, without its head


@frozen
class Plan:
    """What will be done: the value that is reviewed, printed and run."""

    pipeline: Pipeline
    graph: Graph
    request: RunRequest
    params: Mapping[str, Any]
    sources: Mapping[str, str]
    selection: Selection
    reference: Reference | None
    mode: str
    decisions: Mapping[str, Decision]  # in topological order
    effects: tuple[Effect, ...]
    gates: tuple[GateReport, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    world: World
    request_digest: str
    digest: str = ""
    code_changes: tuple[CodeChange, ...] = ()
    forced: frozenset[str] = frozenset()  # steps that never take a stored result, also inside items to come

    @property
    def runs(self) -> list[str]:
        """The steps with decision `run`, in order."""
        return [name for name, d in self.decisions.items() if isinstance(d, Run)]

    @property
    def starts(self) -> list[str]:
        """The steps of `runs` that start something: all but conditions whose outcome is known."""
        return [name for name, d in self.decisions.items() if isinstance(d, Run) and d.outcome is None]

    def refuse_findings(self) -> None:
        """Raise NeedsDecision if there is a finding."""
        if self.findings:
            raise NeedsDecision("nothing was started: the plan needs a decision")


def make_plan(case: Case) -> Plan:
    """Return the Plan. Raises SelectionError where `assume`, `force`, `accept`, `expect` or a branch cannot be as asked."""
    stands = standing(case)
    decided = decide(case, stands)
    seen = review(case, stands, decided)
    plan = Plan(
        case.pipeline, case.graph, case.request, case.today.params, case.sources, case.selection, case.reference, decided.mode,
        decided.decisions, seen.effects, seen.gates, seen.findings, (*case.selection.warnings, *decided.notes, *seen.notes),
        case.today.world, request_digest(case.request), forced=decided.forced,
    )  # fmt: skip
    return replace(plan, digest=digest_of(bound(to_json(plan))))


def request_digest(request: RunRequest) -> str:
    """Return the digest of what is asked for: not of its name, nor of how many workers do it."""
    how = {"path", "name", "description", "labels", "workers", "cpu", "memory", "base", "group", "conflict"}
    return digest_of({"format": FORMAT, **{k: _plain(v) for k, v in asdict(request).items() if k not in how}})


def request_json(request: RunRequest) -> dict[str, Any]:
    """Return the request as JSON, without what was not asked for."""
    return {k: _plain(v) for k, v in asdict(request).items() if v not in (None, "", (), {}, False)}


def _plain(value: Any) -> Any:
    match value:
        case frozenset() | set():
            return sorted(value)
        case Mapping():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case _:
            return plain(value)


# --- as JSON ----------------------------------------------------------------------------------------------------


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON (schemas/plan.schema.json)."""
    pipeline, request, selection = plan.pipeline, plan.request, plan.selection
    return {
        "format_version": FORMAT,
        "digest": plan.digest,
        "verdict": "needs a decision" if plan.findings else "ready",
        "applyable": not plan.findings,
        "runner": __version__,
        "pipeline": {"name": pipeline.name, "path": pipeline.path, "digest": pipeline.digest},
        "request": {"path": request.path, "name": request.name, "digest": plan.request_digest, "mode": plan.mode, "trial": request.trial, **_given(request)},
        "reference": _reference_json(plan),
        "selection": {
            "written": list(selection.written), "exclude": list(request.exclude), "steps": list(selection.steps), "convex": True,
            "pieces": [list(p) for p in selection.pieces], "frontier": list(selection.frontier),
        },
        "steps": {name: decision_json(decision) for name, decision in plan.decisions.items()},
        "params": _params_json(plan),
        "finally": list(pipeline.finals),
        "gates": [_gate_json(gate) for gate in plan.gates],
        "findings": [finding_json(finding) for finding in plan.findings],
        "accepted": [{"step": a.step, "cause": a.cause, "reason": a.reason} for a in request.accept],
        "notes": list(plan.notes),
        "code_changes": [{"path": c.path, "then": c.then, "now": c.now, "lines": list(c.lines)} for c in plan.code_changes],
        "preconditions": {
            "files": {k: v + " x" * (k in plan.world.executables) for k, v in sorted(plan.world.files.items())},
            "code": {k: v[0] + " x" * v[1] for k, v in sorted(plan.world.code.items())},
            "outputs": {
                f"{name}/{output}": Produced.of_json(kept).identity
                for name, decision in plan.decisions.items() if isinstance(decision, Kept)
                for output, kept in decision.past.outputs.items() if kept.get("digest") or "items" in kept
            },
            "runtime": plan.world.runtime,
        },
    }  # fmt: skip


def _given(request: RunRequest) -> dict[str, Any]:
    """Return what a request without a file was given on the command line, so that a plan file holds it."""
    return {} if request.path else {"base": request.base, "params": _plain(request.params)}


def _reference_json(plan: Plan) -> dict[str, Any] | None:
    if plan.reference is None:
        return None
    record, rejected = plan.reference.record, plan.reference.rejected
    return {
        "run": record.id, "status": record.status, "why": plan.reference.why,
        "rejected": [{"run": run, "why": why} for run, why in rejected],
        "latest": rejected[0][0] if rejected else record.id,
    }  # fmt: skip


def _params_json(plan: Plan) -> dict[str, Any]:
    effects = {e.param: e for e in plan.effects}
    out: dict[str, Any] = {}
    for name, value in plan.params.items():
        out[name] = {"value": plain(value), "source": plan.sources[name]}
        if name in effects:
            effect = effects[name]
            out[name] |= {
                "then": effect.then,
                "now": effect.now,
                "effect": effect.word,
                "read_by": list(effect.read_by),
            }
    return out


def _gate_json(gate: GateReport) -> dict[str, Any]:
    return {
        "step": gate.step, "field": gate.field, "decision": gate.decision, "was": gate.was, "now": gate.now,
        "values": [{"name": n, "then": then, "now": now} for n, then, now in gate.values],
        "then": list(gate.then), "else": list(gate.otherwise),
    }  # fmt: skip


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON."""
    return {
        "code": finding.code, "subject": finding.subject, "text": finding.text, "cause": finding.cause,
        "steps": [{"step": step, "cause": cause} for step, cause in finding.causes],
        "remedies": [{"kind": r.kind, "paste": r.paste, "adds": list(r.steps)} for r in finding.remedies],
    }  # fmt: skip


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return what is done with a step as JSON."""
    out: dict[str, Any] = {"decision": decision.name, "reasons": list(decision.reasons), "may": list(decision.may)}
    match decision:
        case Run(fingerprint=fingerprint, outcome=outcome) if fingerprint:
            out["fingerprint"] = fingerprint
            if outcome is not None:
                out["taken"] = outcome
        case Kept():
            past = decision.past
            out.update(
                fingerprint=past.fingerprint,
                produced_by=past.produced_by,
                outputs={k: Produced.of_json(v).to_json() for k, v in past.outputs.items() if not k.startswith(".")},
            )
            if decision.run:
                out["reused_from"] = decision.run
            if past.taken is not None:
                out["taken"] = past.taken
        case Skip() if decision.by:
            out["by"] = decision.by
    if isinstance(decision, Reuse):
        verdict = decision.verdict
        out["verdict"] = "assumed" if decision.assumed else verdict.word
        if verdict.evidence:
            out["evidence"] = verdict.evidence
        if verdict.causes:
            out.update(causes=[c.to_json() for c in verdict.causes], cause=verdict.cause[:9], accepted=verdict.accepted)
    return out


def bound(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the digest of a plan covers, of the plan as JSON."""
    out = {k: v for k, v in value.items() if k not in UNBOUND}
    # Sentences are not bound: what they stand on is. Nor is the folder in which a command was given.
    out["steps"] = {n: _without(step, "reasons") for n, step in value["steps"].items()}
    out["findings"] = [_without(finding, "text", "remedies") for finding in value["findings"]]
    out["request"] = _without(value["request"], "base")
    if out["reference"]:
        out["reference"] = {k: out["reference"][k] for k in ("run", "status")}
    return out


def _without(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in value.items() if k not in names}


# --- the unchanged request --------------------------------------------------------------------------------------


def _same_values(a: StepEnded, b: StepEnded) -> bool:
    """Whether outputs that are equal are so as JSON too."""
    values = [(o["value"], b.outputs[n]["value"]) for n, o in a.outputs.items() if "value" in o]
    return all(alike(one, other) for one, other in values)


def _skips(step: Step, plan: Plan, before: Mapping[str, Before]) -> bool | None:
    """Whether a step would be skipped after these ends; None where that is not known."""
    opens = when_holds(step, plan.pipeline, plan.params, before, plan.world)
    if opens is False:
        return True
    ends = {n: b.status for n, b in before.items()}
    match gate(step, ends, {n: b.taken for n, b in before.items()}):
        case Closed(status=status):
            return True if status == "skipped" else None
        case Wait():
            return None
    return None if opens is None else False


def unchanged(plan: Plan, prior: RunRecord) -> bool:
    """Whether all that `plan` would run has succeeded in `prior` in the same way, so that nothing need start.

    The pipeline's outputs and the steps of `finally` would have to be what they were there, too.
    """
    if prior.started.request_digest != plan.request_digest or prior.ended is None or prior.ended.exit_code != 0:
        return False
    before: dict[str, Before] = {}
    for name, decision in plan.decisions.items():
        if not isinstance(decision, Kept | Skip | Run):
            continue
        ended = prior.steps.get(name)
        if ended is None or not _same(plan, decision, ended, before):
            return False
        before[name] = ended.before()
    return _ends_the_same(plan, prior, before)


def _same(plan: Plan, decision: Kept | Skip | Run, ended: StepEnded, before: Mapping[str, Before]) -> bool:
    match decision:
        case Kept():
            return _kept_the_same(plan, decision, ended)
        case Skip():
            return ended.status == "skipped"
        case Run():
            return _runs_the_same(plan, decision, ended, before)


def _kept_the_same(plan: Plan, decision: Kept, ended: StepEnded) -> bool:
    past = decision.past
    if ended.fingerprint != past.fingerprint or ended.taken is not past.taken:
        return False
    return plan.pipeline.steps[decision.step].joins or (ended.outputs == past.outputs and _same_values(ended, past))


def _runs_the_same(plan: Plan, decision: Run, ended: StepEnded, before: Mapping[str, Before]) -> bool:
    step = plan.pipeline.steps[decision.step]
    if step.deferred:
        return False
    skips = _skips(step, plan, before)
    if skips is None or skips is not (ended.status == "skipped"):
        return False
    if skips:
        return True
    if (step.has_process and not decision.only_mode) or step.kind == "fail" or not ended.usable:
        return False
    return _fingerprint(step, plan, before, NO_RUN) == ended.fingerprint


def _fingerprint(step: Step, plan: Plan, before: Mapping[str, Before], run: Mapping[str, str]) -> str:
    try:
        return evaluate(step, plan.pipeline, plan.params, before, plan.world, run).fingerprint
    except EvaluationError:
        return ""


def _ends_the_same(plan: Plan, prior: RunRecord, before: dict[str, Before]) -> bool:
    """Whether the pipeline's outputs, and the steps that come after all others, would be those of `prior`."""
    assert prior.ended is not None
    names = {"id": prior.id, "name": prior.started.title, "pipeline": plan.pipeline.name, "status": prior.ended.status}
    finals = plan.pipeline.finals
    if {*prior.started.finals} != {*finals}:
        return False
    after = dict(before)
    for name in Graph({n: s.before & finals.keys() for n, s in finals.items()}).order:
        ended = prior.steps.get(name)
        if ended is None:
            return False
        if ended.status != "skipped" and _fingerprint(finals[name], plan, after, names) != ended.fingerprint:
            return False
        opens = when_holds(finals[name], plan.pipeline, plan.params, after, plan.world, names)
        if ended.status == "skipped" and not ended.by and opens is not False:
            return False
        after[name] = ended.before()
    return results(plan.pipeline, plan.params, before, plan.world, names) == prior.ended.outputs
