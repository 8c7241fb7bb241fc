"""Pipeline x RunRequest x Selection x past runs -> Plan: what to do with each step, and every reason why.

The plan is complete: the engine looks at nothing else. It is an upper bound: nothing executes that it does not
call `run`. Printing a plan is the dry run; making one executes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from . import __version__
from .errors import NeedsDecision, SelectionError
from .expression import EvaluationError
from .fingerprint import Before, Cause, Evaluated, Produced, World, differences, evaluate, holds, settle
from .gate import Closed, Start, gate
from .graph import Graph
from .pipeline import Pipeline, RunRequest, Step
from .record import RunRecord, StepEnded
from .reference import Past, Reference
from .select import Facts, Selection, SelectorError, expand, statuses_of
from .values import canonical, digest_of, plain

FORMAT = 1
NO_RUN: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is done with one step, and all the reasons."""

    name: ClassVar[str]
    step: str
    reasons: tuple[str, ...] = ()
    may: tuple[str, ...] = ()  # what it can end as instead


@dataclass(frozen=True, kw_only=True)
class Run(Decision):
    """Will execute."""

    name: ClassVar[str] = "run"
    lookup: bool = False  # whether a stored success of its fingerprint is taken instead
    only_mode: bool = False  # whether it runs for no reason but mode full
    fingerprint: str = ""  # empty where it depends on steps that run


@dataclass(frozen=True, kw_only=True)
class Kept(Decision):
    """Stands on a result that is there already."""

    past: StepEnded  # as the record of the run it is taken from has it
    run: str  # that run


@dataclass(frozen=True, kw_only=True)
class Reuse(Kept):
    """Takes its outputs from the reference run."""

    name: ClassVar[str] = "reuse"
    verdict: str = "same"  # or stale
    causes: tuple[Cause, ...] = ()
    cause: str = ""  # digest of the causes, bound to what the step is now
    assumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Cached(Kept):
    """Takes the outputs of any earlier success with the same fingerprint; a condition is settled by the plan."""

    name: ClassVar[str] = "cached"


@dataclass(frozen=True, kw_only=True)
class Skip(Decision):
    """Selected, but its `when` or condition is already known to be false."""

    name: ClassVar[str] = "skip"
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class Cut(Decision):
    """Not selected, downstream of the selection or beside it: keeps what it had."""

    name: ClassVar[str] = "cut"


@dataclass(frozen=True, kw_only=True)
class Unneeded(Decision):
    """An ancestor whose own outputs nobody asks for now."""

    name: ClassVar[str] = "unneeded"


@dataclass(frozen=True)
class Finding:
    """Something that only a person can decide; nothing starts while there is one."""

    code: str
    step: str
    text: str
    remedies: tuple[str, ...]

    def __str__(self) -> str:
        return "\n     ".join([f"{self.code} {self.text}", *self.remedies])


@dataclass(frozen=True)
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
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    world: World
    request_digest: str
    digest: str = ""

    @property
    def runs(self) -> list[str]:
        """The steps with decision `run`, in order."""
        return [name for name, d in self.decisions.items() if isinstance(d, Run)]

    def refuse_findings(self) -> None:
        """Raise NeedsDecision if there is a finding."""
        if self.findings:
            raise NeedsDecision("nothing was started: the plan needs a decision")


def request_digest(request: RunRequest) -> str:
    """Return the digest of what is asked for: not of its name, nor of how many workers do it."""
    how = {"path", "name", "description", "labels", "workers", "cpu", "memory", "base"}
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


def make_plan(
    pipeline: Pipeline,
    graph: Graph,
    request: RunRequest,
    params: Mapping[str, Any],
    sources: Mapping[str, str],
    selection: Selection,
    reference: Reference | None,
    world: World,
    past: Past,
    now: float,
) -> Plan:
    """Return the Plan. Raises SelectionError where `assume`, `force`, `expect` or a branch cannot be as asked."""
    return _Planning(pipeline, graph, request, params, sources, selection, reference, world, past, now).plan()


