"""Earlier results that a selection stands on x today -> Verdict: would each step do the same again, with the proof.

In topological order each step gets the bytes that its predecessors would have *today*: those that were consumed
then, where that is proven or accepted, or those that a stored success has. Where nothing proves what they would
be, all that reads them is stale too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from .case import NO_RUN, Case
from .causes import Cause, own_causes, shown
from .expression import EvaluationError, Template
from .fingerprint import FORMAT as FINGERPRINT_FORMAT
from .fingerprint import Before, Evaluated, evaluate, holds, settle
from .frozen import frozen
from .gate import GOOD, Closed, Start, gate
from .pipeline import Step, relative
from .record import RunRecord, StepEnded
from .values import alike, canonical, digest_of, plain

SOUND = ("same", "same-by-evidence")  # the others: differs-by-evidence, stale, unknown


@frozen
class Verdict:
    """Whether an earlier result is what the step would make today."""

    word: str
    causes: tuple[Cause, ...] = ()
    cause: str = ""  # digest of the causes, bound to what the step is now
    evidence: str = ""  # the run that proves it, for a verdict by evidence
    accepted: bool = False

    @property
    def sound(self) -> bool:
        return self.word in SOUND or self.accepted


SAME = Verdict("same")


@frozen
class Gate:
    """A condition, `when` or approval in what is reused: what it decided then, and what it would decide today."""

    step: str
    field: str  # if, when, gate (what let it run) or approval
    was: bool
    now: bool | None  # None: its values are not known
    values: tuple[tuple[str, str, str], ...] = ()  # what it reads, then, now
    cause: str = ""  # digest of this difference, to accept it
    accepted: bool = False

    @property
    def holds(self) -> bool:
        """Whether it would decide the same today, or was accepted."""
        return self.now is self.was or self.accepted


@dataclass
class Standing:
    """The verdicts on all that a selection stands on."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)


def standing(case: Case) -> Standing:
    """Return the verdict of every step whose earlier result the selection stands on, up to the roots."""
    if case.reference is None:
        return Standing()
    return _Judge(case, case.reference.record).judge()


