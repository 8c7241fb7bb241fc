"""Decisions and verdicts -> what a person must know before it starts: effects, gates, and findings with remedies."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .case import Case
from .causes import Cause, shown
from .decide import Decided, Kept, Reuse, Skip, word
from .errors import SelectionError
from .frozen import frozen
from .pipeline import Param
from .reference import unusable
from .select import quoted, selection_of, written_as
from .values import alike, plain
from .verdict import SAME, Gate, Standing, Verdict, content, roots


@frozen
class Effect:
    """What a parameter that differs from the reference run changes in this run."""

    param: str
    then: str
    now: str
    word: str  # effective split shadowed deferred unused
    read_by: tuple[str, ...]  # in topological order


@frozen
class GateReport:
    """A gate that the plan stands on or that the run decides, with both futures."""

    step: str
    field: str  # if, when, gate or approval
    decision: str  # run cached reuse assumed unneeded
    was: bool | None
    now: bool | None  # None: known only once the run is there
    values: tuple[tuple[str, str, str], ...]
    then: tuple[str, ...]  # selected steps that run if it is true
    otherwise: tuple[str, ...]


@frozen
class Remedy:
    """One way out of a finding, ready to paste into the request."""

    kind: str  # select reset remove accept
    paste: str
    steps: tuple[str, ...] = ()  # that it adds to those that run


@frozen
class Finding:
    """Something that only a person can decide; nothing starts while there is one."""

    code: str
    subject: str  # step or parameter
    text: str
    remedies: tuple[Remedy, ...]
    cause: str = ""


@frozen
class Review:
    effects: tuple[Effect, ...]
    gates: tuple[GateReport, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def review(case: Case, standing: Standing, decided: Decided) -> Review:
    """Return all that a reviewer must know. Raises SelectionError for an `accept` that names no step."""
    return _Reviewing(case, standing, decided).review()


class _Reviewing:
    def __init__(self, case: Case, standing: Standing, decided: Decided) -> None:
        self.case, self.standing, self.decided = case, standing, decided
        self.pipeline, self.selection, self.graph = case.pipeline, case.selection, case.graph
        self.notes: list[str] = []
        accepted = {n for n, v in standing.verdicts.items() if v.accepted}
        # What lies in an accepted cause is settled with it.
        self.settled = accepted | {r for n in accepted for r in roots(standing.verdicts[n].causes)}

    def review(self) -> Review:
        self._check_accept()
        self.notes += self._unreproducible()
        self.notes += self._lonely_gates()
        self.notes += self._untracked()
        effects = tuple(self._effects())
        open_steps = [n for n in self.selection.closure if not self._agrees(n)]
        self.open = open_steps
        findings = [*self._on_steps(), *self._on_params(effects)]
        return Review(effects, tuple(self._gates()), tuple(findings), tuple(self.notes))

    def _check_accept(self) -> None:
        for accepted in self.case.request.accept:
            name = accepted.step
            if name not in self.pipeline.steps:
                raise SelectionError(f"accept: no step `{name}`", help=f"there are: {', '.join(self.pipeline.steps)}")
            if self._sound(name) and name not in self.settled and not self._accepted_gate(name):
                self.notes.append(f"accept {name}: it is not stale, so there is nothing to accept")

    def _accepted_gate(self, name: str) -> bool:
        gate = self.standing.gates.get(name)
        return gate is not None and gate.accepted

    def _verdict(self, name: str) -> Verdict:
        return self.standing.verdicts.get(name, SAME)

    def _sound(self, name: str) -> bool:
        return self._verdict(name).sound or name in self.settled

    def _agrees(self, name: str) -> bool:
        """Whether a step above the selection is, by proof or acceptance, what a full run would have."""
        gate = self.standing.gates.get(name)
        return self._sound(name) and (gate is None or gate.holds or name in self.settled)

    def _lonely_gates(self) -> Iterator[str]:
        """A gate that is known to open a branch of which nothing is selected."""
        for name, decision in self.decided.decisions.items():
            if name not in self.selection or not isinstance(decision, Kept) or decision.past.taken is None:
                continue
            behind = [n for n, s in self.pipeline.steps.items() if s.branch and s.branch.condition == name]
            opened = [n for n in behind if (b := self.pipeline.steps[n].branch) and b.outcome is decision.past.taken]
            closed = [n for n in behind if n in self.selection and n not in opened]
            if opened and closed and not any(n in self.selection for n in opened):
                yield (
                    f"{name} is {word(decision.past.taken)}: {_listed(closed)} will not run, and {_listed(opened)}, "
                    f"which would run instead, {are(opened)} not selected"
                )

    def _untracked(self) -> Iterator[str]:
        """Runtimes of which the fingerprint knows less than what decides."""
        runtimes = dict.fromkeys(r for n in self.selection.steps if (r := self.pipeline.steps[n].runtime))
        for runtime in runtimes:
            if runtime.kind == "host" and not runtime.file:
                yield f"runtime {runtime.name}: installed packages are not tracked; a `lock` file would be"
            if runtime.kind == "venv" and runtime.path:
                yield f"runtime {runtime.name}: what is installed in {runtime.path} is not tracked"

    def _unreproducible(self) -> Iterator[str]:
        """One fingerprint that has had other bytes: what is reused is one of several results of the same work."""
        for name, decision in self.decided.decisions.items():
            if not isinstance(decision, Reuse) or not decision.past.outputs:
                continue
            for count, success in enumerate(self.case.today.past.successes(decision.past.fingerprint)):
                if content(success) != content(decision.past):
                    yield f"{name} is unreproducible: run {success.produced_by} made other bytes with the same fingerprint"
                    break
                if count == 20:
                    break

    # parameters

    def _effects(self) -> Iterator[Effect]:
        if self.case.reference is None:
            return
        record = self.case.reference.record
        chosen, above = set(self.selection.steps), set(self.selection.closure)
        for name, value in self.case.today.params.items():
            then = record.started.params.get(name)
            if name in record.started.params and alike(value, then):
                continue
            readers = [
                n for n in self.graph.order
                if name in self.pipeline.steps[n].params or name in self.pipeline.steps[n].gate_params
            ]  # fmt: skip
            run, reused = any(n in chosen for n in readers), any(n in above for n in readers)
            effect = (
                "split" if run and reused
                else "effective" if run
                else "shadowed" if reused
                else "deferred" if readers
                else "unused"
            )  # fmt: skip
            yield Effect(
                name,
                shown(plain(then), name in record.started.params),
                shown(plain(value), True),
                effect,
                tuple(readers),
            )

    def _on_params(self, effects: Iterable[Effect]) -> Iterator[Finding]:
        above = set(self.selection.closure)
        for effect in effects:
            if effect.word not in ("split", "shadowed"):
                continue
            reused = [n for n in effect.read_by if n in above]
            unsound = [n for n in reused if not self._agrees(n)]
            if not unsound:
                how = (
                    "accepted"
                    if any(not self._verdict(n).word.startswith("same") or self._accepted_gate(n) for n in reused)
                    else "the same with either value"
                )
                self.notes.append(f"{effect.param} is {effect.word}: {self._stays(reused)}, {how}")
                continue
            run = [n for n in effect.read_by if n in self.selection]
            change = f"{effect.then} -> {effect.now}"
            stays = self._stays(reused)
            if effect.word == "shadowed":
                reads = "reads" if len(reused) == 1 else "read"
                text = f"{effect.param} ({change}) has no effect in this run: only {_listed(reused)} {reads} it, and {stays}."
            else:
                text = (
                    f"{effect.param} ({change}) takes effect in {_listed(run)}, but not in {_listed(reused)}: {stays}."
                )
            yield Finding(
                "F210" if effect.word == "shadowed" else "F211",
                effect.param,
                text,
                self._param_remedies(effect, unsound),
            )

    def _stays(self, names: list[str]) -> str:
        """Say what becomes of steps above the selection."""
        reused = [n for n in names if n in self.selection.frontier]
        rest = [n for n in names if n not in self.selection.frontier]
        parts = [f"{_listed(reused)} {are(reused)} reused"] if reused else []
        parts += [f"{_listed(rest)} {'does' if len(rest) == 1 else 'do'} not run"] if rest else []
        return ", and ".join(parts)

    def _param_remedies(self, effect: Effect, unsound: list[str]) -> tuple[Remedy, ...]:
        remedies = [*self._select(unsound), *self._take_back([effect.param])]
        for name in unsound:
            reader = self._frontier_of(name)
            if reader and (cause := self._cause(reader)):
                remedies.append(_accept(reader, cause))
        return tuple(dict.fromkeys(remedies))

    def _take_back(self, params: list[str]) -> Iterator[Remedy]:
        """Set parameters as the reference run had them."""
        assert self.case.reference is not None
        then = self.case.reference.record.started.params
        given = [n for n in params if self.case.sources.get(n) == "request"]
        inherits = self.case.request.inherit == "reference"
        if given and inherits and all(self._differs(n) for n in given):
            yield Remedy("remove", f"remove {', '.join(given)} from `params`")
            if all(n in then and self._is_default(self.pipeline.params[n], then[n]) for n in given):
                kept = [*self.case.request.reset, *given]
                yield Remedy("reset", f"reset: [{', '.join(kept)}]  # and no {', '.join(given)} in `params`")
        for name in params:
            if name in given:
                if not inherits and name in then and self._differs(name):
                    yield Remedy("remove", f"set {name} in `params` to {shown(plain(then[name]), True)}")
            elif name in self.case.request.reset:
                yield Remedy("remove", f"remove {name} from `reset`")
            elif name in then and self.case.request.inherit == "defaults":
                yield Remedy(
                    "remove",
                    f"remove `inherit: defaults`, or set {name} in `params` to {shown(plain(then[name]), True)}",
                )

    def _differs(self, name: str) -> bool:
        """Whether a parameter's value, not only the file behind it, is another than in the reference run."""
        assert self.case.reference is not None
        then = self.case.reference.record.started.params
        return name not in then or not alike(self.case.today.params[name], then[name])

    def _is_default(self, param: Param, value: Any) -> bool:
        if param.required:
            return False
        if param.type.name in ("file", "dir"):
            return posixpath.normpath(posixpath.join(self.pipeline.base, str(param.default))) == str(value)
        return bool(plain(param.default) == plain(value))

    # steps and gates

    def _on_steps(self) -> Iterator[Finding]:
        frontier = set(self.selection.frontier)
        for name in self.open:
            gate, verdict = self.standing.gates.get(name), self._verdict(name)
            if (
                gate is not None
                and not gate.holds
                and name not in self.settled
                and not (verdict.accepted and gate.field == "if")
            ):
                causes = f" ({_causes(verdict)})" if gate.now is None and verdict.causes else ""
                text = f"{gate_text(gate)}{causes}{self._behind(name)}."
                yield Finding("F220", name, text, self._step_remedies(name, gate.cause), gate.cause)
            if (
                name in frontier
                and not self._sound(name)
                and self.pipeline.steps[name].kind not in ("condition", "approval")
            ):
                yield self._on_reuse(name, verdict)

    def _on_reuse(self, name: str, verdict: Verdict) -> Finding:
        again = (
            " Its cause is not the one that was accepted."
            if any(a.step == name for a in self.case.request.accept)
            else ""
        )
        causes = _causes(verdict)
        match verdict.word:
            case "differs-by-evidence":
                code = "F202"
                text = f"{name} would be reused, but run {verdict.evidence} made other bytes of it with today's inputs: {causes}.{again}"
            case "unknown":
                code = "F203"
                text = f"{name} would be reused, but what it would make today is not known: {causes}.{again}"
            case _:
                code = "F201"
                text = f"{name} would be reused, but it is stale: {causes}.{again}"
        return Finding(code, name, text, self._step_remedies(name, verdict.cause), verdict.cause)

    def _step_remedies(self, name: str, cause: str) -> tuple[Remedy, ...]:
        causes = _leaves(self._verdict(name).causes)
        params = list(
            dict.fromkeys(c.name for c in causes if c.kind in ("param", "input") and c.name in self.pipeline.params)
        )
        out = [*self._select([name]), *self._other_reference(name)]
        if params and all(c.name in params for c in causes):
            out += self._take_back(params)
        return (*out, _accept(name, cause))

    def _other_reference(self, name: str) -> Iterator[Remedy]:
        """Yield the run that made the step as it would be made today, if it can be the reference run."""
        verdict = self._verdict(name)
        record = self.case.today.past.run(verdict.evidence) if verdict.word == "differs-by-evidence" else None
        if record and record.finished and not list(unusable(self.selection, self.case.request, self.pipeline, record)):
            yield Remedy("reference", f"reference: {record.id}")

    def _behind(self, name: str) -> str:
        """Say what of the plan stands behind a gate."""
        readers = [n for n in self.graph.after[name] if self._gated_by(n, name)] if name in self.graph.after else []
        chosen = [n for n in readers if n in self.selection]
        if self.standing.gates[name].field in ("when", "gate"):
            return f", and {name} is reused" if name in self.selection.frontier else ""
        if chosen:
            return f", and you select {_listed(chosen)} behind it"
        reused = [n for n in readers if n in self.selection.frontier]
        return f", and {_listed(reused)} behind it {are(reused)} reused" if reused else ""

    def _gated_by(self, name: str, gate: str) -> bool:
        step = self.pipeline.steps[name]
        if self.pipeline.steps[gate].kind == "approval":
            return gate in step.before
        return (step.branch is not None and step.branch.condition == gate) or gate in step.reads

    def _cause(self, name: str) -> str:
        gate = self.standing.gates.get(name)
        return self._verdict(name).cause or (gate.cause if gate else "")

    def _frontier_of(self, name: str) -> str:
        """Return the step whose acceptance covers what is wrong with `name`: itself, or a reused step below it."""
        if name in self.selection.frontier or name in self.standing.gates:
            return name
        below = [n for n in self.selection.frontier if name in set(roots(self._verdict(n).causes))]
        return below[0] if below else name

    def _select(self, names: Iterable[str]) -> Iterator[Remedy]:
        """Yield the least honest selection: what is selected, all open steps and what made them so, without a hole."""
        wanted = {*names, *self.open}
        wanted |= {r for n in tuple(wanted) for r in roots(self._verdict(n).causes) if r in self.standing.verdicts}
        least = set(self.selection.steps) | wanted
        reference = self.case.reference
        assert reference is not None
        while True:
            least |= self.graph.between(least)
            found = selection_of(least, self.graph)
            more = {name for name, _ in unusable(found, self.case.request, self.pipeline, reference.record)}
            more |= {
                b.condition
                for n in least
                if (b := self.pipeline.steps[n].branch) and b.condition in found.frontier
                and (e := reference.record.steps.get(b.condition)) and e.taken is not b.outcome
            }  # fmt: skip
            more |= self._items_anew(least)
            if not more:
                break
            least |= more
        names = written_as(found.steps, self.pipeline, self.graph)
        lines = [f"select: [{', '.join(map(quoted, names))}]"]
        if self.case.request.exclude:
            lines.append("exclude: []")
        if len(found.pieces) > 1 and not self.case.request.islands:
            lines.append("islands: allow")
        yield Remedy("select", ", ".join(lines), tuple(n for n in found.steps if n not in self.selection))

    def _items_anew(self, least: set[str]) -> set[str]:
        """Return the rest of the fan-outs whose axes are computed again: none of their items can be named before."""
        steps = self.pipeline.steps
        anew = {fan for n in least for fan, _ in steps[n].within if (f := steps[fan].foreach) and f.reads & least}
        return {n for n, s in steps.items() if n in anew or any(fan in anew for fan, _ in s.within)} - least

    # gates

    def _gates(self) -> Iterator[GateReport]:
        for name, decision in self.decided.decisions.items():
            step = self.pipeline.steps[name]
            known = self.standing.gates.get(name)
            if known is not None:
                assumed = name in self.case.request.assume
                yield self._report(name, "assumed" if assumed else decision.name, known)
            elif name in self.case.request.assume and name in self.selection.frontier:
                yield self._report(name, "assumed", self._assumed(name))
            elif step.kind == "condition" and name in self.selection and not isinstance(decision, Skip):
                taken = decision.past.taken if isinstance(decision, Kept) else None
                yield self._report(name, decision.name, Gate(name, "if", False, taken), was=self._was(name))

    def _was(self, name: str) -> bool | None:
        ended = self.case.reference.record.steps.get(name) if self.case.reference else None
        return ended.taken if ended else None

    def _assumed(self, name: str) -> Gate:
        return Gate(name, "if", bool(self._was(name)), self.case.request.assume[name])

    def _report(self, name: str, decision: str, gate: Gate, was: bool | Any | None = ...) -> GateReport:
        branches: Mapping[bool, list[str]] = {True: [], False: []}
        for n in self.selection.steps:
            branch = self.pipeline.steps[n].branch
            if branch is not None and branch.condition == name:
                branches[branch.outcome].append(n)
        return GateReport(
            name, gate.field, decision, gate.was if was is ... else was, gate.now, gate.values,
            tuple(branches[True]), tuple(branches[False]),
        )  # fmt: skip