@dataclass
class _Planning:
    pipeline: Pipeline
    graph: Graph
    request: RunRequest
    params: Mapping[str, Any]
    sources: Mapping[str, str]
    selection: Selection
    reference: Reference | None
    world: World
    past: Past
    now: float
    decisions: dict[str, Decision] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def plan(self) -> Plan:
        self.mode = self.request.mode or ("full" if self.request.select is not None else "incremental")
        self._check_assume()
        self.forced = self._forced()
        verdicts = verdicts_of(self)
        chosen = set(self.selection.steps)
        frontier, closure = set(self.selection.frontier), set(self.selection.closure)
        self.ends: dict[str, str] = {}  # how the steps end whose end is known already
        self.before: dict[str, Before] = {}
        self.taken: dict[str, bool | None] = {}
        for name in self.graph.order:
            step = self.pipeline.steps[name]
            if name in chosen:
                decision = self._selected(step)
            elif name in frontier:
                decision = self._reuse(step, verdicts)
            elif name in closure:
                decision = Unneeded(step=name, reasons=("nothing that runs reads it",))
            else:
                decision = Cut(step=name, reasons=(self._why_cut(name),))
            self._settle(decision)
            self.decisions[name] = decision
        self._check_branches()
        self.notes += [
            f"W404 the parameter `{name}` is deprecated"
            for name in self.request.params
            if self.pipeline.params[name].deprecated
        ]
        findings = self._findings()
        plan = Plan(
            self.pipeline, self.graph, self.request, self.params, self.sources, self.selection, self.reference, self.mode,
            self.decisions, findings, (*self.selection.warnings, *self.notes), self.world, request_digest(self.request),
        )  # fmt: skip
        self._check_expect(plan)
        return _sealed(plan)

    # what the request asks for beside the selection

    def _check_assume(self) -> None:
        for name in self.request.assume:
            step = self.pipeline.steps.get(name)
            if step is None or step.kind != "condition":
                conditions = [n for n, s in self.pipeline.steps.items() if s.kind == "condition"]
                raise SelectionError(
                    f"assume: there is no condition `{name}`", help=f"conditions are: {', '.join(conditions) or 'none'}"
                )
            if name in self.selection:
                raise SelectionError(
                    f"assume: `{name}` is selected, so it is evaluated",
                    help=f"exclude {name}, or remove it from `assume`",
                )
            if name not in self.selection.frontier:
                self.notes.append(f"assume {name}: nothing that runs stands behind it")

    def _forced(self) -> set[str]:
        record = self.reference.record if self.reference else None

        def none(_: str) -> set[str]:
            raise SelectorError("E402", "`changed:` cannot be used in `force`")

        facts = Facts(lambda s: statuses_of(s, record.statuses) & set(self.pipeline.steps) if record else none(s), none)
        forced: set[str] = set()
        for index, text in enumerate(self.request.force):
            forced |= expand(text, self.pipeline, self.graph, facts, "force", index)
        return forced

    @cached_property
    def base(self) -> RunRecord | None:
        """The run that reasons compare with: the reference, or else the newest finished one."""
        if self.reference:
            return self.reference.record
        return next(iter(self.past.finished(self.pipeline.name)), None)

    def _check_branches(self) -> None:
        for name in self.selection.steps:
            branch = self.pipeline.steps[name].branch
            if branch is None or branch.condition in self.selection:
                continue
            taken = self.before[branch.condition].taken if branch.condition in self.before else None
            if taken is not None and taken is not branch.outcome:
                source = (
                    "it is assumed to be"
                    if branch.condition in self.request.assume
                    else f"in run {self.reference.record.id if self.reference else '?'} it was"
                )
                raise SelectionError(
                    f"`{name}` runs only if {branch.condition} is {_word(branch.outcome)}; {source} {_word(taken)}",
                    help=f"add {branch.condition} to `select`, or `assume: {{{branch.condition}: {_word(branch.outcome)}}}`",
                )

    def _check_expect(self, plan: Plan) -> None:
        expect = self.request.expect
        if expect is None:
            return
        for name in [*(expect.run or ()), *expect.steps]:
            if name not in self.pipeline.steps:
                raise SelectionError(f"expect: no step `{name}`", help=f"there are: {', '.join(self.pipeline.steps)}")
        if expect.run is not None and expect.run != set(plan.runs):
            extra, missing = set(plan.runs) - expect.run, expect.run - set(plan.runs)
            parts = [f"{', '.join(sorted(extra))} would run too"] if extra else []
            parts += [f"{', '.join(sorted(missing))} would not run"] if missing else []
            raise SelectionError(
                f"the plan is not what `expect.run` says: {'; '.join(parts)}",
                help=f"the steps that would run: {', '.join(plan.runs) or 'none'}",
            )

    # decisions

    def _settle(self, decision: Decision) -> None:
        """Note how a step ends, where that is known before anything runs."""
        match decision:
            case Reuse(past=past):
                self.ends[decision.step] = "skipped" if past.status == "skipped" else "reused"
                self.before[decision.step] = past.before()
                self.taken[decision.step] = past.taken
            case Cached(past=past):
                self.ends[decision.step] = "cached"
                self.before[decision.step] = past.before()
                self.taken[decision.step] = past.taken
            case Skip():
                self.ends[decision.step] = "skipped"
                self.before[decision.step] = Before("skipped")

    def _reuse(self, step: Step, verdicts: Mapping[str, Verdict]) -> Decision:
        if step.name in self.request.assume:
            taken = self.request.assume[step.name]
            return Reuse(
                step=step.name,
                reasons=(f"assumed {_word(taken)}",),
                past=StepEnded(step=step.name, status="reused", taken=taken),
                run="",
                assumed=True,
            )
        assert self.reference is not None  # `choose` refuses a frontier without one
        record = self.reference.record
        ended = record.steps[step.name]
        verdict = verdicts[step.name]
        origin = f" via {record.id}" if ended.produced_by and ended.produced_by != record.id else ""
        sealed = ", same as declared, unsealed" if step.workdir == "project" and verdict.word == "same" else ""
        was = (
            f", it was {_word(ended.taken)}"
            if ended.taken is not None
            else ", skipped there"
            if ended.status == "skipped"
            else ""
        )
        return Reuse(
            step=step.name, reasons=(f"from {ended.produced_by or record.id}{origin}{was}{sealed}", *map(str, verdict.causes)),
            past=ended, run=record.id, verdict=verdict.word, causes=verdict.causes, cause=verdict.cause,
        )  # fmt: skip

    def _why_cut(self, name: str) -> str:
        ended = self.base.steps.get(name) if self.base and self.reference else None
        if ended is None:
            return "not selected"
        found = f" ({_word(ended.taken)})" if ended.taken is not None else ""
        return f"not selected; still what {self.base.id if self.base else ''} has: {ended.status}{found}"

    def _selected(self, step: Step) -> Decision:
        may: tuple[str, ...] = ()
        found = gate(step, self.ends, self.taken)
        gates_known = True
        match found:
            case Closed(status="skipped"):
                return Skip(step=step.name, reasons=(found.reason,), by=found.by)
            case Start():
                pass
            case _:
                early = self._closed_early(step)
                if early:
                    return early
                gates_known = not self._may_skip(step)
        if step.when is False:
            return Skip(step=step.name, reasons=("`when` is false",))
        if step.when is not True:
            known = self._known_when(step)
            if known is False:
                return Skip(step=step.name, reasons=("`when` is false",))
            gates_known = gates_known and known is not None
        if not gates_known:
            may = ("skipped",)
        if step.kind == "condition":
            return self._condition(step, isinstance(found, Start), may)
        if step.kind == "fail":
            return Run(
                step=step.name, reasons=("its branch is taken" if not may and step.branch else "selected",), may=may
            )
        return self._process(step, may)

    def _closed_early(self, step: Step) -> Skip | None:
        """A step behind a condition whose outcome is known need not wait for what else it reads."""
        if step.branch and self.ends.get(step.branch.condition):
            outcome = self.taken.get(step.branch.condition)
            if outcome is not None and outcome is not step.branch.outcome:
                return Skip(
                    step=step.name, reasons=(f"{step.branch.condition} is {_word(outcome)}",), by=step.branch.condition
                )
        return None

    def _may_skip(self, step: Step) -> bool:
        """Whether a gate that this run decides stands before `step`."""
        if step.branch and step.branch.condition not in self.ends:
            return True
        return step.trigger == "all_succeeded" and any(
            "skipped" in d.may for name in step.before if (d := self.decisions.get(name))
        )

    def _known_when(self, step: Step) -> bool | None:
        assert not isinstance(step.when, bool)
        names = {ref.path[1] for ref in step.when.refs() if ref.path[0] == "steps"}
        if any(name not in self.ends for name in names):
            return None
        try:
            return bool(settle(step.when, step, self.pipeline, self.params, self.before, self.world, NO_RUN))
        except EvaluationError:
            return None

    def _condition(self, step: Step, known: bool, may: tuple[str, ...]) -> Decision:
        if known and not may:
            try:
                evaluated = self._evaluate(step)
            except EvaluationError:
                pass  # the run will fail there and say so
            else:
                outcome = holds(evaluated.own["if"])
                past = condition_ended(step.name, outcome, evaluated)
                return Cached(step=step.name, reasons=(f"evaluated now: {_word(outcome)}",), past=past, run="")
        return Run(step=step.name, reasons=self._inputs_from(step) or ("selected",), may=may)

    def _evaluate(self, step: Step) -> Evaluated:
        return evaluate(step, self.pipeline, self.params, self.before, self.world, NO_RUN)

    def _inputs_from(self, step: Step) -> tuple[str, ...]:
        running = [n for n in self.graph.sorted(step.reads) if isinstance(self.decisions.get(n), Run)]
        return (f"input from {', '.join(running)}",) if running else ()

    def _process(self, step: Step, may: tuple[str, ...]) -> Decision:
        forced = step.name in self.forced
        lookup = self.mode == "incremental" and step.cache.enabled and not forced
        reasons = ["selected"] if self.request.select is not None else []
        if forced:
            reasons.append("forced")
        elif not step.outputs:
            reasons.append("it has no outputs: it acts on the world")
        elif step.workdir == "project":
            reasons.append("unsealed: it works in the project's folder")
        elif not step.cache.enabled and self.mode == "incremental":
            reasons.append("its cache is off")
        known = all(name in self.ends for name in step.reads)
        evaluated: Evaluated | None = None
        if known:
            try:
                evaluated = self._evaluate(step)
            except EvaluationError as error:
                return Run(step=step.name, reasons=(*reasons, f"it will fail: {error}"), may=may)
        expired = False
        success = self.past.success(evaluated.fingerprint) if evaluated is not None else None
        if success is not None:
            expired = step.cache.expire_after is not None and self.now - success.at > step.cache.expire_after
            if lookup and not expired and not may:
                lapse = (
                    f"; it lapses {_ago(success.at + step.cache.expire_after - self.now)}"
                    if step.cache.expire_after is not None
                    else ""
                )
                return Cached(
                    step=step.name,
                    reasons=(f"the same in {success.produced_by}{lapse}",),
                    past=success,
                    run=success.produced_by,
                )
            if expired:
                reasons.append(f"its result of {success.produced_by} has expired")
        if not known:
            reasons += self._inputs_from(step)
        reasons += self._changes(step)
        if lookup and not expired and (not known or (may and success)):
            may = ("cached", *may)
        return Run(
            step=step.name, reasons=tuple(reasons) or ("nothing stored has its fingerprint",), may=may, lookup=lookup and not expired,
            only_mode=self.mode == "full" and not forced and step.cache.enabled and bool(step.outputs) and not expired,
            fingerprint=evaluated.fingerprint if evaluated else "",
        )  # fmt: skip

    def _changes(self, step: Step) -> list[str]:
        """Say what differs in the step itself from the run that reasons compare with."""
        ended = self.base.steps.get(step.name) if self.base else None
        if ended is None:
            return ["it never ran"] if self.base else []
        if not ended.recipe:
            return []
        _, causes = own_causes(step, ended, self)
        failed = [f"it {ended.status} in {self.base.id}"] if ended.status in ("failed", "stopped") and self.base else []
        return [*failed, *map(str, causes)]

    # findings

    def _findings(self) -> tuple[Finding, ...]:
        stale = {n: d for n, d in self.decisions.items() if isinstance(d, Reuse) and d.verdict == "stale"}
        accepted = {a.step: a.cause for a in self.request.accept}
        findings = []
        for name in accepted:
            if name not in self.pipeline.steps:
                raise SelectionError(f"accept: no step `{name}`", help=f"there are: {', '.join(self.pipeline.steps)}")
            if name not in stale:
                self.notes.append(f"accept {name}: it is not stale, so there is nothing to accept")
        open_steps = [n for n, d in stale.items() if not _covers(accepted.get(n, ""), d.cause)]
        for name in open_steps:
            decision = stale[name]
            causes = "; ".join(map(str, decision.causes))
            again = " Its cause is not the one that was accepted." if name in accepted else ""
            findings.append(
                Finding(
                    "F201",
                    name,
                    f"{name} would be reused, but it is stale: {causes}.{again}",
                    self._remedies(name, decision, open_steps),
                )
            )
        return tuple(findings)

    def _remedies(self, name: str, decision: Reuse, open_steps: list[str]) -> tuple[str, ...]:
        roots = set(open_steps) | {u for n in open_steps for u in _upstream(stale_of(self.decisions[n]))}
        least = set(self.selection.steps) | roots
        least |= self.graph.between(least)
        remedies = [f"select: [{', '.join(self.graph.sorted(least))}]"]
        own = [c for c in decision.causes if c.kind in ("param", "input")]
        params = [c.name for c in own if c.name in self.pipeline.params]
        if len(params) == len(decision.causes) and all(self.sources.get(p) == "request" for p in params):
            remedies.append(f"or remove {', '.join(params)} from `params`")
        remedies.append(f'or accept: [{{step: {name}, cause: {decision.cause[:9]}, reason: "..."}}]')
        return tuple(remedies)


