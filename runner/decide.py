"""Selection x verdicts x what is stored -> a Decision for every step, with all its reasons."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from .case import NO_RUN, Case
from .causes import own_causes
from .errors import SelectionError
from .expression import EvaluationError
from .fingerprint import Before, Evaluated, evaluate, holds, when_holds
from .force import as_written, forced, forced_inside, is_forced, looks_up
from .frozen import frozen
from .gate import Closed, Start, gate, skips
from .lineage import Lineage, Made
from .pipeline import WAITS, Step
from .record import RunRecord, StepEnded
from .select import Facts, SelectorError, union
from .verdict import SAME, Standing, Verdict


@frozen(kw_only=True)
class Decision:
    """What is done with one step, and all the reasons."""

    name: ClassVar[str]
    step: str
    reasons: tuple[str, ...] = ()
    may: tuple[str, ...] = ()  # what it can end as instead


@frozen(kw_only=True)
class Run(Decision):
    """Will execute."""

    name: ClassVar[str] = "run"
    lookup: bool = False  # whether a stored success of its fingerprint is taken instead
    only_mode: bool = False  # whether it runs for no reason but mode full
    fingerprint: str = ""  # empty where it depends on steps that run
    outcome: bool | None = None  # of a condition whose values are known: it is evaluated again, and starts nothing


@frozen(kw_only=True)
class Kept(Decision):
    """Stands on a result that is there already."""

    past: StepEnded  # as the record of the run it is taken from has it
    run: str  # that run


@frozen(kw_only=True)
class Reuse(Kept):
    """Takes its outputs from the reference run."""

    name: ClassVar[str] = "reuse"
    verdict: Verdict = SAME
    assumed: bool = False


@frozen(kw_only=True)
class Cached(Kept):
    """Takes the outputs of any earlier success with the same fingerprint."""

    name: ClassVar[str] = "cached"


@frozen(kw_only=True)
class Skip(Decision):
    """Selected, but its `when` or condition is already known to be false."""

    name: ClassVar[str] = "skip"
    by: str = ""


@frozen(kw_only=True)
class Cut(Decision):
    """Not selected, downstream of the selection or beside it: keeps what it had."""

    name: ClassVar[str] = "cut"


@frozen(kw_only=True)
class Unneeded(Decision):
    """An ancestor whose own outputs nobody asks for now."""

    name: ClassVar[str] = "unneeded"


@frozen
class Decided:
    """What is done with each step, in topological order."""

    decisions: Mapping[str, Decision]
    mode: str
    forced: frozenset[str]
    notes: tuple[str, ...]


def decide(case: Case, standing: Standing) -> Decided:
    """Return the decisions; raises SelectionError where `assume`, `force`, `expect` or a branch cannot be as asked."""
    return _Deciding(case, standing).decide()


class _Deciding:
    def __init__(self, case: Case, standing: Standing) -> None:
        self.case, self.standing = case, standing
        self.pipeline, self.request, self.selection = case.pipeline, case.request, case.selection
        self.reference, self.graph, self.today = case.reference, case.graph, case.today
        self.mode = self.request.effective_mode
        self.lineage = Lineage(case.today.past)
        self.decisions: dict[str, Decision] = {}
        self.notes: list[str] = []
        self.ends: dict[str, str] = {}  # how the steps end whose end is known already
        self.any_skipped = False
        self.before: dict[str, Before] = {}
        self.taken: dict[str, bool | None] = {}

    def decide(self) -> Decided:
        self._check_assume()
        record = self.reference.record if self.reference else None
        self.forced = forced(self.request, self.pipeline, self.graph, record)
        chosen = set(self.selection.steps)
        frontier, closure = set(self.selection.frontier), set(self.selection.closure)
        for name in self.graph.order:
            step = self.pipeline.steps[name]
            if name in chosen:
                decision = self._selected(step)
            elif name in frontier:
                decision = self._reuse(step)
            elif name in closure:
                decision = Unneeded(step=name, reasons=("nothing that runs reads it",))
            else:
                decision = Cut(step=name, reasons=(self._why_cut(name),))
            self._settle(decision)
            self.decisions[name] = decision
        self._mark_twins()
        self._check_branches()
        self._check_expect([name for name, d in self.decisions.items() if isinstance(d, Run)])
        self.notes += [
            f"W404 the parameter `{name}` is deprecated"
            for name in self.request.params
            if self.pipeline.params[name].deprecated
        ]
        return Decided(self.decisions, self.mode, self.forced, tuple(self.notes))

    # what the request asks for beside the selection

    def _check_assume(self) -> None:
        for name in self.request.assume:
            step = self.pipeline.steps.get(name)
            if step is None or step.kind != "condition":
                conditions = [n for n, s in self.pipeline.steps.items() if s.kind == "condition"]
                raise SelectionError(
                    f"assume: there is no condition `{name}`",
                    help=f"conditions are: {', '.join(conditions) or 'none'}",
                    field=("assume",),
                )
            if name in self.selection:
                raise SelectionError(
                    f"assume: `{name}` is selected, so it is evaluated",
                    help=f"exclude {name}, or remove it from `assume`",
                    field=("assume",),
                )
            if name not in self.selection.frontier:
                self.notes.append(f"assume {name}: nothing that runs stands behind it")

    @cached_property
    def newest(self) -> RunRecord | None:
        """The newest finished run."""
        return next(iter(self.today.past.finished(self.pipeline.name)), None)

    @cached_property
    def any_past(self) -> bool:
        """Whether there is a result to compare with."""
        return self.reference is not None or self.lineage.knows(self.pipeline.name)

    def _mark_twins(self) -> None:
        """Of steps that do the same work in this run, one does it: each of them may be the one that does not."""
        twins: dict[str, list[Run]] = {}
        open_steps: list[Step] = []  # what they do depends on steps that run
        steps = self.pipeline.steps
        for name, decision in self.decisions.items():
            if isinstance(decision, Run) and decision.lookup:
                if decision.fingerprint:
                    twins.setdefault(decision.fingerprint, []).append(decision)
                elif steps[name].foreach is None:
                    open_steps.append(steps[name])
                else:
                    open_steps += as_written(steps[name])
        likely = {_likeness(steps[several[0].step]) for several in twins.values()}
        alike = {own for step in open_steps if (own := _likeness(step)) in likely} if likely else set()
        for several in twins.values():
            names = [decision.step for decision in several]
            for decision in several:
                others = ", ".join(name for name in names[:4] if name != decision.step)
                if not others and _likeness(steps[decision.step]) not in alike:
                    continue
                may = decision.may if "cached" in decision.may else ("cached", *decision.may)
                reasons = (*decision.reasons, *([f"the same work as {others}"] if others else []))
                self.decisions[decision.step] = replace(decision, may=may, reasons=reasons)

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
                    f"`{name}` runs only if {branch.condition} is {word(branch.outcome)}; {source} {word(taken)}",
                    help=f"add {branch.condition} to `select`, or `assume: {{{branch.condition}: {word(branch.outcome)}}}`",
                )

    def _check_expect(self, runs: list[str]) -> None:
        expect = self.request.expect
        if expect is None:
            return
        deferred = {n for n, s in self.pipeline.steps.items() if s.deferred}
        for name in expect.steps:
            if name not in self.pipeline.steps and name.partition("[")[0] not in deferred:
                raise SelectionError(
                    f"expect: no step `{name}`", help=f"there are: {', '.join(self.pipeline.steps)}", field=("expect",)
                )
        if expect.run is None:
            return
        none = Facts(lambda status: set(), lambda kind: set())
        try:
            wanted = union(sorted(expect.run), self.pipeline, self.graph, none, "expect")
        except SelectorError as error:
            raise SelectionError(f"expect: {error.text}", help=error.help, field=("expect",)) from None
        joins = {n for n in wanted | set(runs) if self.pipeline.steps[n].joins}  # they compute nothing
        wanted, runs = wanted - joins, [n for n in runs if n not in joins]
        if wanted != set(runs):
            extra, missing = set(runs) - wanted, wanted - set(runs)
            parts = [f"{', '.join(sorted(extra))} would run too"] if extra else []
            parts += [f"{', '.join(sorted(missing))} would not run"] if missing else []
            raise SelectionError(
                f"the plan is not what `expect.run` says: {'; '.join(parts)}",
                help=f"the steps that would run: {', '.join(runs) or 'none'}",
                field=("expect", "run"),
            )

    # decisions

    def _settle(self, decision: Decision) -> None:
        """Note how a step ends, where that is known before anything runs."""
        match decision:
            case Reuse(past=past):
                self.ends[decision.step] = "skipped" if past.status == "skipped" else "reused"
                self.any_skipped = self.any_skipped or past.status == "skipped"
                self.before[decision.step] = past.before()
                self.taken[decision.step] = past.taken
            case Cached(past=past):
                self.ends[decision.step] = "cached"
                self.before[decision.step] = past.before()
                self.taken[decision.step] = past.taken
            case Skip():
                self.ends[decision.step] = "skipped"
                self.any_skipped = True
                self.before[decision.step] = Before("skipped")
            case Run(outcome=bool()):
                self.ends[decision.step] = "succeeded"
                self.before[decision.step] = Before("succeeded", {}, decision.outcome)
                self.taken[decision.step] = decision.outcome

    def _reuse(self, step: Step) -> Decision:
        if step.name in self.request.assume:
            taken = self.request.assume[step.name]
            return Reuse(
                step=step.name,
                reasons=(f"assumed {word(taken)}",),
                past=StepEnded(step=step.name, status="reused", taken=taken),
                run="",
                assumed=True,
            )
        assert self.reference is not None  # `choose` refuses a frontier without one
        record = self.reference.record
        ended = record.steps[step.name]
        verdict = self.standing.verdicts[step.name]
        origin = f" via {record.id}" if ended.produced_by and ended.produced_by != record.id else ""
        sealed = (
            ", same as declared, unsealed"
            if (step.workdir == "project" or ended.unsealed) and verdict.word == "same"
            else ""
        )
        was = (
            f", it was {word(ended.taken)}"
            if ended.taken is not None
            else ", skipped there"
            if ended.status == "skipped"
            else ""
        )
        return Reuse(
            step=step.name, reasons=(f"from {ended.produced_by or record.id}{origin}{was}{sealed}", *map(str, verdict.causes)),
            past=ended, run=record.id, verdict=verdict,
        )  # fmt: skip

    def _why_cut(self, name: str) -> str:
        ended = self.reference.record.steps.get(name) if self.reference else None
        if ended is None or self.reference is None:
            return "not selected"
        found = f" ({word(ended.taken)})" if ended.taken is not None else ""
        return f"not selected; still what {self.reference.record.id} has: {ended.status}{found}"

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
        if step.deferred:
            return self._deferred(step, may if gates_known else ("skipped",))  # `when` is judged item by item
        if step.when is False:
            return Skip(step=step.name, reasons=("`when` is false",))
        if step.when is not True:
            known = when_holds(step, self.pipeline, self.today.params, self.before, self.today.world)
            if known is False:
                return Skip(step=step.name, reasons=("`when` is false",))
            gates_known = gates_known and known is not None
        if not gates_known:
            may = ("skipped",)
        if step.kind == "condition" or step.joins:
            return self._at_once(step, isinstance(found, Start), may)
        if step.kind in WAITS:
            what = "a decision" if step.kind == "approval" else "values from outside"
            reasons = [*(["selected"] if self.request.select is not None else []), f"it waits for {what}"]
            return Run(step=step.name, reasons=(*reasons, *self._inputs_from(step)), may=may)
        if step.kind == "fail":
            return Run(
                step=step.name, reasons=("its branch is taken" if not may and step.branch else "selected",), may=may
            )
        return self._process(step, may)

    def _closed_early(self, step: Step) -> Skip | None:
        """A step behind a gate that is known to be closed need not wait for what else it depends on."""
        if not step.branch and not self.any_skipped:
            return None
        found = skips(step, self.ends, self.taken)
        return Skip(step=step.name, reasons=(found.reason,), by=found.by) if found else None

    def _may_skip(self, step: Step) -> bool:
        """Whether a gate that this run decides stands before `step`."""
        if step.branch and step.branch.condition not in self.ends:
            return True
        return step.trigger == "all_succeeded" and any(
            "skipped" in d.may for name in step.before if (d := self.decisions.get(name))
        )

    def _deferred(self, step: Step, may: tuple[str, ...]) -> Decision:
        """A fan-out whose axes are computed by a step of this run."""
        assert step.foreach is not None
        reads = ", ".join(self.graph.sorted(step.foreach.reads))
        reasons = [
            *(["selected"] if self.request.select is not None else []),
            f"its items are known once {reads} {'has' if ',' not in reads else 'have'} ended",
        ]
        inside, whole = forced_inside(step, self.forced)
        if inside:
            reasons.append("forced" if whole else f"forced: {', '.join(inside)}")
        lookup = looks_up(step, self.mode, self.forced) and not whole
        return Run(step=step.name, reasons=tuple(reasons), may=("cached", *may) if lookup else may, lookup=lookup)

    def _at_once(self, step: Step, known: bool, may: tuple[str, ...]) -> Decision:
        """What needs no process is settled now, where all that it reads is known."""
        if known and not may:
            try:
                evaluated = self._evaluate(step)
            except EvaluationError:
                pass  # the run will fail there and say so
            else:
                if step.joins:
                    return Cached(
                        step=step.name, reasons=("all parts are known",), past=join_ended(step.name, evaluated), run=""
                    )
                outcome = holds(evaluated.own["if"])
                reasons = (f"evaluated now: {word(outcome)}",)
                return Run(step=step.name, reasons=reasons, fingerprint=evaluated.fingerprint, outcome=outcome)
        return Run(step=step.name, reasons=self._inputs_from(step) or ("selected",), may=may)

    def _evaluate(self, step: Step) -> Evaluated:
        return evaluate(step, self.pipeline, self.today.params, self.before, self.today.world, NO_RUN)

    def _inputs_from(self, step: Step) -> tuple[str, ...]:
        running = [n for n in self.graph.sorted(step.reads) if isinstance(self.decisions.get(n), Run)]
        return (f"input from {', '.join(running)}",) if running else ()

    def _process(self, step: Step, may: tuple[str, ...]) -> Decision:
        is_named = bool(self.forced) and is_forced(step, self.forced)
        lookup = not is_named and looks_up(step, self.mode)
        reasons = ["selected"] if self.request.select is not None else []
        if is_named:
            reasons.append("forced")
        elif not step.outputs:
            reasons.append("it has no outputs: it acts on the world")
        elif step.workdir == "project":
            reasons.append("unsealed: it works in the project's folder")
        elif not step.cache.enabled and self.mode == "incremental":
            reasons.append("its cache is off")
        known = all(name in self.ends for name in step.reads)
        # What only comes before must have ended well all the same, before anything after this step begins.
        needs = self.graph.sorted(set(step.needs) - step.reads) if step.needs else ()
        waits_for = [name for name in needs if name not in self.ends]
        evaluated: Evaluated | None = None
        if known:
            try:
                evaluated = self._evaluate(step)
            except EvaluationError as error:
                return Run(step=step.name, reasons=(*reasons, f"it will fail: {error}"), may=may)
        expired = False
        success = self.today.past.success(evaluated.fingerprint) if evaluated is not None else None
        if success is not None:
            expired = step.cache.expire_after is not None and self.case.now - success.at > step.cache.expire_after
            if evaluated is not None and lookup and not expired and not may and not waits_for:
                lapse = (
                    f"; it lapses {_ago(success.at + step.cache.expire_after - self.case.now)}"
                    if step.cache.expire_after is not None
                    else ""
                )
                return Cached(
                    step=step.name,
                    reasons=(f"the same in {success.produced_by}{lapse}",),
                    past=taken(success, step, evaluated),
                    run=success.produced_by,
                )
            if expired:
                reasons.append(f"its result of {success.produced_by} has expired")
        if not known:
            reasons += self._inputs_from(step)
        elif success is not None and waits_for and lookup:
            reasons.append(f"it comes after {', '.join(waits_for)}")
        reasons += self._changes(step)
        if lookup and not expired and (not known or ((may or waits_for) and success)):
            may = ("cached", *may)
        return Run(
            step=step.name, reasons=tuple(reasons) or ("nothing stored has its fingerprint",), may=may, lookup=lookup and not expired,
            only_mode=self.mode == "full" and not is_named and step.cache.enabled and bool(step.outputs) and not expired,
            fingerprint=evaluated.fingerprint if evaluated else "",
        )  # fmt: skip

    def _changes(self, step: Step) -> list[str]:
        """Say what differs in the step itself from its newest result, or from the one that the reference run has."""
        made = self._compared(step) if self.any_past else None
        if made is None:
            return ["it is new"] if self.newest is not None else []
        ended = made.ended
        if not ended.recipe:
            return []
        _, causes = own_causes(step, made, self.today)
        failed = f"it {ended.status} in {made.record.id if made.record else 'an earlier run'}"
        return [*([failed] if ended.status in ("failed", "stopped") else []), *map(str, causes)]

    def _compared(self, step: Step) -> Made | None:
        """Return the result that reasons compare with."""
        if self.reference is None:
            return self.lineage.newest(step.name, self.pipeline.name)
        return self.lineage.made(step.name, self.reference.record) or self.lineage.newest(step.name, self.pipeline.name)


def _likeness(step: Step) -> Hashable:
    """Return what two steps have in common that may turn out to do the same work, whatever they read."""
    if step.kind == "shell":
        script: str = step.own["script"]  # nothing is put into it
        return script
    return step.kind, frozenset(step.env), frozenset(step.inputs), frozenset(step.outputs), step.code


def taken(success: StepEnded, step: Step, evaluated: Evaluated) -> StepEnded:
    """Return a stored success as that of `step`: where it was made, it and what it read may have had other names."""
    reads = tuple((r.step, r.output, r.digest, r.run) for r in evaluated.reads)
    return replace(success, step=step.name, reads=reads, params=evaluated.params)


def word(value: bool | None) -> str:
    """Return a truth value as YAML writes it."""
    return "true" if value else "false"


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if abs(seconds) >= size:
            return f"in {seconds / size:.0f}{unit}"
    return f"in {seconds:.0f}s"


def join_ended(name: str, evaluated: Evaluated, run: str = "") -> StepEnded:
    """Return the end of a step that brings together what others left; `run` is empty before it is known."""
    return StepEnded(
        step=name, status="succeeded", fingerprint=evaluated.fingerprint, recipe=evaluated.recipe, params=evaluated.params,
        reads=tuple((r.step, r.output, r.digest, r.run) for r in evaluated.reads), produced_by=run,
        outputs={n: replace(p, run=run if p.items is not None or not p.digest else p.run).to_json() for n, p in evaluated.made.items()},
    )  # fmt: skip