def gate_text(gate: Gate) -> str:
    """Return what a gate decided and what it would decide today, in one sentence without its end."""
    if gate.field == "approval":
        return f"{gate.step} was {gate.values[0][1]}; today it asks for something else"
    if gate.field == "gate":
        ran = "ran" if gate.was else "was skipped"
        return f"{gate.step} {ran} there; today it would {'run' if gate.now else 'be skipped'}: {gate.values[0][2]}"
    changed = [(n, then, now) for n, then, now in gate.values if then != now]
    still = [(n, now) for n, then, now in gate.values if then == now]
    then = f" at {', '.join(f'{n} {then}' for n, then, _ in changed)}" if changed else ""
    at = f"at {', '.join(f'{n} {now}' for n, _, now in changed)} " if changed else ""
    fixed = f"with {', '.join(f'{n} {now}' for n, now in still)} " if still else ""
    name = gate.step if gate.field == "if" else f"`when` of {gate.step}"
    if gate.now is None:
        return f"{name} was {word(gate.was)}{then}; what it would be today is not known"
    return f"{name} was {word(gate.was)}{then}; {at}{fixed}it would be {word(gate.now)}"


def _leaves(causes: Iterable[Cause]) -> list[Cause]:
    """Return the causes that no other cause is behind; a step that is told elsewhere with what is behind it is none."""
    found = list(_all(causes))
    told = {cause.name for cause in found if cause.causes}
    return [cause for cause in found if not cause.causes and not (cause.kind == "upstream" and cause.name in told)]


def _all(causes: Iterable[Cause]) -> Iterator[Cause]:
    for cause in causes:
        yield cause
        yield from _all(cause.causes)


def _causes(verdict: Verdict) -> str:
    return "; ".join(map(str, verdict.causes))


def _accept(step: str, cause: str) -> Remedy:
    return Remedy("accept", f'accept: [{{step: {quoted(step)}, cause: {cause[:9]}, reason: "..."}}]')


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def are(names: Sequence[str]) -> str:
    """Return the verb for so many names."""
    return "is" if len(names) == 1 else "are"