def stale_of(decision: Decision) -> tuple[Cause, ...]:
    """Return the causes for which a reused step is stale."""
    return decision.causes if isinstance(decision, Reuse) else ()


def _upstream(causes: Iterable[Cause]) -> set[str]:
    """The steps whose staleness made these causes."""
    found: set[str] = set()
    for cause in causes:
        if cause.kind == "upstream":
            found |= {cause.name} | _upstream(cause.causes)
    return found


def _covers(accepted: str, cause: str) -> bool:
    return len(accepted) >= 9 and cause.startswith(accepted)


def _word(value: bool | None) -> str:
    return "true" if value else "false"


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if abs(seconds) >= size:
            return f"in {seconds / size:.0f}{unit}"
    return f"in {seconds:.0f}s"


def condition_ended(name: str, outcome: bool, evaluated: Evaluated) -> StepEnded:
    """Return the end of a condition, before its run is known."""
    return StepEnded(
        step=name, status="succeeded", taken=outcome, fingerprint=evaluated.fingerprint, recipe=evaluated.recipe,
        params=evaluated.params, reads=tuple((r.step, r.output, r.digest, r.run) for r in evaluated.reads),
    )  # fmt: skip


# --- verdicts on what is reused ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Whether a reused step would do the same again today."""

    word: str  # same or stale
    causes: tuple[Cause, ...] = ()
    cause: str = ""


