"""Would a step of the reference run start today? Each gate in front of it is asked again.

A step has a list of gates: its trigger (what the steps before it and its branch allow) and its `when`. Each has a value
of then and one of today. A finding is made of those that decide that the step would start today although it did not, or
that it would not, or that nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from .case import Case
from .causes import shown
from .expression import Template
from .fingerprint import Before, when_holds, when_reads
from .frozen import changed, frozen
from .gate import GOOD, Closed, gate, skips
from .lineage import Made
from .params import widen
from .pipeline import Step
from .record import RunRecord
from .values import alike, digest_of, plain

IDLE = ("skipped", "upstream_failed", "not_run")  # statuses of a step that has not started
_TODAY: Mapping[str, Any] = {}  # no other values of parameters


@frozen
class Gate:
    """One thing that decides whether a step starts, or a condition's outcome: its value of then and that of today."""

    step: str
    field: str  # if, when, gate (the trigger) or approval
    was: bool
    now: bool | None  # None: its values are not known
    values: tuple[tuple[str, str, str], ...] = ()  # what it reads, then, now; of a trigger ("gate", "", why)
    cause: str = ""  # digest of what differs, to accept it
    accepted: bool = False
    differs: bool = False  # whether it decides that the step would do otherwise today, or that nobody knows
    by: tuple[str, ...] = ()  # steps that would have to run for it to be known
    assumed: bool = False  # whether the outcome of then was given by the request
    params: tuple[str, ...] = ()  # whose values of then alone would make it decide as it did

    @property
    def holds(self) -> bool:
        """Whether the step would do the same as far as this gate decides it, or that was accepted."""
        return self.accepted or not self.differs


@frozen
class Trigger:
    """Whether the steps before a step let it start today."""

    open: bool | None  # None: not known
    why: str = ""
    by: tuple[str, ...] = ()
    status: str = ""  # of a step that they keep from starting


