"""Earlier results that a selection depends on x today -> Verdict: would each step do the same again, with the proof.

In topological order each step gets the bytes that its predecessors would have *today*: those that were consumed
then, where that is proven or accepted, or those that a stored success has. Where nothing proves what they would
be, all that reads them is stale too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from .case import NO_RUN, Case
from .causes import Cause, own_causes
from .expression import EvaluationError, Template
from .fingerprint import FORMAT as FINGERPRINT_FORMAT
from .fingerprint import Before, Evaluated, evaluate, holds
from .frozen import frozen
from .gate import GOOD
from .lineage import Lineage, Made, sources
from .pipeline import Step, relative
from .record import RunRecord, StepEnded
from .starts import Gate, Starts
from .values import alike, canonical, digest_of, plain

SOUND = ("same", "same-by-evidence")  # the others: differs-by-evidence, stale, unknown


@frozen
class Verdict:
    """Whether an earlier result is what the step would make today."""

    word: str
    causes: tuple[Cause, ...] = ()
    cause: str = ""  # digest of the causes, bound to what the step is now
    evidence: str = ""  # the run that proves it, for a verdict by evidence
    maker: str = ""  # the step of that run, where it is an equal step of another name
    accepted: bool = False

    @property
    def sound(self) -> bool:
        return self.word in SOUND or self.accepted


SAME = Verdict("same")


@dataclass
class Standing:
    """The verdicts on all that a selection depends on, and the gates that were asked again."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    gates: dict[str, tuple[Gate, ...]] = field(default_factory=dict)
    skipped: dict[str, frozenset[str]] = field(default_factory=dict)  # step that stays skipped -> what skips it


def standing(case: Case) -> Standing:
    """Return the verdict of every step whose earlier result the selection depends on, up to the roots."""
    if case.reference is None:
        return Standing()
    return _Judge(case, case.reference.record).judge()