@dataclass(frozen=True)
class Comparison:
    """What a step of an earlier run is compared with: today's pipeline, values and files."""

    pipeline: Pipeline
    params: Mapping[str, Any]
    world: World
    past: Past
    reference: Reference | None


def own_causes(step: Step, ended: StepEnded, today: Comparison | _Planning) -> tuple[str, tuple[Cause, ...]]:
    """Return today's fingerprint of `step` on the bytes that it consumed then, and what differs by its own causes."""
    consumed: dict[str, Before] = {}
    made = {read[0]: read[3] for read in ended.reads}
    for name in step.reads:
        record = today.past.run(made[name]) if name in made else None
        past = record.steps.get(name) if record else None
        if past is not None:
            consumed[name] = past.before()
    unread = sorted(name for name in step.unguarded if name not in consumed)
    if unread:
        return "", tuple(Cause("input", name, "none", "read now") for name in unread)
    try:
        evaluated = evaluate(step, today.pipeline, today.params, consumed, today.world, NO_RUN)
    except EvaluationError as error:
        return "", (Cause("input", str(error)),)
    if evaluated.fingerprint == ended.fingerprint:
        return evaluated.fingerprint, ()
    causes = differences(ended.recipe, evaluated.recipe, ended.params, evaluated.params)
    return evaluated.fingerprint, causes or (Cause("code", "definition"),)


