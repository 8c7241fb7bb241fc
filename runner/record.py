"""Event types, and RunRecord = the fold of a run's events; their JSON form is the journal.

What happened is told by events alone. Reports, listings and later plans are made from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, field, fields, replace
from typing import Any, ClassVar

from .fingerprint import Before, Produced
from .frozen import frozen
from .gate import GOOD

FORMAT = 2  # of a journal; from 2 on each line ends with its sum
NO_RESULT = frozenset({"foreach", "pipeline", "approval", "callback"})  # kinds whose success is good for one run only
HERE = "."  # as a checkout: the project that holds the store, wherever both are moved
UNFINISHED = frozenset({"running", "waiting", "stopping"})


@frozen(kw_only=True)
class Event:
    """Something that happened in a run; `at` is UTC seconds, for show only."""

    name: ClassVar[str]
    at: float = 0.0


@frozen(kw_only=True)
class RunStarted(Event):
    name: ClassVar[str] = "run_started"
    format: int = FORMAT
    run: str
    pipeline: str
    path: str  # of the pipeline's file
    definition: str  # digest of the pipeline
    request: Mapping[str, Any]  # as planned
    request_digest: str
    plan_digest: str
    params: Mapping[str, Any]
    sources: Mapping[str, str]
    reference: str = ""
    trial: bool = False
    title: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    decisions: Mapping[str, str] = field(default_factory=dict)  # step -> decision
    accepted: tuple[Mapping[str, str], ...] = ()
    workers: int = 1
    estimate: float = 0.0  # seconds that were expected
    finals: tuple[str, ...] = ()  # steps of `finally`
    number: int = 0  # of the run in its store: a later one has a higher number, whatever its clock says
    files: Mapping[str, str] = field(
        default_factory=dict
    )  # what a run that may wait was planned with: digests by location


@frozen(kw_only=True)
class StepStarted(Event):
    name: ClassVar[str] = "step_started"
    step: str
    attempt: int


@frozen(kw_only=True)
class AttemptFailed(Event):
    """An attempt that another one follows."""

    name: ClassVar[str] = "attempt_failed"
    step: str
    attempt: int
    cause: str
    message: str
    wait: float  # seconds until the next one


@frozen(kw_only=True)
class StepEnded(Event):
    name: ClassVar[str] = "step_ended"
    step: str
    status: str
    reason: str = ""
    by: str = ""  # the step that caused a skip or upstream failure
    cause: str = ""  # of a failure
    attempt: int = 0
    seconds: float = 0.0
    exit_code: int | None = None
    signal: str = ""
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    taken: bool | None = None
    fingerprint: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[tuple[str, str, str, str], ...] = ()  # step, output, digest, produced_by
    produced_by: str = ""
    reused_from: str = ""
    notes: tuple[str, ...] = ()
    tail: str = ""  # the end of what a failed step printed
    unsealed: str = ""  # why it could read and write what it does not declare
    checkout: str = ""  # of such a step: the project's folder, whose other files its result may depend on
    answered: float = 0.0  # UTC seconds, when a step that waited was answered; the run may have gone on much later

    @property
    def assumed(self) -> bool:
        """Whether it is the outcome of a condition that the request gave in place of the condition itself."""
        return self.status == "reused" and not self.reused_from

    @property
    def usable(self) -> bool:
        """Whether its outputs may stand for the step in another run."""
        return self.status in GOOD

    @property
    def is_result(self) -> bool:
        """Whether it is the success of a step that computed something, which another run may take."""
        return (
            self.status == "succeeded" and bool(self.fingerprint) and self.recipe.get("kind") not in NO_RESULT
            and (bool(self.outputs) or self.taken is None)
        )  # fmt: skip

    def elsewhere(self, checkout: str, private: bool) -> str:
        """Return the other checkout that this result belongs to, or "" where it may be taken in `checkout`.

        A result made in the sandbox may be taken anywhere. Records of earlier versions do not name a checkout: in a
        store that lies in this one (`private`) it was this one.
        """
        if not self.unsealed or not checkout:
            return ""
        if self.checkout not in ("", HERE):
            return "" if self.checkout == checkout else self.checkout
        holder = "the project that holds the store" if self.checkout else "a checkout that its record does not name"
        return "" if private else holder

    def before(self) -> Before:
        return Before(
            self.status, {k: Produced.of_json(v) for k, v in self.outputs.items()}, self.taken, self.produced_by
        )


@frozen(kw_only=True)
class StepWaiting(Event):
    """A step that waits for a person or for values from outside; no process is needed meanwhile."""

    name: ClassVar[str] = "step_waiting"
    step: str
    kind: str  # approval or callback
    message: str = ""
    approvers: tuple[str, ...] = ()  # empty: anyone who may write the store
    outputs: Mapping[str, Any] = field(default_factory=dict)  # values that are waited for: name -> type, items
    until: float = 0.0  # UTC seconds; 0 means for ever
    on_timeout: str = "fail"
    fingerprint: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[tuple[str, str, str, str], ...] = ()


@frozen(kw_only=True)
class ResultAwaited(Event):
    """A step whose result another attempt is making: it is taken from there, or made here if that fails."""

    name: ClassVar[str] = "result_awaited"
    step: str
    run: str = ""  # that makes it, as far as it can be told
    by: str = ""  # the step of this run that makes it


@frozen(kw_only=True)
class MessageRefused(Event):
    """A decision or a callback that was not taken; the step goes on waiting."""

    name: ClassVar[str] = "message_refused"
    step: str
    reason: str


@frozen(kw_only=True)
class RunWaiting(Event):
    """Nothing is left to do but to wait: the runner has ended, `runner resume` goes on."""

    name: ClassVar[str] = "run_waiting"
    run: str
    steps: Mapping[str, str]  # step -> kind
    seconds: float = 0.0  # that its runners have worked so far
    exit_code: int = 7


@frozen(kw_only=True)
class RunStopping(Event):
    name: ClassVar[str] = "run_stopping"
    reason: str


@frozen(kw_only=True)
class RunEnded(Event):
    name: ClassVar[str] = "run_ended"
    status: str
    reason: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0  # that its runners have worked: not those between two of them
    exit_code: int = 0


EVENTS: dict[str, type[Event]] = {
    e.name: e
    for e in (
        RunStarted, StepStarted, AttemptFailed, StepEnded, StepWaiting, ResultAwaited, MessageRefused, RunWaiting, RunStopping, RunEnded,
    )
}  # fmt: skip


_known: dict[type[Event], Mapping[str, Any]] = {}


def _defaults(kind: type[Event]) -> Mapping[str, Any]:
    if kind not in _known:  # few kinds happen in a run
        _known[kind] = {f.name: f.default for f in fields(kind)}
    return _known[kind]


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as JSON, without fields that say nothing."""
    out: dict[str, Any] = {"event": event.name}
    defaults = _defaults(type(event))
    for key, value in vars(event).items():
        if key != "format" and (value == defaults[key] or (defaults[key] is not MISSING and value in ({}, ()))):
            continue
        out[key] = value
    return out