class _Judge:
    def __init__(self, case: Case, record: RunRecord) -> None:
        self.case, self.today, self.record = case, case.today, record
        self.steps = case.pipeline.steps
        self.now: dict[str, Before | None] = {}  # what each step would leave today; None where nothing proves it
        self.out = Standing()
        self.tolerated = frozenset(n for n, s in self.steps.items() if s.on_failure == "continue")
        self.own: dict[tuple[str, int], tuple[str, tuple[Cause, ...]]] = {}  # what `own_causes` has said
        self.skipped = False  # whether any step above would be skipped
        self.lost: set[str] = set()  # steps whose producing run is gone
        self.records: dict[str, RunRecord | None] = {record.id: record}
        self.holders: dict[int, RunRecord] = {}  # of each result, by its id: the run whose record has it

    def judge(self) -> Standing:
        self.taken = self._lineage()
        for name in self.case.selection.closure:
            step = self.steps[name]
            self._when(step)
            if name in self.case.request.assume:
                self._keep(name, Before("succeeded", {}, self.case.request.assume[name]), SAME)
            elif not self.taken[name]:
                self._not_consumed(name)
            else:
                self._judge(step, self.taken[name])
                self._opens(step, self.taken[name][0])
                gate = self.out.gates.get(name)
                if gate is not None and gate.field != "if" and not gate.holds:
                    self.now[name] = None  # it would be skipped today, or run: nobody knows what it would leave
        return self.out

    def _lineage(self) -> dict[str, list[StepEnded]]:
        """Return the results that were consumed on the way to the frontier; readers know which run's they were."""
        taken: dict[str, list[StepEnded]] = {n: [] for n in self.case.selection.closure}
        seen: set[tuple[str, str]] = set()
        records = self.records
        for name in self.case.selection.frontier:
            if name not in self.case.request.assume:
                ended = self.record.steps[name]
                taken[name].append(ended)
                self.holders[id(ended)] = self.record
                seen.add((name, ended.produced_by))
        for name in reversed(self.case.selection.closure):
            branch = self.steps[name].branch
            for ended in taken[name]:
                sources = [(source, run, True) for source, _, _, run in ended.reads]
                # Not read, but they let the step run, had to come before, or had left nothing to read.
                also = {*self.steps[name].needs, *([branch.condition] if branch else [])}
                also |= self.steps[name].reads - {read[0] for read in ended.reads}
                sources += [(source, ended.produced_by or self.record.id, False) for source in sorted(also)]
                for source, run, read in sources:
                    if (source, run) in seen or source not in taken:
                        continue
                    seen.add((source, run))
                    if run not in records:
                        records[run] = self.today.past.run(run)
                    record = records[run]
                    found = record.steps.get(source) if record else None
                    if found is None:  # it was made under another name; the run that consumed it has it under this one
                        record = self.holders.get(id(ended))
                        found = record.steps.get(source) if record else None
                    if found is not None and record is not None:
                        taken[source].append(found)
                        self.holders[id(found)] = record
                    elif read:
                        self.lost.add(source)
        return taken

    def _keep(self, name: str, now: Before | None, verdict: Verdict) -> None:
        self.now[name] = now
        self.skipped = self.skipped or (now is not None and now.status == "skipped")
        self.out.verdicts[name] = verdict

    def _not_consumed(self, name: str) -> None:
        """A step that nothing reused read: it only came before, or it is new."""
        if name in self.lost:
            cause = Cause("input", name, "the run that made it is gone", "")
            self._keep(name, None, Verdict("unknown", (cause,), _mark([name, "gone"])))
        else:
            self._keep(name, None, SAME)

    def _judge(self, step: Step, variants: list[StepEnded]) -> None:
        found = variants[0]
        if not found.fingerprint:
            return self._skipped(step, found)
        if step.deferred:
            cause = Cause("input", "items", "what they were computed from is gone", "")
            verdict = self._verdict("unknown", step, found, (cause,), "")
            return self._keep(step.name, found.before() if verdict.accepted else None, verdict)
        if len(variants) == 1 and self._untouched(step, found):
            if step.kind == "condition":
                self._gate(step, found, found.taken, SAME)
            return self._keep(step.name, found.before(), SAME)
        blocked = [q for q in sorted(step.reads) if self.now.get(q) is None]
        evaluated: Evaluated | None = None
        failure: tuple[Cause, ...] = ()
        if not blocked:
            before = {q: b for q in step.reads if (b := self.now[q]) is not None}
            try:
                evaluated = evaluate(step, self.today.pipeline, self.today.params, before, self.today.world, NO_RUN)
            except EvaluationError as error:
                failure = (Cause("input", str(error)),)
        if evaluated is not None and step.kind == "condition":
            return self._condition(step, variants, evaluated)
        if evaluated is not None:
            good = next((e for e in variants if e.fingerprint == evaluated.fingerprint), None)
            if good is found or (good is not None and content(good) == content(found)):
                return self._keep(step.name, found.before(), SAME)
            if self._by_evidence(step, found, evaluated, good):
                return None
        self._stale(step, variants, failure)
        return None

    def _untouched(self, step: Step, ended: StepEnded) -> bool:
        """Whether nothing that the fingerprint is made of can differ, so that it need not be computed.

        The definition is that of the run, the bytes that would be read are those that were read, and params, code
        and runtime are equal. Saying no is always right; it only costs the evaluation.
        """
        origin = self.records.get(ended.produced_by)
        recipe, today = ended.recipe, self.today
        if (
            origin is None
            or origin.started.definition != today.pipeline.digest
            or recipe.get("format") != FINGERPRINT_FORMAT
        ):
            return False
        if (
            step.joins
            or step.axis_reads
            or (step.has_process and recipe.get("runtime") != today.world.runtime_of(step))
        ):
            return False  # a join is cheaper to do again than to reason about
        if not all(isinstance(tree, Template) for tree in step.inputs.values()):
            return False  # a text may be the name of a file, today or then
        for name in step.params:
            if name not in ended.params or today.pipeline.params[name].type.name in ("file", "dir"):
                return False
            if not alike(today.params[name], ended.params[name]):
                return False
        if step.code or recipe.get("code"):
            base = step.base
            code = [[relative(place, base), *today.world.code[place][::-1]] for place in step.code]
            if [list(entry) for entry in recipe.get("code", ())] != code:
                return False
        read = {name for name, _, _, _ in ended.reads}
        if read != step.reads:
            return False
        for name, output, digest, run in ended.reads:
            now = self.now.get(name)
            if now is None or now.status not in GOOD:
                return False
            made = now.outputs.get(output)
            if output == "taken":
                if now.taken is None or digest_of(now.taken) != digest:
                    return False
            elif made is None or made.run != run or made.identity != digest:
                return False
        return True

    def _by_evidence(self, step: Step, ended: StepEnded, evaluated: Evaluated, newest: StepEnded | None) -> bool:
        """Judge by what stored successes of today's fingerprint made, if there is one."""
        wanted = content(ended)
        for success in self.today.past.successes(evaluated.fingerprint):
            newest = newest or success
            if content(success) == wanted:
                verdict = Verdict("same-by-evidence", evidence=success.produced_by)
                self._keep(step.name, ended.before(), verdict)
                return True
        if newest is None:
            return False
        causes = self._causes(step, ended)
        verdict = self._verdict("differs-by-evidence", step, ended, causes, newest.produced_by)
        self._keep(step.name, ended.before() if verdict.accepted else newest.before(), verdict)
        return True

    def _condition(self, step: Step, variants: list[StepEnded], evaluated: Evaluated) -> None:
        """Settled here and now; its fingerprint is its outcome."""
        found = variants[0]
        outcome = holds(evaluated.own["if"])
        if all(e.taken is outcome for e in variants):
            self._gate(step, found, outcome, SAME)
            return self._keep(step.name, found.before(), SAME)
        verdict = self._verdict("stale", step, found, self._causes(step, found), "")
        self._gate(step, found, outcome, verdict)
        now = found.before() if verdict.accepted else Before("succeeded", {}, outcome, found.produced_by)
        self._keep(step.name, now, verdict)
        return None

    def _skipped(self, step: Step, found: StepEnded) -> None:
        """A skipped step made nothing that could be stale; but what skipped it may decide otherwise today."""
        own = self.out.gates.get(step.name)
        if own is not None and not own.holds:
            cause = Cause("input", "`when`", "false", "not known" if own.now is None else "true")
            return self._keep(step.name, None, self._verdict("stale", step, found, (cause,), ""))
        by = self.out.gates.get(found.by)
        if by is not None and by.now is not by.was and not self.out.verdicts[found.by].sound:
            cause = Cause("upstream", found.by, causes=self.out.verdicts[found.by].causes)
            return self._keep(step.name, None, self._verdict("stale", step, found, (cause,), ""))
        return self._keep(step.name, Before("skipped"), SAME)

    def _stale(self, step: Step, variants: list[StepEnded], failure: tuple[Cause, ...]) -> None:
        causes: list[Cause] = [*failure]
        for ended in variants:
            causes += self._causes(step, ended)
        causes = causes or [Cause("code", "definition")]
        unknown = any(q in self.out.verdicts and self.out.verdicts[q].word == "unknown" for q in step.reads)
        verdict = self._verdict(
            "unknown" if unknown else "stale", step, variants[0], tuple(dict.fromkeys(causes)), "", variants[1:]
        )
        if step.kind == "condition":
            self._gate(step, variants[0], None, verdict)
        if step.kind == "approval":
            self._asked_again(step, variants[0], verdict)
        self._keep(step.name, variants[0].before() if verdict.accepted else None, verdict)

    def _own(self, step: Step, ended: StepEnded) -> tuple[str, tuple[Cause, ...]]:
        key = (step.name, id(ended))  # `ended` lives as long as this does
        if key not in self.own:
            self.own[key] = own_causes(step, ended, self.today, self.holders.get(id(ended)))
        return self.own[key]

    def _causes(self, step: Step, ended: StepEnded) -> tuple[Cause, ...]:
        """Return why `step` would not make `ended` again: its own causes, and the steps above that differ."""
        _, causes = self._own(step, ended)
        consumed = {(read[0], read[1]): read[2] for read in ended.reads}
        above = []
        for source in sorted({name for name, _ in consumed}):
            verdict = self.out.verdicts.get(source)
            if verdict is None:
                continue
            now = self.now.get(source)
            causes_above = verdict.causes if not verdict.sound else ()
            if now is None:
                above.append(Cause("upstream", source, causes=causes_above))
                continue
            for (name, output), digest in consumed.items():
                made = now.outputs.get(output)
                today = digest_of(now.taken) if output == "taken" else made.identity if made else "none"
                if name == source and today != digest:
                    above.append(Cause("upstream", source, digest, today, causes_above))
                    break
        return _told_once((*causes, *above), set())

    def _verdict(
        self,
        word: str,
        step: Step,
        ended: StepEnded,
        causes: tuple[Cause, ...],
        evidence: str,
        others: Iterable[StepEnded] = (),
    ) -> Verdict:
        fingerprint, own = self._own(step, ended)
        marks: list[Any] = [ended.fingerprint, fingerprint] if own else []
        marks += [other.fingerprint for other in others]
        marks += [
            self.out.verdicts[c.name].cause for c in causes if c.kind == "upstream" and c.name in self.out.verdicts
        ]
        if word == "differs-by-evidence":
            marks.append(evidence)
        cause = _mark([word, marks, [c.to_json() for c in causes]])
        return Verdict(word, causes, cause, evidence, self.case.accepts(step.name, cause))

    # gates

    def _opens(self, step: Step, ended: StepEnded) -> None:
        """What let the step run, or skipped it, is asked again: its branch, its predecessors, a constant `when`."""
        if step.name in self.out.gates or step.kind == "condition":
            return
        branch = step.branch.condition if step.branch else ""
        if not branch and step.when is True and ended.status != "skipped" and not self.skipped:
            return  # nothing that could skip it
        if any(self.now.get(q) is None or not self._steady(q) for q in step.before):
            return  # told of that one
        before = {q: b for q in step.before if (b := self.now[q]) is not None}
        found = gate(
            step, {q: b.status for q, b in before.items()}, {q: b.taken for q, b in before.items()}, self.tolerated
        )
        now = isinstance(found, Start) and step.when is not False
        was = ended.status != "skipped"
        if now is was or (isinstance(found, Closed) and found.status != "skipped"):
            return
        why = (
            found.reason
            if isinstance(found, Closed)
            else "`when` is false"
            if step.when is False
            else "nothing skips it"
        )
        cause = _mark([step.name, "opens", was, now, why])
        values = ((branch or "gate", "", why),)
        self.out.gates[step.name] = Gate(
            step.name, "gate", was, now, values, cause, self.case.accepts(step.name, cause)
        )

    def _steady(self, name: str) -> bool:
        verdict, found = self.out.verdicts.get(name), self.out.gates.get(name)
        return (verdict is None or verdict.sound) and (found is None or found.holds)

    def _gate(self, step: Step, ended: StepEnded, now: bool | None, verdict: Verdict) -> None:
        templates = [t for t in step.own["if"] if isinstance(t, Template)]
        self.out.gates[step.name] = Gate(
            step.name,
            "if",
            bool(ended.taken),
            now,
            self._read_values(templates, ended),
            verdict.cause,
            verdict.accepted,
        )

    def _asked_again(self, step: Step, ended: StepEnded, verdict: Verdict) -> None:
        """What was approved is not what would be asked today: nobody knows how that would be decided."""
        found = self.out.gates.get(step.name)
        if found is None or found.holds:
            by = ended.outputs.get("by", {}).get("value", "")
            values = (("approval", f"approved by {by}" if by else "approved", "asked again"),)
            self.out.gates[step.name] = Gate(step.name, "approval", True, None, values, verdict.cause, verdict.accepted)

    def _read_values(self, templates: Iterable[Template], ended: StepEnded) -> tuple[tuple[str, str, str], ...]:
        out: dict[str, tuple[str, str, str]] = {}
        made = {read[0]: read[3] for read in ended.reads}
        for ref in (ref for template in templates for ref in template.refs()):
            match ref.path:
                case ("params", name):
                    then, now = self.record.started.params.get(name), self.today.params.get(name)
                    was = ended.params.get(name, then)
                    out[name] = (name, shown(was, True), shown(now, True))
                case ("steps", name, "outputs", output):
                    record = self.today.past.run(made[name]) if name in made else None
                    past = record.steps.get(name) if record else None
                    then = past.outputs.get(output, {}).get("value") if past else None
                    before = self.now.get(name)
                    produced = before.outputs.get(output) if before else None
                    out[output] = (
                        output,
                        shown(then, past is not None),
                        shown(produced.value, True) if produced else "?",
                    )
        return tuple(out.values())

    def _when(self, step: Step) -> None:
        """A `when` above the selection is asked again with today's values."""
        if isinstance(step.when, bool) or step.deferred or not self.taken[step.name]:
            return
        ended = self.taken[step.name][0]
        if ended.status == "skipped" and ended.by:
            return
        was = ended.status != "skipped"
        names = {ref.path[1] for ref in step.when.refs() if ref.path[0] == "steps"}
        before = {q: b for q in names if (b := self.now.get(q)) is not None}
        now: bool | None = None
        if len(before) == len(names):
            try:
                now = bool(
                    settle(step.when, step, self.today.pipeline, self.today.params, before, self.today.world, NO_RUN)
                )
            except EvaluationError:
                now = None
        values = self._read_values([step.when], ended)
        cause = _mark([step.name, "when", was, now, values]) if now is not was else ""
        self.out.gates[step.name] = Gate(
            step.name, "when", was, now, values, cause, self.case.accepts(step.name, cause) if cause else False
        )


def content(ended: StepEnded) -> str:
    """Return what a step left, by content, as one text that can be compared."""
    found = {
        n: [o["type"], o.get("digest", ""), plain(o.get("mark", o.get("value")))] for n, o in ended.outputs.items()
    }
    return canonical(found)


def _mark(value: Any) -> str:
    return "c" + digest_of(value).removeprefix("sha256:")


def _told_once(causes: Iterable[Cause], told: set[str]) -> tuple[Cause, ...]:
    """Say only once what is behind a step: repeated on each way down to it, the text would double with every diamond."""
    out = []
    for cause in causes:
        if cause.kind == "upstream" and cause.name in told:
            out.append(replace(cause, causes=()))
            continue
        told |= {cause.name} if cause.kind == "upstream" else set()
        out.append(replace(cause, causes=_told_once(cause.causes, told)) if cause.causes else cause)
    return tuple(out)


def roots(causes: Iterable[Cause]) -> Iterator[str]:
    """Yield the steps above whose staleness made these causes, the nearest first."""
    for cause in causes:
        if cause.kind == "upstream":
            yield cause.name
            yield from roots(cause.causes)