def verdicts_of(planning: _Planning) -> dict[str, Verdict]:
    """Return the verdict of every step whose earlier result the selection stands on, up to the roots."""
    steps, reference = planning.pipeline.steps, planning.reference
    if reference is None:
        return {}
    # Walk up from the frontier: which run's results were consumed is known only from the readers.
    taken: dict[str, list[StepEnded]] = {n: [] for n in planning.selection.closure}
    for name in planning.selection.frontier:
        if name not in planning.request.assume:
            taken[name].append(reference.record.steps[name])
    for name in reversed(planning.selection.closure):
        for ended in taken[name]:
            for source, _, _, run in ended.reads:
                record = planning.past.run(run)
                found = record.steps.get(source) if record else None
                if found is not None and source in taken and found not in taken[source]:
                    taken[source].append(found)
    verdicts: dict[str, Verdict] = {}
    for name in planning.selection.closure:
        causes: list[Cause] = []
        marks: list[str] = []
        for ended in taken[name]:
            if not ended.fingerprint:
                continue  # a skipped step made nothing that could be stale
            fingerprint, own = own_causes(steps[name], ended, planning)
            causes += own
            marks += [ended.fingerprint, fingerprint] if own else []
            for source in sorted({read[0] for read in ended.reads} | (steps[name].reads & set(verdicts))):
                above = verdicts.get(source)
                if above is None and source not in steps:
                    continue
                if above is not None and above.word == "stale":
                    causes.append(Cause("upstream", source, causes=above.causes))
                    marks.append(above.cause)
        found_causes = tuple(dict.fromkeys(causes))
        if found_causes:
            tree = [marks, [c.to_json() for c in found_causes]]
            verdicts[name] = Verdict("stale", found_causes, "c" + digest_of(tree).removeprefix("sha256:"))
        else:
            verdicts[name] = Verdict("same")
    return verdicts