def of_json(value: Mapping[str, Any]) -> Event:
    """Return the event that was written as `value`; fields of a newer minor version are passed over."""
    kind = EVENTS[value["event"]]
    known = _defaults(kind).keys()
    given = {k: value[k] for k in value.keys() & known}
    return kind(**({"format": 1} | given if kind is RunStarted else given))  # format 1 was not written


@frozen
class RunRecord:
    """All that is known of one run."""

    started: RunStarted
    steps: Mapping[str, StepEnded] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)  # step -> attempt
    ended: RunEnded | None = None
    stopping: str = ""
    alive: bool = False
    waiting: Mapping[str, StepWaiting] = field(default_factory=dict)
    worked: float = 0.0  # seconds, before it began to wait

    @property
    def id(self) -> str:
        return self.started.run

    @property
    def status(self) -> str:
        if self.ended:
            return self.ended.status
        if self.alive:
            return "stopping" if self.stopping else "running" if self.running or not self.waiting else "waiting"
        if self.waiting and not self.stopping and not self.running:
            return "waiting"
        return "stopped" if self.stopping else "interrupted"

    @property
    def succeeded(self) -> frozenset[str]:
        """The steps whose results may be taken."""
        return frozenset(name for name, ended in self.steps.items() if ended.usable)

    @property
    def finished(self) -> bool:
        return self.status not in UNFINISHED

    @property
    def statuses(self) -> dict[str, str]:
        """How each step of the run's pipeline ended, or where it is."""
        out = {}
        for step, decision in self.started.decisions.items():
            if step in self.steps:
                out[step] = self.steps[step].status
            elif step in self.running:
                out[step] = "running" if self.alive else "interrupted"
            elif step in self.waiting:
                out[step] = "waiting"
            elif decision in ("cut", "unneeded"):
                out[step] = "not_selected"
            else:
                out[step] = "pending" if not self.finished else "not_run"
        # Items that the run itself found out.
        out |= {n: e.status for n, e in self.steps.items() if n not in out and n not in self.started.finals}
        out |= {
            n: "running" if self.alive else "interrupted"
            for n in self.running
            if n not in out and n not in self.started.finals
        }
        for step in self.started.finals:
            open_end = "not_run" if self.finished else "pending"
            out[step] = self.steps[step].status if step in self.steps else open_end
        return out


def fold(events: Iterable[Event], alive: bool = False) -> RunRecord | None:
    """Return the record of a journal, or None for one that has not even started."""
    started: RunStarted | None = None
    steps: dict[str, StepEnded] = {}
    running: dict[str, int] = {}
    ended: RunEnded | None = None
    stopping = ""
    waiting: dict[str, StepWaiting] = {}
    worked = 0.0
    for event in events:
        match event:
            case RunStarted():
                started = event
            case StepStarted():
                running[event.step] = event.attempt
            case StepWaiting():
                waiting[event.step] = event
            case StepEnded():
                running.pop(event.step, None)
                waiting.pop(event.step, None)
                steps[event.step] = event
            case RunWaiting():
                worked = event.seconds
            case RunStopping():
                stopping = event.reason
            case RunEnded():
                ended = event
    return RunRecord(started, steps, running, ended, stopping, alive, waiting, worked) if started else None


def at(event: Event, now: float) -> Event:
    """Return the event with its time."""
    return replace(event, at=now)