class _Judge:
    def __init__(self, case: Case, record: RunRecord) -> None:
        self.case, self.today, self.record = case, case.today, record
        self.steps, self.frontier = case.pipeline.steps, frozenset(case.selection.frontier)
        lineage = Lineage(case.today.past)
        self.sources = sources(case.selection, self.steps, record, case.request.assume, lineage)
        self.now: dict[str, Before | None] = {}  # what each step would leave today; None where nothing proves it
        self.out = Standing()
        self.starts = Starts(case, record, self.now)
        self.reported: set[str] = set()  # steps of which a finding is made
        self.own: dict[tuple[str, int], tuple[str, tuple[Cause, ...]]] = {}  # what `own_causes` has said

    def judge(self) -> Standing:
        for name in self.case.selection.closure:
            step, found = self.steps[name], self.sources.made[name]
            if name in self.case.request.assume:
                self._keep(name, Before("succeeded", {}, self.case.request.assume[name]), SAME)
            elif not found or (found[0].ended.status == "not_run" and name not in self.frontier):
                self._absent(step)  # the run ended before its turn
            else:
                self._judge(step, found)
                self._ask(step, found[0])
            if self.now[name] is None:
                self.starts.unsettled.setdefault(name, _unsettled(self.out.verdicts[name]))
        return self.out

    def _keep(self, name: str, now: Before | None, verdict: Verdict) -> None:
        now, verdict = self._from_elsewhere(name, now, verdict)
        self.now[name] = now
        self.out.verdicts[name] = verdict

    def _from_elsewhere(self, name: str, now: Before | None, verdict: Verdict) -> tuple[Before | None, Verdict]:
        """What was made outside the sandbox in another checkout is not known to be what this one would make.

        A result of this checkout, or of the sandbox, with the same content proves it none the less.
        """
        results = [] if name in self.case.request.assume else [made.ended for made in self.sources.made[name]]
        places = sorted({place for ended in results if (place := self.today.past.elsewhere(ended))})
        if not places or verdict.word == "same-by-evidence":
            return now, verdict
        found = results[0]
        if verdict.word == "same":
            for success in self.today.past.successes(found.fingerprint):
                if content(success) == content(found):
                    return now, Verdict("same-by-evidence", evidence=success.produced_by)
        causes = (*(Cause("env", "checkout", place, "this one") for place in places), *verdict.causes)
        mark = _mark([name, "checkout", places, found.fingerprint, verdict.cause])
        unknown = Verdict("unknown", causes, mark, accepted=self.case.accepts(name, mark))
        return (found.before() if unknown.accepted else None), unknown

    def _ask(self, step: Step, made: Made) -> None:
        """Ask what let the step start, or kept it from that; where it decides otherwise, nobody knows what would be left."""
        verdict = self.out.verdicts[step.name]
        if made.ended.status == "skipped" and (by := self.starts.skipped_by(step)) is not None:
            self.out.skipped[step.name] = by
        known = self.reported if verdict is SAME else {*self.reported, *roots(verdict.causes)}
        asked = self.starts.asked(step, made, known)
        if not all(gate.holds for gate in asked):
            self.now[step.name] = None
        gates = (*self.out.gates.get(step.name, ()), *asked)
        if gates:
            self.out.gates[step.name] = gates
        differing = [gate for gate in gates if not gate.holds]
        if differing:
            self.starts.unsettled[step.name] = "may do otherwise today"
        by_gate = step.kind in ("condition", "approval")  # the finding is on their gate
        unsound = not verdict.sound and step.name in self.frontier and not by_gate
        if differing or unsound:
            self.reported.add(step.name)

    # a step that was no part of the reference run

    def _absent(self, step: Step) -> None:
        """Find out what a step that nothing reused was made from would leave today: it is new, or its run is gone."""
        if step.name in self.sources.lost:
            cause = Cause("input", step.name, "the run that made it is gone", "")
            self._keep(step.name, None, Verdict("unknown", (cause,), _mark([step.name, "gone"])))
            return
        self._keep(step.name, self._would_leave(step), SAME)
        if self.now[step.name] is None:
            self.starts.unsettled[step.name] = "never ran"

    def _would_leave(self, step: Step) -> Before | None:
        kept = self.starts.kept(step)
        if kept != "":
            return None if kept is None else Before(kept)
        evaluated, _ = self._evaluated(step)
        if evaluated is None:
            return None
        if step.kind == "condition":
            return Before("succeeded", {}, holds(evaluated.own["if"]))
        if step.joins:
            return Before("succeeded", evaluated.made)
        success = self.today.past.success(evaluated.fingerprint) if step.has_process else None
        return success.before() if success else None

    def _evaluated(self, step: Step) -> tuple[Evaluated | None, tuple[Cause, ...]]:
        """Return the step with the values of today, or why there are none."""
        if step.deferred or any(self.now.get(name) is None for name in step.reads):
            return None, ()
        before = {name: b for name in step.reads if (b := self.now[name]) is not None}
        today = self.today
        try:
            return evaluate(step, today.pipeline, today.params, before, today.world, NO_RUN), ()
        except EvaluationError as error:
            return None, (Cause("input", str(error)),)

    # a step that has a result

    def _judge(self, step: Step, variants: list[Made]) -> None:
        made = variants[0]
        found = made.ended
        if found.assumed:
            return self._assumed_then(step, made)
        if not found.fingerprint:
            return self._keep(step.name, Before(found.status), SAME)
        if step.deferred:
            cause = Cause("input", "items", "what they were computed from is gone", "")
            verdict = self._verdict("unknown", step, made, (cause,), "")
            return self._keep(step.name, found.before() if verdict.accepted else None, verdict)
        if len(variants) == 1 and found.usable and self._untouched(step, made):
            if step.kind == "condition":
                self._gate(step, made, found.taken, SAME)
            return self._keep(step.name, found.before(), SAME)
        evaluated, failure = self._evaluated(step)
        if evaluated is not None and step.kind == "condition":
            return self._condition(step, variants, evaluated)
        if evaluated is not None:
            same = [one.ended for one in variants if one.ended.fingerprint == evaluated.fingerprint]
            good = next((e for e in same if e.usable), None)
            if good is not None and (good is found or content(good) == content(found)):
                return self._keep(step.name, found.before(), SAME)
            if self._by_evidence(step, made, evaluated, good):
                return None
            if same and same[0] is found:  # it failed there, and nothing shows that it would do otherwise
                return self._keep(step.name, found.before(), SAME)
        self._stale(step, variants, failure)
        return None

    def _untouched(self, step: Step, made: Made) -> bool:
        """Whether nothing that the fingerprint is made of can differ, so that it need not be computed.

        The definition is that of the run, the bytes that would be read are those that were read, and params, code
        and runtime are equal. Saying no is always right; it only costs the evaluation.
        """
        ended, record, today = made.ended, made.record, self.today
        recipe = ended.recipe
        if (
            record is None
            or record.started.definition != today.pipeline.digest
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
        return {name for name, _, _, _ in ended.reads} == step.reads and self._reads_the_same(ended)

    def _reads_the_same(self, ended: StepEnded) -> bool:
        """Whether the bytes that a result was made from are those that its predecessors would leave today."""
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

    def _by_evidence(self, step: Step, made: Made, evaluated: Evaluated, newest: StepEnded | None) -> bool:
        """Judge by what stored successes of today's fingerprint made, if there is one."""
        ended = made.ended
        wanted = content(ended) if ended.usable else None
        for success in self.today.past.successes(evaluated.fingerprint):
            newest = newest or success
            if content(success) == wanted:
                verdict = Verdict("same-by-evidence", evidence=success.produced_by)
                self._keep(step.name, ended.before(), verdict)
                return True
        if newest is None:
            return False
        causes = self._causes(step, made)
        verdict = self._verdict("differs-by-evidence", step, made, causes, newest.produced_by)
        verdict = replace(verdict, maker="" if newest.step == step.name else newest.step)
        self._keep(step.name, ended.before() if verdict.accepted else newest.before(), verdict)
        return True

    # conditions

    def _condition(self, step: Step, variants: list[Made], evaluated: Evaluated) -> None:
        """Settled here and now; its fingerprint is its outcome."""
        made = variants[0]
        outcome = holds(evaluated.own["if"])
        if all(one.ended.taken is outcome for one in variants):
            self._gate(step, made, outcome, SAME)
            return self._keep(step.name, made.ended.before(), SAME)
        verdict = self._verdict("stale", step, made, self._causes(step, made), "")
        self._gate(step, made, outcome, verdict)
        now = made.ended.before() if verdict.accepted else Before("succeeded", {}, outcome, made.ended.produced_by)
        self._keep(step.name, now, verdict)
        return None

    def _assumed_then(self, step: Step, made: Made) -> None:
        """The request of that run gave the outcome: only an evaluation shows whether the condition has it."""
        was = bool(made.ended.taken)
        evaluated, failure = self._evaluated(step)
        outcome = holds(evaluated.own["if"]) if evaluated is not None else None
        if outcome is was:
            self._gate(step, made, outcome, SAME)
            return self._keep(step.name, made.ended.before(), SAME)
        cause = _mark([step.name, "assumed", was, outcome, [c.to_json() for c in failure]])
        accepted = self.case.accepts(step.name, cause)
        self._gate(step, made, outcome, Verdict("same", cause=cause, accepted=accepted))
        now = Before("succeeded", {}, outcome) if outcome is not None else None
        return self._keep(step.name, made.ended.before() if accepted else now, SAME)

    def _gate(self, step: Step, made: Made, now: bool | None, verdict: Verdict) -> None:
        templates = [t for t in step.own["if"] if isinstance(t, Template)]
        ended = made.ended
        was = bool(ended.taken)
        self.out.gates[step.name] = (
            Gate(
                step.name, "if", was, now, self.starts.read_values(templates, made), verdict.cause, verdict.accepted,
                differs=now is not was, assumed=ended.assumed,
            ),
        )  # fmt: skip

    def _asked_again(self, step: Step, ended: StepEnded, verdict: Verdict) -> None:
        """What was approved is not what would be asked today: nobody knows how that would be decided."""
        by = ended.outputs.get("by", {}).get("value", "")
        values = (("approval", f"approved by {by}" if by else "approved", "asked again"),)
        gate = Gate(step.name, "approval", True, None, values, verdict.cause, verdict.accepted, differs=True)
        self.out.gates[step.name] = (gate,)

    # what differs

    def _stale(self, step: Step, variants: list[Made], failure: tuple[Cause, ...]) -> None:
        made = variants[0]
        causes: list[Cause] = [*failure]
        for one in variants:
            causes += self._causes(step, one)
        causes = causes or [Cause("code", "definition")]
        unknown = any(q in self.out.verdicts and self.out.verdicts[q].word == "unknown" for q in step.reads)
        word = "unknown" if unknown else "stale"
        verdict = self._verdict(word, step, made, tuple(dict.fromkeys(causes)), "", variants[1:])
        if step.kind == "condition":
            self._gate(step, made, None, verdict)
        if step.kind == "approval":
            self._asked_again(step, made.ended, verdict)
        self._keep(step.name, made.ended.before() if verdict.accepted else None, verdict)

    def _own(self, step: Step, made: Made) -> tuple[str, tuple[Cause, ...]]:
        key = (step.name, id(made))  # `made` lives as long as this does
        if key not in self.own:
            self.own[key] = own_causes(step, made, self.today)
        return self.own[key]

    def _causes(self, step: Step, made: Made) -> tuple[Cause, ...]:
        """Return why `step` would not make its result again: its own causes, and the steps above that differ."""
        _, causes = self._own(step, made)
        return _told_once((*causes, *self._causes_above(made), *self._causes_unread(step, made)), set())

    def _causes_unread(self, step: Step, made: Made) -> Iterator[Cause]:
        """Yield the steps that had left nothing to read and would leave something today, or the other way."""
        read = {name for name, *_ in made.ended.reads}
        unread = sorted(step.reads - read)
        consumed = made.consumed(unread)
        for source in unread if made.record and step.kind != "foreach" else ():
            if source not in consumed and source not in step.unguarded:  # those, and items, are causes of its own
                now = self.now.get(source)
                yield Cause("upstream", source, "none", now.status if now else "not known")
        for source, then in consumed.items():
            now = self.now.get(source)
            if now is None:
                gates = self.out.gates.get(source, ())
                runs = any(gate.differs and gate.now is True for gate in gates)
                today = "would run" if runs else "not known"
                yield Cause("upstream", source, then.status, today, self.out.verdicts[source].causes)
            elif (now.status in GOOD) is not (then.status in GOOD):
                yield Cause("upstream", source, then.status, now.status)
            elif _left(now) != _left(then):
                verdict = self.out.verdicts[source]
                yield Cause("upstream", source, causes=() if verdict.sound else verdict.causes)

    def _causes_above(self, made: Made) -> list[Cause]:
        consumed = {(read[0], read[1]): read[2] for read in made.ended.reads}
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
                left = now.outputs.get(output)
                today = digest_of(now.taken) if output == "taken" else left.identity if left else "none"
                if name == source and today != digest:
                    above.append(Cause("upstream", source, digest, today, causes_above))
                    break
        return above

    def _verdict(
        self,
        word: str,
        step: Step,
        made: Made,
        causes: tuple[Cause, ...],
        evidence: str,
        others: Iterable[Made] = (),
    ) -> Verdict:
        fingerprint, own = self._own(step, made)
        marks: list[Any] = [made.ended.fingerprint, fingerprint] if own else []
        marks += [other.ended.fingerprint for other in others]
        marks += [
            self.out.verdicts[c.name].cause for c in causes if c.kind == "upstream" and c.name in self.out.verdicts
        ]
        if word == "differs-by-evidence":
            marks.append(evidence)
        cause = _mark([word, marks, [c.to_json() for c in causes]])
        return Verdict(word, causes, cause, evidence, accepted=self.case.accepts(step.name, cause))


def _left(before: Before) -> tuple[object, ...]:
    return before.taken, {name: made.identity for name, made in before.outputs.items()}


def _unsettled(verdict: Verdict) -> str:
    """Say why it is not known what a step would leave today."""
    if verdict.word in SOUND:
        return "may do otherwise today"
    return f"is {verdict.word} ({'; '.join(map(str, verdict.causes))})"


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