class Starts:
    """Asks the gates of the steps above a selection; `now` is what each step before them would leave today."""

    def __init__(self, case: Case, record: RunRecord, now: Mapping[str, Before | None]) -> None:
        self.case, self.record, self.now = case, record, now
        self.steps = case.pipeline.steps
        self.tolerated = frozenset(n for n, s in self.steps.items() if s.on_failure == "continue")
        self.unsettled: dict[str, str] = {}  # step whose result or outcome of today is not known -> why

    def kept(self, step: Step) -> str | None:
        """Return how a step that has no result would end without a start today, "" if it would start, None if unknown."""
        trigger, when = self._trigger(step, frozenset()), self._when_today(step)
        if when is False:
            return "skipped"
        if trigger.open is False:
            return trigger.status
        return "" if trigger.open and when else None

    def skipped_by(self, step: Step) -> frozenset[str] | None:
        """Return the steps that keep a step from starting today, whatever the others before it do; None if none does."""
        ends, taken = {}, {}
        for name in step.before:
            before = self.now.get(name)
            if before is not None and name not in self.unsettled:
                ends[name], taken[name] = before.status, before.taken
        if found := skips(step, ends, taken):
            return frozenset({found.by})
        if self._when_today(step) is not False:
            return None
        return frozenset(when_reads(step))

    def asked(self, step: Step, made: Made, reported: Set[str]) -> tuple[Gate, ...]:
        """Return the gates that are to be shown: each `when` with values, and each gate that decides otherwise today.

        `reported` are the steps of which a finding is made anyway: what they leave open is not reported again.
        """
        ended = made.ended
        was = ended.status not in IDLE
        if self._plain(step, was):
            return ()
        trigger, when = self._trigger(step, reported), self._when_today(step)
        now = False if trigger.open is False or when is False else trigger.open and when
        by_when = ended.status == "skipped" and not ended.by
        gates = []
        if not isinstance(step.when, bool) and not step.deferred and (was or by_when):
            values, params = self.read_values([step.when], made), self._params_behind(step, was, when)
            gates.append(Gate(step.name, "when", was, when, values, params=params))
        elif step.when is False and (was or by_when):
            gates.append(Gate(step.name, "gate", was, False, (("gate", "", "`when` is false"),)))
        elif by_when:
            gates.append(Gate(step.name, "gate", False, when, (("gate", "", "nothing skips it"),)))
        if trigger.open is not True or not (was or by_when):
            values = ((step.branch.condition if step.branch else "gate", "", trigger.why or "nothing skips it"),)
            today = trigger.open if was or by_when else now
            gates.append(Gate(step.name, "gate", was or by_when, today, values, by=trigger.by))
        status = "skipped" if when is False else trigger.status
        if not was and now is False and {status, ended.status} == {"skipped", "upstream_failed"}:
            # Neither starts, but what reads it tells them apart.
            why = f"{trigger.why or '`when` is false'}, so it would be {status}, not {ended.status}"
            return self._differing(step, [Gate(step.name, "gate", False, False, (("gate", "", why),))], True)
        if now is was:
            return tuple(gate for gate in gates if gate.field == "when")
        return self._differing(step, gates, was)

    def _differing(self, step: Step, gates: list[Gate], was: bool) -> tuple[Gate, ...]:
        wrong = [gate.now is not True if was else gate.now is not False for gate in gates]
        said = [[gate.field, gate.was, gate.now, gate.values] for gate, bad in zip(gates, wrong, strict=True) if bad]
        cause = "c" + digest_of([step.name, "starts", was, said]).removeprefix("sha256:")
        accepted = self.case.accepts(step.name, cause)
        return tuple(
            changed(gate, cause=cause, accepted=accepted, differs=True) if bad else gate
            for gate, bad in zip(gates, wrong, strict=True)
            if bad or gate.field == "when"
        )

    def _plain(self, step: Step, was: bool) -> bool:
        """Whether the step has started, and nothing stands before it that could keep it from that today."""
        if not was or step.when is not True or step.branch:
            return False
        if self.unsettled and any(name in self.unsettled for name in step.before):
            return False
        for name in step.before:
            before = self.now.get(name)
            if before is None or before.status not in GOOD:
                return False
        return True

    def _trigger(self, step: Step, reported: Set[str]) -> Trigger:
        """Return what the steps before `step` and its branch decide; a step in `reported` is taken to do as it did."""
        ends: dict[str, str] = {}
        taken: dict[str, bool | None] = {}
        unknown = []
        for name in sorted(step.before):
            before = self.now.get(name)
            if before is None or name in self.unsettled:
                if name not in reported:
                    unknown.append(name)
                ends[name] = "succeeded"
                taken[name] = step.branch.outcome if step.branch and step.branch.condition == name else None
            else:
                ends[name], taken[name] = before.status, before.taken
        found = gate(step, ends, taken, self.tolerated)
        if isinstance(found, Closed):
            return Trigger(False, found.reason, status=found.status)
        if unknown:
            why = "; ".join(f"{name} {self.unsettled.get(name, 'never ran')}" for name in unknown)
            return Trigger(None, why, tuple(unknown))
        return Trigger(True)

    def _when_today(self, step: Step, params: Mapping[str, Any] = _TODAY) -> bool | None:
        if step.deferred:
            return step.when is not False  # it is judged item by item
        today = self.case.today
        known = {name: before for name in when_reads(step) if (before := self.now.get(name))}
        return when_holds(step, today.pipeline, {**today.params, **params}, known, today.world)

    def _params_behind(self, step: Step, was: bool, today: bool | None) -> tuple[str, ...]:
        """Return the parameters whose values of the reference run would make a `when` decide as it did there."""
        then = self.record.started.params
        declared = self.case.pipeline.params
        read = (
            {r.path[1] for r in step.when.refs() if r.path[0] == "params"} if isinstance(step.when, Template) else set()
        )
        changed = sorted(n for n in read if n in then and not alike(then[n], plain(self.case.today.params[n])))
        if today is was or not changed:
            return ()
        old = {name: widen(declared[name], then[name]) for name in changed}
        return tuple(changed) if self._when_today(step, old) is was else ()

    def read_values(self, templates: Iterable[Template], made: Made) -> tuple[tuple[str, str, str], ...]:
        """Return what expressions read: name, value of then, value of today."""
        out: dict[str, tuple[str, str, str]] = {}
        ended = made.ended
        for ref in (ref for template in templates for ref in template.refs()):
            match ref.path:
                case ("params", name):
                    then, now = self.record.started.params.get(name), self.case.today.params.get(name)
                    out[name] = (name, shown(ended.params.get(name, then), True), shown(now, True))
                case ("steps", name, "outputs", output):
                    past = made.record.steps.get(name) if made.record else None
                    before = self.now.get(name)
                    produced = before.outputs.get(output) if before else None
                    left = past.outputs.get(output) if past else None
                    was = shown(left.get("value") if left else None, left is not None)
                    out[output] = (output, was, shown(produced.value, True) if produced else "?")
        if ended.assumed:  # it read nothing then
            return tuple((name, now, now) for name, _, now in out.values())
        return tuple(out.values())
