"""Decisions and verdicts -> what a person must know before it starts: effects, gates, and findings with remedies."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from typing import Any

from .case import Case
from .causes import Cause, shown
from .decide import Cut, Decided, Reuse, Run, Unneeded, word
from .errors import SelectionError
from .frozen import frozen
from .graph import graph_of
from .pipeline import Param
from .record import RunRecord
from .reference import unusable
from .results import left_out
from .select import Selection, quoted, selection_of, written_as
from .starts import Gate
from .values import alike, plain
from .verdict import SAME, SOUND, Standing, Verdict, content, roots


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
    assumed: bool = False  # whether the reference run was given the outcome


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
    subject: str  # step or parameter; the first of several steps
    text: str
    remedies: tuple[Remedy, ...]
    cause: str = ""  # of the subject
    causes: tuple[tuple[str, str], ...] = ()  # step, cause: of all steps that it is on


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
        self.frontier = set(self.selection.frontier)
        self.matters = self._matters()
        self.settled = self._settled({n for n, v in standing.verdicts.items() if v.accepted})
        self.open = [n for n in self.selection.closure if not self._agrees(n)]
        self.selects: dict[frozenset[str], Remedy] = {}

    def _matters(self) -> set[str]:
        """Return the steps that the selection depends on: of those before a step that stays skipped, what skips it."""
        found = {*self.selection.frontier}
        for name in reversed(self.selection.closure):
            if name in found:
                # A `when` of parameters alone is skipped by no step: then nothing before it matters.
                found.update(self.standing.skipped[name] if name in self.standing.skipped else self.graph.before[name])
        return found

    def _settled(self, accepted: Set[str]) -> set[str]:
        """Return the steps whose staleness matters only through causes of others, which are accepted.

        What the selection reads itself is accepted by its own cause alone.
        """
        verdicts, closure = self.standing.verdicts, self.selection.closure
        behind = {r for n in accepted for r in roots(verdicts[n].causes)} - self.frontier - accepted
        settled = {*accepted}
        for name in reversed(closure) if behind else ():
            if name in behind and all(n in settled for n in self.graph.after[name] if n in verdicts):
                settled.add(name)
        return settled - accepted

    def review(self) -> Review:
        self._check_accept()
        self.notes += self._unreproducible()
        self.notes += self._lonely_gates()
        self.notes += self._untracked()
        self.notes += self._left_out()
        effects = tuple(self._effects())
        findings = _shortened([*self._on_steps(), *self._on_params(effects)])
        return Review(effects, tuple(self._gates()), tuple(findings), tuple(self.notes))

    def _check_accept(self) -> None:
        for accepted in self.case.request.accept:
            name = accepted.step
            if name not in self.pipeline.steps:
                raise SelectionError(
                    f"accept: no step `{name}`", help=f"there are: {', '.join(self.pipeline.steps)}", field=("accept",)
                )
            if self._verdict(name).word in SOUND and not self._accepted_gate(name):
                self.notes.append(f"accept {name}: it is not stale, so there is nothing to accept")

    def _gates_of(self, name: str) -> tuple[Gate, ...]:
        return self.standing.gates.get(name, ()) if name in self.matters else ()

    def _accepted_gate(self, name: str) -> bool:
        return any(gate.accepted for gate in self._gates_of(name))

    def _verdict(self, name: str) -> Verdict:
        return self.standing.verdicts.get(name, SAME)

    def _sound(self, name: str) -> bool:
        return self._verdict(name).sound or name in self.settled

    def _agrees(self, name: str) -> bool:
        """Whether a step above the selection is, by proof or acceptance, what a full run would have."""
        if name not in self.matters or name in self.settled:
            return True
        return self._sound(name) and all(gate.holds for gate in self._gates_of(name))

    def _lonely_gates(self) -> Iterator[str]:
        """A gate that is known to open a branch of which nothing is selected."""
        for name, decision in self.decided.decisions.items():
            if name not in self.selection or not isinstance(decision, Run) or decision.outcome is None:
                continue
            behind = [n for n, s in self.pipeline.steps.items() if s.branch and s.branch.condition == name]
            opened = [n for n in behind if (b := self.pipeline.steps[n].branch) and b.outcome is decision.outcome]
            closed = [n for n in behind if n in self.selection and n not in opened]
            if opened and closed and not any(n in self.selection for n in opened):
                yield (
                    f"{name} is {word(decision.outcome)}: {_listed(closed)} will not run, and {_listed(opened)}, "
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

    def _left_out(self) -> Iterator[str]:
        """Pipeline outputs and steps of `finally` that read what is no part of the run."""
        absent = {n for n, d in self.decided.decisions.items() if isinstance(d, Cut | Unneeded)}
        if not absent:
            return
        for name, template in self.pipeline.outputs.items():
            steps, sure = left_out(template, absent)
            if steps:
                when = "is left out of the record" if sure else "is left out of the record if it needs that"
                yield f"output {name} {when}: {_listed(steps)} {are(steps)} not selected"
        for name, step in self.pipeline.finals.items():
            if steps := self.graph.sorted(step.reads & absent):
                yield f"finally step {name} finds no outputs of {_listed(steps)}, which {are(steps)} not selected"

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
                    else "and would be the same today"
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
        remedies = [*self._select(unsound), *self._take_back([effect.param]), *self._accept_all(unsound)]
        return tuple(dict.fromkeys(remedies))

    def _accept_all(self, names: Sequence[str]) -> Iterator[Remedy]:
        """Accept what is wrong with steps: the last of them, and what is reused of what is made from them.

        A cause holds those above it, and is another one once one of them is accepted.
        """
        wanted, above = set(names), dict[str, set[str]]()
        for name in self.selection.closure:
            if not self._agrees(name):
                behind = set(roots(self._verdict(name).causes))
                if name in wanted or (name in self.frontier and behind & wanted):
                    above[name] = behind
        last = above.keys() - set[str]().union(*above.values())
        # A gate that is accepted changes what the gates behind it decide, and so their causes.
        if wanted <= last | self._settled(last) and last.isdisjoint(self.graph.ancestors(last)):
            yield _accept([pair for name in above if name in last for pair in self._accepts(name)])

    def _take_back(self, params: Sequence[str]) -> Iterator[Remedy]:
        """Set parameters as the reference run had them, all of them at once."""
        ways = [self._way_back(name) for name in params]
        if not ways or not all(ways):
            return
        given = [name for name, way in zip(params, ways, strict=True) if way == _REMOVE]
        if given:
            ways = [f"remove {', '.join(given)} from `params`", *(way for way in ways if way != _REMOVE)]
        yield Remedy("remove", ", and ".join(ways))
        if all(self.case.sources.get(name) == "default" and name not in self.case.request.reset for name in params):
            yield Remedy("remove", "remove `inherit: defaults`")
        then = self.case.reference.record.started.params if self.case.reference else {}
        if len(given) == len(params) and all(
            n in then and self._is_default(self.pipeline.params[n], then[n]) for n in given
        ):
            kept = [*self.case.request.reset, *given]
            yield Remedy("reset", f"reset: [{', '.join(kept)}]  # and no {', '.join(given)} in `params`")

    def _way_back(self, name: str) -> str:
        """Return how a parameter gets the value that it had in the reference run, or nothing if it cannot."""
        assert self.case.reference is not None
        then = self.case.reference.record.started.params
        if name not in then or not self._differs(name):
            return ""  # the same file has other content
        old = shown(plain(then[name]), True)
        if self.case.sources.get(name) == "request":
            return _REMOVE if self.case.request.inherit == "reference" else f"set {name} in `params` to {old}"
        if name in self.case.request.reset:
            if self.case.request.inherit == "reference":
                return f"remove {name} from `reset`"
            return f"remove {name} from `reset` and set it in `params` to {old}"
        return f"set {name} in `params` to {old}" if self.case.request.inherit == "defaults" else ""

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
        alike: dict[tuple[object, ...], list[str]] = {}  # steps that are open for one reason
        for name in self.open:
            if gates := [gate for gate in self._gates_of(name) if not gate.holds and name not in self.settled]:
                yield self._on_gates(name, gates)
            verdict = self._verdict(name)
            by_gate = self.pipeline.steps[name].kind in ("condition", "approval")
            if name in self.frontier and not self._sound(name) and not by_gate:
                alike.setdefault((verdict.word, verdict.evidence, verdict.causes, self._was_accepted(name)), []).append(
                    name
                )
        for names in alike.values():
            for group in [names] if len(names) > _MANY else [[name] for name in names]:
                yield self._on_reuse(group, self._verdict(group[0]))

    def _was_accepted(self, name: str) -> bool:
        return any(a.step == name for a in self.case.request.accept)

    def _on_gates(self, name: str, gates: Sequence[Gate]) -> Finding:
        verdict = self._verdict(name)
        unknown = gates[0].now is None and gates[0].field in ("if", "approval") and verdict.causes
        causes = f" ({_causes(verdict)})" if unknown else ""
        text = f"{'; '.join(map(gate_text, gates))}{causes}{self._behind(name, gates[0].field)}."
        by = [step for gate in gates for step in gate.by]
        accept = tuple((name, cause) for cause in dict.fromkeys(gate.cause for gate in gates))
        remedies = self._step_remedies([name], by, self._params_of_gates(gates), accept)
        return Finding("F220", name, text, remedies, accept[0][1], accept)

    def _on_reuse(self, names: Sequence[str], verdict: Verdict) -> Finding:
        """Return the finding on steps that would be reused, and that differ for one reason."""
        name, one = _listed(names, 3), len(names) == 1
        again = ""
        if self._was_accepted(names[0]):
            again = f" {'Its cause is' if one else 'Their causes are'} not the one that was accepted."
        causes, it = _causes(verdict), "it" if one else "they"
        match verdict.word:
            case "differs-by-evidence":
                code = "F202"
                maker = f"{verdict.maker} of " if verdict.maker else ""
                text = f"{name} would be reused, but {maker}run {verdict.evidence} made other bytes of {'it' if one else 'them'} with today's inputs: {causes}.{again}"
            case "unknown":
                code = "F203"
                text = f"{name} would be reused, but what {it} would make today is not known: {causes}.{again}"
            case _:
                code = "F201"
                text = f"{name} would be reused, but {it} {are(names)} stale: {causes}.{again}"
        pairs = [(n, self._verdict(n).cause) for n in names]
        return Finding(
            code,
            names[0],
            text,
            self._step_remedies(names, (), self._params_of(verdict), pairs),
            pairs[0][1],
            tuple(pairs),
        )

    def _step_remedies(
        self, names: Sequence[str], by: Sequence[str], params: Sequence[str], accept: Sequence[tuple[str, str]]
    ) -> tuple[Remedy, ...]:
        """Return the ways out of a finding; `params` are those that it comes from, if it comes from nothing else."""
        return (
            *self._select([*names, *by]),
            *self._other_reference(names[0]),
            *self._take_back(params),
            _accept(accept),
        )

    def _params_of(self, verdict: Verdict) -> list[str]:
        """Return the parameters that a verdict comes from, or none if it comes from something else, too."""
        above = {source: [g for g in self._gates_of(source) if not g.holds] for source in roots(verdict.causes)}
        gates = [gate for found in above.values() for gate in found]
        by_gates = self._params_of_gates(gates)
        # A step above that nothing but a gate puts in doubt has no cause of its own.
        causes = [c for c in _leaves(verdict.causes) if not (c.kind == "upstream" and above[c.name])]
        params = [c.name for c in causes if c.kind in ("param", "input") and c.name in self.pipeline.params]
        if len(params) < len(causes) or (gates and not by_gates) or not all(map(self._is_of_reference, causes)):
            return []
        return list(dict.fromkeys((*params, *by_gates)))

    def _is_of_reference(self, cause: Cause) -> bool:
        """Whether a parameter had the value that it comes from in the reference run, not in one before it."""
        assert self.case.reference is not None
        then = plain(self.case.reference.record.started.params.get(cause.name))
        if self.pipeline.params[cause.name].type.name in ("file", "dir"):
            return cause.then.partition(" (")[0] == posixpath.basename(str(then))
        return cause.then == shown(then, True)

    def _params_of_gates(self, gates: Sequence[Gate]) -> list[str]:
        """Return the parameters that gates differ by, or none if they differ by something else, too."""
        assert self.case.reference is not None
        started = self.case.reference.record.started
        if started.definition != self.pipeline.digest or started.accepted:
            return []  # a gate that is new, or that was accepted then, may decide otherwise with the values of then, too
        found = [self._params_of_gate(gate) for gate in gates]
        return list(dict.fromkeys(name for names in found for name in names)) if all(found) else []

    def _params_of_gate(self, gate: Gate) -> list[str]:
        if gate.field in ("if", "approval"):
            return [] if gate.assumed else self._params_of(self._verdict(gate.step))
        return list(gate.params)

    def _other_reference(self, name: str) -> Iterator[Remedy]:
        """Yield the run that made the step as it would be made today, if it can be the reference run."""
        verdict = self._verdict(name)
        record = self.case.today.past.run(verdict.evidence) if verdict.word == "differs-by-evidence" else None
        assert self.case.reference is not None
        if record is None or record.id == self.case.reference.record.id or verdict.maker:
            return
        closed = self._closed(self.selection, self.case.request.assume, record)
        if (
            record.finished
            and not closed
            and not list(unusable(self.selection, self.case.request, self.pipeline, record))
        ):
            yield Remedy("reference", f"reference: {record.id}")

    def _behind(self, name: str, field: str) -> str:
        """Say what of the plan stands behind a gate."""
        readers = [n for n in self.graph.after[name] if self._gated_by(n, name)] if name in self.graph.after else []
        chosen = [n for n in readers if n in self.selection]
        if field in ("when", "gate"):
            return f", and {name} is reused" if name in self.frontier else ""
        if chosen:
            return f", and you select {_listed(chosen)} behind it"
        reused = [n for n in readers if n in self.frontier]
        return f", and {_listed(reused)} behind it {are(reused)} reused" if reused else ""

    def _gated_by(self, name: str, gate: str) -> bool:
        step = self.pipeline.steps[name]
        if self.pipeline.steps[gate].kind == "approval":
            return gate in step.before
        return (step.branch is not None and step.branch.condition == gate) or gate in step.reads

    def _accepts(self, name: str) -> list[tuple[str, str]]:
        """Return the causes to accept for a step: of its verdict and of its gates."""
        causes = [self._verdict(name).cause, *(gate.cause for gate in self._gates_of(name) if not gate.holds)]
        return [(name, cause) for cause in dict.fromkeys(filter(None, causes))]

    def _select(self, names: Iterable[str]) -> Iterator[Remedy]:
        """Yield the smallest sound selection: what is selected, all open steps and what made them so, without a hole."""
        wanted = frozenset({*names, *self.open})
        if wanted not in self.selects:
            self.selects[wanted] = self._smallest_sound(wanted)
        yield self.selects[wanted]

    def _smallest_sound(self, wanted: frozenset[str]) -> Remedy:
        roots_of = {r for n in wanted for r in roots(self._verdict(n).causes) if r in self.standing.verdicts}
        least = set(self.selection.steps) | wanted | roots_of
        case, reference = self.case, self.case.reference
        assert reference is not None
        while True:
            assume = {n: outcome for n, outcome in case.request.assume.items() if n not in least}
            graph = graph_of(self.pipeline.steps, assume) if assume != case.request.assume else self.graph
            least |= graph.between(least)
            found = selection_of(least, graph)
            request = replace(case.request, assume=assume)
            more = {name for name, _ in unusable(found, request, self.pipeline, reference.record)}
            more |= self._closed(found, assume, reference.record)
            more |= self._items_anew(least)
            if not more:
                break
            least |= more
        names = written_as(found.steps, self.pipeline, graph)
        lines = [f"select: [{', '.join(map(quoted, names))}]"]
        if case.request.exclude:
            lines.append("exclude: []")
        if len(found.pieces) > 1 and not case.request.islands:
            lines.append("islands: allow")
        if assume != case.request.assume:
            left = ", ".join(f"{quoted(name)}: {word(outcome)}" for name, outcome in assume.items())
            lines.append(f"assume: {{{left}}}")
        for run in filter(None, (self.case.today.past.run(id) for id, _ in reference.rejected)):
            if self._closed(found, assume, run) and not list(unusable(found, request, self.pipeline, run)):
                lines.append(f"reference: {reference.record.id}")  # or that run would be chosen
                break
        return Remedy("select", "\n".join(lines), tuple(n for n in found.steps if n not in self.selection))

    def _closed(self, selection: Selection, assume: Mapping[str, bool], record: RunRecord) -> set[str]:
        """Return the conditions before a selection that keep a part of it from running, as assumed or as they were."""
        found = set()
        for name in selection.steps:
            branch = self.pipeline.steps[name].branch
            if branch is not None and branch.condition in selection.frontier:
                ended = record.steps.get(branch.condition)
                if assume.get(branch.condition, ended.taken if ended else None) is not branch.outcome:
                    found.add(branch.condition)
        return found

    def _items_anew(self, least: set[str]) -> set[str]:
        """Return the rest of the fan-outs whose axes are computed again: none of their items can be named before."""
        steps = self.pipeline.steps
        anew = {fan for n in least for fan, _ in steps[n].within if (f := steps[fan].foreach) and f.reads & least}
        return {n for n, s in steps.items() if n in anew or any(fan in anew for fan, _ in s.within)} - least

    # gates

    @cached_property
    def branches(self) -> dict[str, dict[bool, list[str]]]:
        """The selected steps behind each outcome of each condition."""
        found: dict[str, dict[bool, list[str]]] = {}
        for name in self.selection.steps:
            if branch := self.pipeline.steps[name].branch:
                found.setdefault(branch.condition, {True: [], False: []})[branch.outcome].append(name)
        return found

    def _gates(self) -> Iterator[GateReport]:
        for name, decision in self.decided.decisions.items():
            step = self.pipeline.steps[name]
            assumed = name in self.case.request.assume
            gates = self._gates_of(name)
            for gate in gates:
                yield self._report(name, "assumed" if assumed else decision.name, gate)
            if gates:
                continue
            if assumed and name in self.frontier:
                yield self._report(name, "assumed", self._assumed(name))
            elif step.kind == "condition" and name in self.selection and isinstance(decision, Run):
                yield self._report(name, decision.name, Gate(name, "if", False, decision.outcome), was=self._was(name))

    def _was(self, name: str) -> bool | None:
        ended = self.case.reference.record.steps.get(name) if self.case.reference else None
        return ended.taken if ended else None

    def _assumed(self, name: str) -> Gate:
        return Gate(name, "if", bool(self._was(name)), self.case.request.assume[name])

    def _report(self, name: str, decision: str, gate: Gate, was: bool | Any | None = ...) -> GateReport:
        branches = self.branches.get(name, {True: [], False: []})
        return GateReport(
            name, gate.field, decision, gate.was if was is ... else was, gate.now, gate.values,
            tuple(branches[True]), tuple(branches[False]), gate.assumed,
        )  # fmt: skip


def gate_text(gate: Gate) -> str:
    """Return what a gate decided and what it would decide today, in one sentence without its end."""
    if gate.field == "approval":
        return f"{gate.step} was {gate.values[0][1]}; today it asks for something else"
    if gate.field == "gate":
        return f"{gate.step} {trigger_text(gate.was, gate.now, gate.values[0][2])}"
    changed = [(n, then, now) for n, then, now in gate.values if then != now]
    still = [(n, now) for n, then, now in gate.values if then == now]
    then = f" at {', '.join(f'{n} {then}' for n, then, _ in changed)}" if changed else ""
    at = f"at {', '.join(f'{n} {now}' for n, _, now in changed)} " if changed else ""
    fixed = f"with {', '.join(f'{n} {now}' for n, now in still)} " if still else ""
    name = gate.step if gate.field == "if" else f"`when` of {gate.step}"
    was = f"{'assumed ' if gate.assumed else ''}{word(gate.was)}"
    if gate.now is None:
        return f"{name} was {was}{then}; what it would be today is not known"
    return f"{name} was {was}{then}; {at}{fixed}it would be {word(gate.now)}"


def trigger_text(was: bool, now: bool | None, why: str) -> str:
    """Return what the steps before a step let it do then and today."""
    then = "ran there" if was else "did not run there"
    if now is None:
        return f"{then}; whether it would run today is not known: {why}"
    return f"{then}; today it would {'run' if now else 'not run'}: {why}"


def _shortened(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the findings, each long selection with the first of those that have it: it is the way out of all of them."""
    given: set[str] = set()
    for finding in findings:
        left = [r for r in finding.remedies if not (r.kind == "select" and len(r.paste) > _LONG and r.paste in given)]
        given |= {remedy.paste for remedy in finding.remedies}
        yield finding if len(left) == len(finding.remedies) else replace(finding, remedies=tuple(left))


_LONG = 400  # characters
_MANY = 3  # steps that differ for one reason and have a finding each; more of them share one
_REMOVE = "remove from `params`"


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


def _accept(causes: Iterable[tuple[str, str]]) -> Remedy:
    entries = (f'{{step: {quoted(step)}, cause: {cause[:9]}, reason: "..."}}' for step, cause in causes)
    return Remedy("accept", f"accept: [{', '.join(entries)}]")


def _listed(names: Iterable[str], limit: int = 10) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def are(names: Sequence[str]) -> str:
    """Return the verb for so many names."""
    return "is" if len(names) == 1 else "are"