CHANGES = {
    "code": {"code"},
    "params": {"param"},
    "inputs": {"input"},
    "env": {"env"},
    "any": {"code", "param", "input", "env"},
}


def changed_steps(record: RunRecord, kind: str, today: Comparison) -> set[str]:
    """Return the steps that differ now, by their own causes of one kind, from how `record` ran them; new ones too."""
    found: set[str] = set()
    for name, step in today.pipeline.steps.items():
        ended = record.steps.get(name)
        if ended is None:
            if name not in record.started.decisions and kind in ("code", "any"):
                found.add(name)
            continue
        if ended.recipe and any(cause.kind in CHANGES[kind] for cause in own_causes(step, ended, today)[1]):
            found.add(name)
    return found


# --- the digest and the unchanged request -----------------------------------------------------------------------


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON; what its digest covers, and the digest."""
    return {**_bound(plan), "digest": plan.digest}


def _bound(plan: Plan) -> dict[str, Any]:
    record = plan.reference.record if plan.reference else None
    return {
        "format_version": FORMAT,
        "runner": __version__,
        "verdict": "needs a decision" if plan.findings else "ready",
        "applyable": not plan.findings,
        "pipeline": {"name": plan.pipeline.name, "path": plan.pipeline.path, "digest": plan.pipeline.digest},
        "request": {"path": plan.request.path, "digest": plan.request_digest, "mode": plan.mode, "trial": plan.request.trial},
        "reference": {"run": record.id, "status": record.status, "why": plan.reference.why, "rejected": [list(r) for r in plan.reference.rejected]} if record and plan.reference else None,
        "selection": {
            "written": list(plan.selection.written), "steps": list(plan.selection.steps), "frontier": list(plan.selection.frontier),
            "pieces": [list(p) for p in plan.selection.pieces],
        },
        "steps": {name: _decision_json(decision) for name, decision in plan.decisions.items()},
        "params": {name: {"value": plain(value), "source": plan.sources[name]} for name, value in plan.params.items()},
        "findings": [{"code": f.code, "step": f.step, "text": f.text, "remedies": list(f.remedies)} for f in plan.findings],
        "accepted": [{"step": a.step, "cause": a.cause, "reason": a.reason} for a in plan.request.accept],
        "notes": list(plan.notes),
        "preconditions": {"files": dict(plan.world.files), "code": {k: v[0] for k, v in plan.world.code.items()}, "runtime": plan.world.runtime},
    }  # fmt: skip


def _decision_json(decision: Decision) -> dict[str, Any]:
    out: dict[str, Any] = {"decision": decision.name, "reasons": list(decision.reasons), "may": list(decision.may)}
    match decision:
        case Run(fingerprint=fingerprint) if fingerprint:
            out["fingerprint"] = fingerprint
        case Kept():
            past = decision.past
            out.update(
                fingerprint=past.fingerprint,
                produced_by=past.produced_by,
                outputs={k: Produced.of_json(v).to_json() for k, v in past.outputs.items()},
            )
            if decision.run:
                out["reused_from"] = decision.run
            if past.taken is not None:
                out["taken"] = past.taken
    match decision:
        case Reuse():
            out["verdict"] = decision.verdict
            if decision.causes:
                out.update(causes=[c.to_json() for c in decision.causes], cause=decision.cause[:9])
        case Skip() if decision.by:
            out["by"] = decision.by
    return out


def _sealed(plan: Plan) -> Plan:
    from dataclasses import replace

    bound = _bound(plan)
    bound["notes"] = []  # notes tell of time
    for step in bound["steps"].values():
        step["reasons"] = []  # sentences may change; what they stand on is bound
    return replace(plan, digest=digest_of(bound))


def unchanged(plan: Plan, prior: RunRecord) -> bool:
    """Whether all that `plan` would run has succeeded in `prior` in the same way, so that nothing need start."""
    if prior.started.request_digest != plan.request_digest or prior.ended is None or prior.ended.exit_code != 0:
        return False
    before: dict[str, Before] = {}
    for name, decision in plan.decisions.items():
        step, ended = plan.pipeline.steps[name], prior.steps.get(name)
        match decision:
            case Kept(past=past):
                before[name] = past.before()
                if isinstance(decision, Reuse) and (
                    ended is None or ended.outputs != past.outputs or ended.taken != past.taken
                ):
                    return False
            case Skip():
                before[name] = Before("skipped")
            case Run():
                if ended is None:
                    return False
                before[name] = ended.before()
                if ended.status == "skipped":
                    continue  # behind a condition that is compared below
                if (
                    (step.has_process and not decision.only_mode)
                    or step.kind == "fail"
                    or ended.status not in ("succeeded", "cached", "reused")
                ):
                    return False
                try:
                    evaluated = evaluate(step, plan.pipeline, plan.params, before, plan.world, NO_RUN)
                except EvaluationError:
                    return False
                if evaluated.fingerprint != ended.fingerprint:
                    return False
    return True


def as_text(plan: Plan) -> str:
    """Return the canonical text of the plan."""
    return canonical(to_json(plan))
