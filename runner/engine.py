"""Plan -> Events: the only place where steps happen.

The engine looks at the plan and nothing else. A finished step may feed the next at once, but is told as done only
after the ledger has made it durable; a thread of its own waits for the disk, so that steps do not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any

from .collect import Answer, WrongOutput, answer, values_of
from .decide import Cached, Decision, Reuse, Run, Skip, join_ended, taken
from .errors import EnvironmentFailure, Moved, StoreDamaged
from .executors.calls import Call, Executor, Outcome
from .executors.files import signature
from .executors.redact import Redactor, masked
from .expand import Known
from .expand import items as spread
from .expression import EvaluationError, Template
from .fingerprint import Before, Evaluated, Produced, artifacts, evaluate, settle, when_holds
from .force import looks_up
from .frozen import changed, frozen
from .graph import Graph
from .pipeline import WAITS, Runtime, Step
from .plan import Plan, request_json
from .record import (
    HERE,
    AttemptFailed,
    Event,
    MessageRefused,
    ResultAwaited,
    RunEnded,
    RunRecord,
    RunStarted,
    RunStopping,
    RunWaiting,
    StepEnded,
    StepStarted,
    StepWaiting,
)
from .results import results
from .schedule import Capacity, Need, Schedule, next_wait
from .sealing import needed, seal_of, unsealed
from .select import selection_of
from .steps import AT_ONCE, PROCESS, THREADS, Place, bubblewrap, container
from .store import Ledger, Store
from .store.models import STATUSES
from .values import Artifact, Marked, file_name, plain_json, sha256, text_of, to_bytes, to_limit, to_processors

BARRIER = 0.05  # seconds that a finished step may wait to be told
INBOX = 0.5  # seconds between two looks at what others ask of the run
LONGEST = 128 << 10  # characters of one argument or variable
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_INHERITED = ("PATH", "HOME", "USER", "LANG", "TZ")


@dataclass
class Stop:
    """The wish to end a run, set by signal handlers or `runner stop`: how often it was asked, and by what."""

    asked: int = 0
    number: int = 0  # of the signal; 0 for `runner stop`
    by: str = ""

    def __call__(self, number: int, frame: Any = None) -> None:
        self.asked += 1
        self.number = self.number or number
        self.by = self.by or signal.Signals(number).name


@frozen
class Workshop:
    """What the engine works with: where the project is, and how much may run at once."""

    root: str  # of the project
    workers: int
    cpu: float
    memory: int | None
    log_limit: int = 1 << 30
    stop: Stop = field(default_factory=Stop)
    once: bool = False  # whether the plan is that of a file, which starts one run only
    estimate: float = 0.0  # seconds that are expected, for the record
    ranks: Mapping[str, float] = field(default_factory=dict)  # of steps that may begin, the one with the highest does
    interpreters: Mapping[Runtime, str] = field(default_factory=dict)  # of the environments that steps run in
    secrets: Mapping[str, str] = field(default_factory=dict)  # the values of those that steps of the plan are told
    store: str = ""  # its folder, which is closed to steps as the project is


def execute(
    plan: Plan, store: Store, executor: Executor, workshop: Workshop, waiting: RunRecord | None = None
) -> Iterator[Event]:
    """Run the plan; yield each event once it is durable. The executor is closed with the run.

    With `waiting`, go on with that run, of which `plan` is the plan. Raises Moved for the plan of a file that has started
    a run before, and for a run that another process goes on with.
    """
    if waiting is None:
        run, ledger = store.begin(plan.digest if workshop.once else "")
    else:
        run, ledger = waiting.id, take_up(waiting, store)
    engine = _Engine(plan, store, executor, workshop, run, ledger)
    try:
        yield from engine.events(waiting)
    except EnvironmentFailure as failure:
        yield from engine.give_up(failure)
        raise
    finally:
        if engine.writing is not None:
            engine.writing.join()
        executor.close()  # first: a worker may be about to clear its last attempt
        ledger.close()


def take_up(waiting: RunRecord, store: Store) -> Ledger:
    """Return the ledger of a run that waits; raises Moved if it is not as it was when `waiting` was read."""
    ledger = store.resume(waiting.id)
    now = store.run(waiting.id)
    if now is None or replace(now, alive=waiting.alive) != waiting:
        ledger.close()
        raise Moved(f"run {waiting.id} has gone on in another process", help=f"see `runner show {waiting.id}`")
    return ledger


class _Engine:
    def __init__(
        self, plan: Plan, store: Store, executor: Executor, workshop: Workshop, run: str, ledger: Ledger
    ) -> None:
        self.plan, self.store, self.executor, self.workshop = plan, store, executor, workshop
        self.run, self.ledger = run, ledger
        self.steps = {**plan.pipeline.steps, **plan.pipeline.finals}
        self.waiting: dict[str, StepWaiting] = {}
        self.early: list[Mapping[str, Any]] = []  # messages to steps that do not wait yet
        # The same pipeline with what fan-outs become: it grows.
        self.pipeline = replace(plan.pipeline, steps={**plan.pipeline.steps})
        self.decisions: dict[str, Decision] = dict(plan.decisions)
        self.names: dict[str, str] = {"id": run, "name": plan.request.name, "pipeline": plan.pipeline.name}
        self.before: dict[str, Before] = {}
        self.evaluated: dict[str, Evaluated] = {}
        self.attempts: dict[str, int] = {}
        self.claims: dict[str, str] = {}  # step -> fingerprint, from its attempt on until how that ended is durable
        self.awaited: dict[str, float] = {}  # step that waits for another attempt to make its result -> since when
        self.first_start: dict[str, float] = {}
        self.pending: list[Event] = []
        self.pending_since = 0.0
        self.batch: list[Event] = []  # being written
        self.writing: Thread | None = None
        self.unwritten: Exception | None = None
        self.metrics: dict[str, dict[str, Any]] = {}
        self.failed: list[StepEnded] = []
        self.kept: set[str] = set()  # locations of code files
        self.broken = 0  # exit code of a failure of the environment or the store
        self.reason = ""
        self.stops = 0
        self.ends: dict[str, str] = {}  # of all steps, once those of `finally` begin
        self.inbox_at = 0.0  # when it is read next
        self.env = {k: v for k, v in os.environ.items() if k in _INHERITED or k.startswith("LC_")}
        self.env["PATH"] = search_path()
        told = [(name, value.encode("utf-8", "surrogateescape")) for name, value in workshop.secrets.items()]
        self.mask = Redactor(told) if told else None
        self.open: dict[str, tuple[str, ...]] = {}  # interpreter -> what it needs of the closed folders
        self.unfit: dict[str, str] = {}  # step -> why nobody can tell what it occupies: it fails if it begins
        workers = min(workshop.workers, plan.pipeline.max_parallel or workshop.workers)
        self.schedule = Schedule(
            plan,
            self._needs(),
            Capacity(workers, workshop.cpu, workshop.memory),
            plan.request.failure_policy or plan.pipeline.failure_policy,
            workshop.ranks,
            when_is_false=self._when_is_false,
        )

    def _when_is_false(self, step: Step) -> bool:
        if step.deferred:
            return False  # it is judged item by item
        return when_holds(step, self.pipeline, self.plan.params, self.before, self.plan.world, self.names) is False

    def _needs(self) -> dict[str, Need]:
        return {name: self._need(self.steps[name]) for name in self.plan.runs if self.steps[name].has_process}

    def _need(self, step: Step) -> Need:
        least = Need(min(1.0, self.workshop.cpu))
        if step.cpu == 1 and step.memory is None:
            return least
        try:
            cpu = settle(step.cpu, step, self.plan.pipeline, self.plan.params, {}, self.plan.world, self.names)
            return Need(min(to_processors(cpu), self.workshop.cpu), memory_of(step, self.plan))
        except (EvaluationError, ValueError) as error:
            self.unfit[step.name] = str(error)
            return least

    def _timeout(self, step: Step) -> float:
        """Return the seconds that a step may take, 0 for no limit; raises EvaluationError or ValueError for no duration."""
        if not isinstance(step.timeout, Template):
            return step.timeout or 0.0
        return to_limit(
            text_of(settle(step.timeout, step, self.plan.pipeline, self.plan.params, {}, self.plan.world, self.names))
        )

    # the loop

    def events(self, waiting: RunRecord | None) -> Iterator[Event]:
        started = time.monotonic() - (waiting.worked if waiting else 0.0)
        limit = self.plan.request.timeout or self.plan.pipeline.timeout
        deadline = started + limit if limit else None
        if waiting is None:
            self.tell(self._run_started())
            for decision in self.schedule.settled():
                self._settled(decision)
        else:
            self._take_up(waiting)
        yield from self.commit()
        yield from self._loop(deadline)
        if self.waiting and not self.schedule.held:
            worked = round(time.monotonic() - started, 3)
            self.tell(RunWaiting(run=self.run, steps={n: w.kind for n, w in self.waiting.items()}, seconds=worked))
            yield from self.commit()
            return
        for name, closed in self.schedule.remaining():
            status = "stopped" if name in self.waiting else closed.status  # it had begun
            self.tell(StepEnded(step=name, status=status, reason=closed.reason, by=closed.by))
        if self.plan.pipeline.finals:
            yield from self._finally()
        self.tell(self._run_ended(time.monotonic() - started))
        yield from self.commit()

    def _take_up(self, record: RunRecord) -> None:
        """Be where a waiting run was when its runner ended."""
        for ended in record.steps.values():
            self.before[ended.step] = ended.before()
            if ended.status == "failed" and ended.step not in self.schedule.tolerated:
                self.failed.append(ended)
            if ended.metrics:
                self.metrics[ended.step] = dict(ended.metrics)
        self.waiting.update(record.waiting)
        self.schedule.restore({n: (e.status, e.taken) for n, e in record.steps.items()}, record.waiting)

    def _finally(self) -> Iterator[Event]:
        """Run the steps of `finally`, which know how all others ended."""
        self.names["status"] = self._status()[0]
        self.ends = dict(self.schedule.ends)
        for name, end in self.ends.items():
            self.before.setdefault(name, Before(end))
        finals = {
            n: replace(s, reads=s.reads & self.plan.pipeline.finals.keys(), needs=tuple(x for x in s.needs if x in self.plan.pipeline.finals))
            for n, s in self.plan.pipeline.finals.items()
        }  # fmt: skip
        graph = Graph({name: step.before for name, step in finals.items()})
        plan = replace(
            self.plan, pipeline=replace(self.plan.pipeline, steps=finals), graph=graph, selection=selection_of(set(finals), graph),
            decisions={name: Run(step=name) for name in graph.order},
        )  # fmt: skip
        self.decisions |= plan.decisions
        needs = {name: self._need(self.plan.pipeline.finals[name]) for name in finals}
        self.schedule = Schedule(
            plan, needs, self.schedule.capacity, "finish_independent", when_is_false=self._when_is_false
        )
        yield from self._loop(None)
        for name, closed in self.schedule.remaining():
            self.tell(StepEnded(step=name, status=closed.status, reason=closed.reason, by=closed.by))

    def _loop(self, deadline: float | None) -> Iterator[Event]:
        """Begin, await and end steps until the schedule is over."""
        while True:
            self._advance()
            if self.schedule.over:
                break
            if self.waiting and self.schedule.idle:
                self.inbox_at = 0.0
                yield from self._stop_if_asked()
                if self.schedule.idle and not self.stops:
                    break
                continue
            if self.schedule.idle:  # a plan that cannot be: better an end than to wait for ever
                raise AssertionError(
                    f"nothing runs, and these wait: {', '.join(n for n, _ in self.schedule.remaining())}"
                )
            now = time.monotonic()
            if self.writing is not None and not self.writing.is_alive():
                yield from self._written()
            if self.pending and self.writing is None and now - self.pending_since >= BARRIER:
                self._write()
            times = [t - now for t in (deadline, self.schedule.next_time()) if t is not None]
            times.append(self.inbox_at - now)
            if self.writing is not None:
                times.append(0.005)
            elif self.pending:
                times.append(self.pending_since + BARRIER - now)
            outcomes = self.executor.wait(max(0.0, min(times)))
            for outcome in outcomes:
                self._ended(outcome)
            yield from self._stop_if_asked()
            if deadline is not None and time.monotonic() >= deadline and not self.reason:
                self.reason = f"the run took longer than {self.plan.request.timeout or self.plan.pipeline.timeout:g} s"
                self.schedule.hold("the run's timeout came first")
                self.executor.stop(None, kill=False)

    def _advance(self) -> None:
        """Begin and close all that can be, until nothing moves."""
        moved = True
        while moved:
            moved = False
            for name, closed in self.schedule.closed():
                moved = True
                self.end(StepEnded(step=name, status=closed.status, reason=closed.reason, by=closed.by))
            for name in self.schedule.begin(time.monotonic()):
                moved = True
                self._begin(self.steps[name])
            moved = moved or self.schedule.closing

    def tell(self, event: Event) -> None:
        if not self.pending:
            self.pending_since = time.monotonic()
        self.pending.append(changed(event, at=round(time.time(), 3)))

    def commit(self) -> Iterator[Event]:
        """Make all that has happened durable, then tell it."""
        if self.writing is not None:
            yield from self._written()
        if self.pending:
            self._write()
            yield from self._written()

    def _write(self) -> None:
        """Begin to make what has happened durable."""
        self.batch, self.pending = self.pending, []
        self.writing = Thread(target=self._append, args=(self.batch,))
        self.writing.start()

    def _append(self, events: list[Event]) -> None:
        try:
            self.ledger.append(events)
        except Exception as error:  # raised again by the thread that tells
            self.unwritten = error

    def _written(self) -> list[Event]:
        """Return the events that have become durable."""
        assert self.writing is not None
        self.writing.join()
        self.writing = None
        if self.unwritten is not None:
            raise self.unwritten
        written, self.batch = self.batch, []
        for event in written:
            if isinstance(event, StepEnded | AttemptFailed):
                self._release(event.step)
        if self.ledger.full and not self.schedule.held:
            self.reason = self.reason or f"the store cannot be written: {self.ledger.full}"
            self._no_room(self.reason)
        return written

    def give_up(self, failure: EnvironmentFailure) -> list[Event]:
        """End all, since the disk fails: what could not be written has failed; return the end that could be."""
        self.executor.stop(None, kill=True)
        if self.writing is not None:
            self.writing.join()
        lost = [*self.batch, *self.pending]
        names = {e.step for e in lost if isinstance(e, StepEnded)} | {*self.evaluated}
        events: list[Event] = [e for e in lost if isinstance(e, RunStarted)]
        now = round(time.time(), 3)
        events += [
            StepEnded(step=n, status="failed", cause="environment", reason=failure.text, at=now) for n in sorted(names)
        ]
        events.append(RunEnded(status="failed", reason=failure.text, exit_code=failure.exit_status, at=now))
        with contextlib.suppress(EnvironmentFailure):  # then it is interrupted
            self.ledger.conclude(events)
            return events
        return []

    def _no_room(self, why: str) -> None:
        """Begin nothing more, and end what runs: the ledger has kept room to tell how that ends."""
        self.broken = self.broken or 6
        self.schedule.hold(why)
        self.executor.stop(None, kill=False)

    def end(self, ended: StepEnded) -> None:
        """Note how a step ended."""
        self.before[ended.step] = ended.before()
        self.evaluated.pop(ended.step, None)
        self.schedule.end(ended.step, ended.status, ended.taken)
        if ended.status == "failed" and ended.step not in self.schedule.tolerated:
            self.failed.append(ended)
        if ended.metrics:
            self.metrics[ended.step] = dict(ended.metrics)
        self.tell(ended)

    def _read_inbox(self) -> None:
        """Heed what `runner stop` has asked."""
        if time.monotonic() < self.inbox_at:
            return
        self.inbox_at = time.monotonic() + INBOX
        stop = self.workshop.stop
        early, self.early = self.early, []
        for message in early:
            self._heed(message)
        for name, message in self.ledger.inbox():
            if name.startswith("stop"):
                stop.asked += 1
                stop.by = stop.by or f"`runner stop` of {message['by']}"
            elif name.startswith(WAITS) and isinstance(message.get("step"), str):
                self._heed(message)
            elif name.startswith(WAITS):
                why = message.get("unreadable", "it names no step")
                self.tell(MessageRefused(step="", reason=f"{name} from {message['by']}: {why}"))
        for name, waiting in list(self.waiting.items()):
            if waiting.until and time.time() >= waiting.until:
                self._too_late(name, waiting)

    def _heed(self, message: Mapping[str, Any]) -> None:
        """Take a decision or values from outside, if the step waits for them and they are what it waits for."""
        name = message["step"]
        waiting = self.waiting.get(name)
        if waiting is None:
            if name not in self.schedule.ends:  # a program outside may be faster than the step that awaits it
                self.early.append(message)
            return
        try:
            found = answer(waiting, self.run, message)
        except WrongOutput as error:
            self.tell(MessageRefused(step=name, reason=f"from {message['by']}: {error}"))
        else:
            if waiting.kind == "approval":
                self._decided(waiting, found)
            else:
                self._called_back(waiting, found)

    def _decided(self, waiting: StepWaiting, found: Answer) -> None:
        said = f"{'approved' if found.approved else 'rejected'} by {found.by}"
        said += f": {found.comment}" if found.comment else ""
        if not found.approved:
            self._waited(waiting, found.at, status="failed", cause="rejected", reason=said)
            return
        outputs = self._decision(found.by, found.comment)
        self._waited(waiting, found.at, status="succeeded", outputs=outputs, reason=said)

    def _decision(self, by: str, comment: str) -> dict[str, Any]:
        """Return the outputs of an approval: who decided, and why, is in no fingerprint."""
        values = {"by": by, "comment": comment}
        return {n: Produced("string", self.run, value=v, mark={"approval": n}).to_json() for n, v in values.items()}

    def _called_back(self, waiting: StepWaiting, found: Answer) -> None:
        types = {name: declared["type"] for name, declared in waiting.outputs.items()}
        outputs = {n: Produced(types[n], self.run, value=v).to_json() for n, v in found.values.items()}
        self._waited(waiting, found.at, status="succeeded", outputs=outputs, reason=f"from {found.by}")

    def _too_late(self, name: str, waiting: StepWaiting) -> None:
        """Nobody has decided in time."""
        if waiting.on_timeout == "approve":
            outputs = self._decision("", "nobody decided in time")
            self._waited(
                waiting, waiting.until, status="succeeded", outputs=outputs, reason="approved, since nobody decided in time"
            )  # fmt: skip
        elif waiting.on_timeout == "reject":
            self._waited(
                waiting, waiting.until, status="failed", cause="rejected", reason="rejected, since nobody decided in time"
            )  # fmt: skip
        else:
            self._waited(waiting, waiting.until, status="failed", cause="timeout", reason="nobody answered in time")

    def _waited(self, waiting: StepWaiting, answered: float, **more: Any) -> None:
        """End a step that has waited."""
        del self.waiting[waiting.step]
        self.end(
            StepEnded(
                step=waiting.step, fingerprint=waiting.fingerprint, recipe=waiting.recipe, params=waiting.params,
                reads=waiting.reads, produced_by=self.run, answered=round(answered, 3), **more,
            )
        )  # fmt: skip

    def _wait(self, step: Step, evaluated: Evaluated) -> None:
        """Ask, and go on with what does not depend on the answer."""
        try:
            seconds = self._timeout(step)
        except (EvaluationError, ValueError) as error:
            self.end(self._success(step, evaluated, status="failed", cause="expression", reason=str(error)))
            return
        waiting = StepWaiting(
            step=step.name, kind=step.kind, message=text_of(evaluated.own["message"]), approvers=tuple(step.own.get("approvers", ())),
            outputs={
                o.name: {"type": o.type.name, **({"items": o.type.item.name} if o.type.item else {}), **({"optional": True} if o.optional else {})}
                for o in step.outputs.values()
            } if step.kind == "callback" else {},
            until=round(time.time() + seconds, 3) if seconds else 0.0, on_timeout=step.own.get("on_timeout", "fail"),
            fingerprint=evaluated.fingerprint, recipe=evaluated.recipe, params=evaluated.params,
            reads=tuple((r.step, r.output, r.digest, r.run) for r in evaluated.reads),
        )  # fmt: skip
        self.waiting[step.name] = waiting
        self.tell(waiting)

    def _stop_if_asked(self) -> Iterator[Event]:
        self._read_inbox()
        stop = self.workshop.stop
        if stop.asked > self.stops:
            if not self.stops:
                self.tell(RunStopping(reason=stop.by))
                yield from self.commit()  # the intent first: a crash from here on still ends as stopped
            self.stops = stop.asked
            self.schedule.hold(f"stopped by {stop.by}")
            self.executor.stop(None, kill=stop.asked > 1)

    # beginning a step

    def _settled(self, decision: Reuse | Cached | Skip) -> None:
        match decision:
            case Skip():
                ended = StepEnded(
                    step=decision.step, status="skipped", reason="; ".join(decision.reasons), by=decision.by
                )
            case Reuse() if decision.past.status == "skipped":
                ended = replace(decision.past, reused_from=decision.run)
            case Reuse():
                ended = self._kept(decision.past, "reused", decision.run, "; ".join(decision.reasons))
            case Cached():
                ended = self._kept(decision.past, "cached", decision.run, "; ".join(decision.reasons))
        self.before[decision.step] = ended.before()
        if ended.metrics:
            self.metrics[ended.step] = dict(ended.metrics)
        self.tell(ended)

    def _kept(self, past: StepEnded, status: str, run: str, reason: str) -> StepEnded:
        outputs = past.outputs
        if not past.produced_by and outputs:  # joined by the plan: this run is the first to have it
            outputs = {n: {**o, "run": o["run"] or self.run} for n, o in outputs.items()}
        reads = tuple((step, output, digest, by or self.run) for step, output, digest, by in past.reads)  # the same
        return replace(
            past, status=status, reason=reason, reused_from=run, produced_by=past.produced_by or run or self.run,
            attempt=0, seconds=0.0, notes=(), exit_code=None, outputs=outputs, reads=reads,
        )  # fmt: skip

    def _begin(self, step: Step) -> None:
        decision = self.decisions[step.name]
        assert isinstance(decision, Run)
        if step.deferred:
            self._spread(step, decision)
            return
        world, pipeline, params = self.plan.world, self.pipeline, self.plan.params
        try:
            if step.when is not True and not (
                step.when and settle(step.when, step, pipeline, params, self.before, world, self.names)
            ):
                self.end(StepEnded(step=step.name, status="skipped", reason="`when` is false"))
                return
            if step.name in self.unfit:
                raise EvaluationError(self.unfit[step.name])
            evaluated = evaluate(step, pipeline, params, self.before, world, self._run_names(step))
        except EvaluationError as error:
            self.end(StepEnded(step=step.name, status="failed", cause="expression", reason=error.reason))
            return
        except StoreDamaged as error:
            self.broken = 5
            self.end(StepEnded(step=step.name, status="failed", cause="environment", reason=error.text))
            return
        if step.joins:
            self.end(self._joined(step, evaluated))
            return
        if step.kind in WAITS:
            self._wait(step, evaluated)
            return
        self.evaluated[step.name] = evaluated
        if step.kind in AT_ONCE:
            self._settle_at_once(step, evaluated)
            return
        if decision.lookup and not self._claim(step, evaluated.fingerprint):
            return
        if decision.lookup and (success := self.store.success(evaluated.fingerprint)) and self._fresh(step, success):
            self._release(step.name)
            self.end(
                self._kept(
                    taken(success, step, evaluated),
                    "cached",
                    success.produced_by,
                    f"the same in {success.produced_by}",
                )
            )
            return
        if step.kind == "register":
            self._register(step, evaluated)
            return
        self._attempt(step, evaluated)

    def _claim(self, step: Step, fingerprint: str) -> bool:
        """Take the making of a result; while another attempt makes it, put the step back, without a worker.

        Whoever has a claim has all that it needs and only works, so no two runs wait for each other.
        """
        if self.claims.get(step.name) == fingerprint:  # its next attempt
            return True
        ours = next((name for name, claimed in self.claims.items() if claimed == fingerprint), "")
        if not ours and self.ledger.claim(fingerprint):
            self.claims[step.name] = fingerprint
            self.awaited.pop(step.name, None)
            return True
        now = time.monotonic()
        if step.name not in self.awaited:
            self.awaited[step.name] = now
            maker = "" if ours else self.ledger.claimant(fingerprint)
            self.tell(ResultAwaited(step=step.name, run=maker, by=ours))
        waited = now - self.awaited[step.name]
        self.schedule.again(step.name, now + min(1.0, max(0.02, waited / 10)))  # a tenth is what looking late may cost
        return False

    def _release(self, step: str) -> None:
        if fingerprint := self.claims.pop(step, ""):
            self.ledger.release(fingerprint)

    def _register(self, step: Step, evaluated: Evaluated) -> None:
        """Make a new version in the model registry."""
        own = evaluated.own
        model, status, group = own["model"], text_of(own["status"]), text_of(own["group"])
        wrong = (
            f"the model of {step.name} is missing" if not isinstance(model, Artifact)
            else f"status is {status!r}, which is none of: {', '.join(STATUSES)}" if status not in STATUSES
            else f"{group!r} cannot be the name of a group" if not GROUP.fullmatch(group)
            else ""
        )  # fmt: skip
        if wrong:
            self.end(self._success(step, evaluated, status="failed", cause="expression", reason=wrong))
            return
        maker, output, kept = self._made(model.digest, [(r.step, r.output) for r in evaluated.reads])
        try:
            number = self.store.register(
                {
                    "group": group, "status": status, "metrics": plain_json(own["metrics"]), "metadata": plain_json(own["metadata"]),
                    "model": {"type": model.kind, "name": model.name, "digest": model.digest, "size": kept.size, "run": kept.run, "step": maker, "output": output},
                    "run": self.run, "step": step.name, "pipeline": self.plan.pipeline.name, "by": "",
                }
            )  # fmt: skip
        except (EnvironmentFailure, StoreDamaged) as error:
            self.broken = self.broken or error.exit_status
            self.end(self._success(step, evaluated, status="failed", cause="environment", reason=error.text))
            return
        outputs = {"version": Produced("integer", self.run, value=number).to_json()}
        self.end(
            self._success(
                step, evaluated, status="succeeded", outputs=outputs, reason=f"{group} version {number}, {status}"
            )
        )

    def _made(self, digest: str, among: Iterable[tuple[str, str]]) -> tuple[str, str, Produced]:
        """Return the step and output that made an artifact: what only joins others passes the question on to them."""
        for name, output in among:
            found = self.before.get(name)
            if found is None or (held := _held(found.outputs.get(output), digest)) is None:
                continue
            step = self.steps.get(name)
            if step is not None and step.joins:
                inside = step.items or sorted(step.reads)
                below = [(n, o) for n in inside if n in self.before for o in self.before[n].outputs]
                with contextlib.suppress(LookupError):  # what is reused as a whole has nothing below it in this run
                    return self._made(digest, below)
            return name, output, held
        raise LookupError(digest)

    def _joined(self, step: Step, evaluated: Evaluated) -> StepEnded:
        lost = [n for n in step.items if self.schedule.ends.get(n) in ("failed", "upstream_failed")]
        notes = (f"{len(lost)} of {len(step.items)} items failed and left null: {', '.join(lost[:5])}",) if lost else ()
        return replace(join_ended(step.name, evaluated, self.run), notes=notes)

    def _spread(self, step: Step, decision: Run) -> None:
        """Put the items of a fan-out in its place, now that what its axes are computed from has ended."""
        try:
            known = Known(self.pipeline, self.plan.params, self.before, self.plan.world)
            made = spread(step, known)
        except EvaluationError as error:
            self.end(StepEnded(step=step.name, status="failed", cause="expression", reason=error.reason))
            return
        self.steps |= made
        self.pipeline = replace(self.pipeline, steps={**self.pipeline.steps, **made})
        mode, forced = self.plan.mode, self.plan.forced
        self.decisions |= {n: replace(decision, step=n, lookup=looks_up(s, mode, forced)) for n, s in made.items()}
        self.schedule.spread(step.name, made, {n: self._need(s) for n, s in made.items() if s.has_process})

    def _fresh(self, step: Step, success: StepEnded) -> bool:
        expires = step.cache.expire_after
        if expires is not None and time.time() - success.at > expires:
            return False
        damage = self.store.damaged(artifacts(success.outputs.values()), whole=True)
        for found in damage:
            self.store.quarantine(found.digest)
        return not damage

    def _settle_at_once(self, step: Step, evaluated: Evaluated) -> None:
        found = AT_ONCE[step.kind](evaluated.own)
        self.end(
            self._success(
                step, evaluated, status=found.status, taken=found.taken, cause=found.cause, reason=found.message
            )
        )
        if step.kind == "fail":
            self.reason = self.reason or found.message
            self.schedule.hold(f"{step.name} failed", step.name)
            self.executor.stop(None, kill=False)

    def _success(self, step: Step, evaluated: Evaluated, **more: Any) -> StepEnded:
        return StepEnded(
            step=step.name, fingerprint=evaluated.fingerprint, recipe=evaluated.recipe, params=evaluated.params,
            reads=tuple((r.step, r.output, r.digest, r.run) for r in evaluated.reads), produced_by=self.run, **more,
        )  # fmt: skip

    def _outside(self, step: Step) -> dict[str, str]:
        """Return why a step was not kept to what it declares, and the checkout whose files it could read."""
        why = unsealed(step)
        if not why:
            return {}
        root, store = self.workshop.root, os.path.realpath(self.workshop.store)
        return {"unsealed": why, "checkout": HERE if store.startswith(f"{root}/") else root}

    def _attempt(self, step: Step, evaluated: Evaluated) -> None:
        attempt = self.attempts[step.name] = self.attempts.get(step.name, 0) + 1
        self.first_start.setdefault(step.name, time.monotonic())
        try:
            call = self._call(step, evaluated, attempt)
        except (ValueError, EvaluationError) as error:
            self.end(self._success(step, evaluated, status="failed", cause="expression", reason=str(error)))
            return
        self.executor.submit(call)
        self.tell(StepStarted(step=step.name, attempt=attempt))

    # what a worker is told

    def _run_names(self, step: Step) -> Mapping[str, str]:
        if step.workdir != "project":
            return self.names
        scratch = self.ledger.scratch(step.name, self.attempts.get(step.name, 0) + 1)
        return {**self.names, "outputs_at": f"{scratch}/work/", "inputs_at": f"{scratch}/"}

    def _call(self, step: Step, evaluated: Evaluated, attempt: int) -> Call:
        root = self.ledger.scratch(step.name, attempt)
        if step.workdir == "project" and attempt > 1:
            evaluated = evaluate(
                step,
                self.pipeline,
                self.plan.params,
                self.before,
                self.plan.world,
                {**self.names, "outputs_at": f"{root}/work/", "inputs_at": f"{root}/"},
            )
        base = step.base
        sealed = step.workdir != "project"
        work = os.path.normpath(f"{root}/work/{base}") if sealed else f"{root}/work"
        cwd = work if sealed else os.path.normpath(f"{self.workshop.root}/{base}")
        objects, trees_dir = self.store.places()
        outputs = tuple(
            {"name": o.name, "type": o.type.name, "path": f"{work}/{o.path}", "shown": o.path, "optional": o.optional}
            for o in step.outputs.values() if o.is_artifact
        )  # fmt: skip
        values = f"{root}/values.json"
        env = self._environment(step, evaluated, root, cwd, work, attempt, values)
        preload = step.runtime.preload if step.runtime else ()
        place = Place(root, cwd, values, self._interpreter(step), env, preload)
        launch = PROCESS[step.kind](evaluated.own, place)
        for text in (*launch.argv, *env.values()):
            if "\0" in text or len(text) > LONGEST:
                raise ValueError(
                    "an argument or variable "
                    + (
                        "holds a NUL character"
                        if "\0" in text
                        else f"is longer than {LONGEST >> 10} KiB; pass it by the context file"
                    )
                )
        context = {
            "run": self.names, "step": step.name, "attempt": attempt,
            "params": {k: self._seen(v, cwd) for k, v in evaluated.values.items()},
            "inputs": {k: self._seen(v, cwd) for k, v in evaluated.inputs.items()},
            "outputs": {o["name"]: o["path"] for o in outputs},
            "each": {k: self._seen(v, cwd) for k, v in evaluated.each.items()},
        }  # fmt: skip
        links, copies, trees = self._staging(step, evaluated, cwd) if sealed else self._staged_apart(evaluated)
        need = self.schedule.needs.get(step.name, Need())
        argv, cleanup = launch.argv, ()  # type: tuple[str, ...], tuple[str, ...]
        if step.runtime and step.runtime.kind == "container":
            readable = tuple(dict.fromkeys([os.path.abspath(objects), *(os.path.realpath(link[1]) for link in links)]))
            name = f"runner-{self.run}-{file_name(step.name)}-{attempt}".replace("~", "-")
            box = container.Container(
                container_engine(step.runtime), step.runtime.image, name, root, readable, need.cpu, need.memory
            )
            for variable, value in evaluated.env.items():
                if container.heeded(variable) and _is_secret(value):
                    raise ValueError(f"{variable} of a container may hold no secret: {box.engine} itself reads it")
            inside = {n: v for n, v in env.items() if n not in self.env or n in evaluated.env}
            argv, cleanup = container.argv(box, launch.argv, cwd, inside), container.cleanup(box)
            env = container.variables(env, self.env["PATH"])
        seal = seal_of(step)
        if seal == "bwrap":
            argv = self._boxed(step, argv, root, cwd, links)
        landlocked = seal == "landlock" and bool(self.workshop.store)
        return Call(
            step=step.name, attempt=attempt, root=root, work=work, cwd=cwd, argv=argv, env=env,
            log=self.ledger.log(step.name, attempt), objects=objects, trees_dir=trees_dir, values=values,
            files={f"{root}/context.json": json.dumps(context, ensure_ascii=False), **launch.files},
            links=links, copies=copies, trees=trees,
            folders=tuple(dict.fromkeys(os.path.dirname(os.path.normpath(f"{work}/{o.path}")) for o in step.outputs.values() if "/" in o.path)),
            outputs=outputs, success_codes=step.success_codes, timeout=self._timeout(step),
            grace=step.grace_period, log_limit=self.workshop.log_limit, warm=launch.warm and seal != "bwrap", interpreter=launch.parent, task=launch.task,
            memory=0 if cleanup else need.memory, cleanup=cleanup, printed=launch.printed,
            secrets=tuple(self.workshop.secrets.items()),  # all: a step may have got another's secret by a file
            closed=(self.workshop.root, self.workshop.store) if landlocked else (),
            readable=self._open(step) if landlocked else (), boxed=seal == "bwrap",
        )  # fmt: skip

    def _boxed(self, step: Step, argv: Sequence[str], root: str, cwd: str, links: Sequence[Any]) -> tuple[str, ...]:
        """Return the argv that runs a step's program in a sandbox."""
        inside = step.workdir == "project"
        closed = (self.workshop.store,) if inside else (self.workshop.root, self.workshop.store)
        readable = (*self._open(step), os.path.abspath(self.store.places()[0]), *(link[1] for link in links))
        box = bubblewrap.Sandbox(root, readable, closed, step.network, (self.workshop.root,) if inside else ())
        return bubblewrap.argv(box, argv, cwd)

    def _open(self, step: Step) -> tuple[str, ...]:
        """Return what of the closed folders the interpreter of a step needs."""
        interpreter = self._interpreter(step)
        if interpreter not in self.open:
            self.open[interpreter] = needed(interpreter, self.env["PATH"], (self.workshop.root, self.workshop.store))
        return self.open[interpreter]

    def _environment(
        self, step: Step, evaluated: Evaluated, root: str, cwd: str, work: str, attempt: int, values: str
    ) -> dict[str, str]:
        need = self.schedule.needs.get(step.name, Need())
        env = {
            **self.env, **dict.fromkeys(THREADS, str(max(1, int(need.cpu)))), "TMPDIR": root, "RUNNER_CONTEXT": f"{root}/context.json", "RUNNER_VALUES": values, "RUNNER_RUN_ID": self.run,
            "RUNNER_STEP": step.name, "RUNNER_ATTEMPT": str(attempt), "RUNNER_OUTPUT_DIR": work,
        }  # fmt: skip
        for name, value in evaluated.inputs.items():
            if not isinstance(value, list | dict):
                env[f"RUNNER_INPUT_{_upper(name)}"] = text_of(self._seen(value, cwd))
        for output in step.outputs.values():
            if output.is_artifact:
                env[f"RUNNER_OUTPUT_{_upper(output.name)}"] = f"{work}/{output.path}"
        if step.runtime:
            env |= {name: os.environ[name] for name in step.runtime.inherit_env if name in os.environ}
            if step.runtime.kind == "venv":
                folder = os.path.dirname(self._interpreter(step))
                env |= {"PATH": f"{folder}{os.pathsep}{env['PATH']}", "VIRTUAL_ENV": os.path.dirname(folder)}
        return {**env, **{name: self._told_value(value) for name, value in evaluated.env.items()}}

    def _interpreter(self, step: Step) -> str:
        """Return what `python` means in a step."""
        if step.runtime and step.runtime.kind == "container":
            return "python"
        return self.workshop.interpreters.get(step.runtime, sys.executable) if step.runtime else sys.executable

    def _told_value(self, value: Any) -> str:
        """Return the text of a variable; here, and nowhere before, a secret becomes its value."""
        if _is_secret(value):
            return self.workshop.secrets[value.mark["secret"]]
        return text_of(value)

    @staticmethod
    def _seen(value: Any, cwd: str) -> Any:
        """Return a value as a step's context has it: artifacts by absolute path."""
        if isinstance(value, list):
            return [_Engine._seen(item, cwd) for item in value]
        return (
            os.path.normpath(f"{cwd}/{value}")
            if isinstance(value, Artifact) and not value.startswith("/")
            else plain_json(value)
        )

    def _staging(self, step: Step, evaluated: Evaluated, cwd: str) -> tuple[Any, Any, Any]:
        """Return links, copies and trees for the attempt; what lies in a linked directory comes with it."""
        links, trees = [], []
        linked: list[str] = []
        for text in sorted(evaluated.artifacts):
            artifact, target = evaluated.artifacts[text], os.path.normpath(f"{cwd}/{text}")
            if any(target.startswith(f"{folder}/") for folder in linked):
                continue
            if artifact.source == "store:" and artifact.kind == "dir":
                trees.append((target, self.store.object(artifact.digest, "dir"), self.store.places()[0]))
                continue
            if artifact.kind == "dir":
                linked.append(target)
            links.append((target, *self._source(artifact)))
        copies = []
        for location in step.code:
            target = os.path.normpath(f"{cwd}/{os.path.relpath('/' + location, '/' + step.base)}")
            if not any(target.startswith(f"{folder}/") for folder in linked) and all(
                target != link[0] for link in links
            ):
                copies.append((target, f"{self.workshop.root}/{location}", self.plan.world.code[location][0]))
            self._keep_code(location)
        return tuple(links), tuple(copies), tuple(trees)

    def _keep_code(self, location: str) -> None:
        """Keep what a code file held, so that a later plan can show the lines that changed."""
        if location not in self.kept:
            self.kept.add(location)
            self.store.keep(f"{self.workshop.root}/{location}", self.plan.world.code[location][0])

    def _staged_apart(self, evaluated: Evaluated) -> tuple[Any, Any, Any]:
        """The same for a step that works in the project's own folder: only what is not there is laid beside it."""
        links, trees = [], []
        for text, artifact in sorted(evaluated.artifacts.items()):
            if artifact.source == "store:" and artifact.kind == "dir":
                trees.append((str(text), self.store.object(artifact.digest, "dir"), self.store.places()[0]))
            elif artifact.source == "store:":
                links.append((str(text), *self._source(artifact)))
        return tuple(links), (), tuple(trees)

    def _source(self, artifact: Artifact) -> tuple[str, str, Any]:
        """Return the path that an artifact is linked to, the digest of stored bytes, and the signature it must have."""
        scheme, _, location = artifact.source.partition(":")
        if scheme == "store":
            return self.store.object(artifact.digest, artifact.kind), artifact.digest, self.store.mark(artifact.digest)
        path = location if scheme == "host" else f"{self.workshop.root}/{location}"
        return path, "", self.plan.world.marks.get(location)

    # the end of an attempt

    def _ended(self, outcome: Outcome) -> None:
        step, evaluated = self.steps[outcome.step], self.evaluated[outcome.step]
        if outcome.damaged:
            self.store.quarantine(outcome.damaged)
            self.broken = 5
        if outcome.cause == "environment":
            self.broken = self.broken or 6
        if not outcome.cause and (moved := self._moved(step, evaluated)):
            outcome = replace(outcome, cause="environment", message=f"{moved} has changed since it was planned")
            self.broken = self.broken or 6
        if not outcome.cause:
            try:
                values = values_of(step, outcome.values, outcome.outputs, self.store.read)
                self._refuse_secrets(outcome.values, values)
            except WrongOutput as error:
                outcome = replace(outcome, cause="output", message=str(error))
            else:
                self._succeeded(step, evaluated, outcome, values)
                return
        if self.mask:
            outcome = replace(outcome, message=str(masked(outcome.message, self.mask)))
        if outcome.errno in _DISK:
            self.reason = self.reason or f"{step.name}: {outcome.message}"  # also where the step's failure is tolerated
            self._no_room(f"{step.name} failed")
        if outcome.cause == "stopped":
            self.end(
                self._success(
                    step,
                    evaluated,
                    status="stopped",
                    reason=self.schedule.held or "stopped",
                    attempt=outcome.attempt,
                    seconds=round(outcome.seconds, 6),
                )
            )
            return
        elapsed = time.monotonic() - self.first_start[step.name]
        spin = int.from_bytes(os.urandom(4)) / (1 << 31) - 1  # from -1 to 1
        wait = next_wait(step.retry, outcome.cause, outcome.exit_code, outcome.attempt, elapsed, spin)
        if wait is not None and not self.schedule.held:
            self.tell(
                AttemptFailed(
                    step=step.name,
                    attempt=outcome.attempt,
                    cause=outcome.cause,
                    message=outcome.message,
                    wait=round(wait, 3),
                )
            )
            self.schedule.again(step.name, time.monotonic() + wait)
            return
        notes = self._hints(step, evaluated, outcome)
        self.end(
            self._success(
                step, evaluated, status="failed", cause=outcome.cause, reason=outcome.message, attempt=outcome.attempt, seconds=round(outcome.seconds, 6),
                exit_code=outcome.exit_code, signal=outcome.signal, tail=outcome.tail[-2000:], notes=notes, **self._outside(step),
            )
        )  # fmt: skip

    def _moved(self, step: Step, evaluated: Evaluated) -> str:
        """Return a file that a step read in the project's own folder, and that is not what was planned any more.

        What a step reads elsewhere is watched by the worker.
        """
        if step.workdir != "project":
            return ""
        for artifact in evaluated.artifacts.values():
            path, digest, mark = self._source(artifact)
            try:
                if not digest and mark is not None and signature(path) != mark:
                    return path
            except OSError:
                return path
        for location in step.code:
            path = f"{self.workshop.root}/{location}"
            try:
                with open(path, "rb") as file:
                    if sha256(file.read()) != self.plan.world.code[location][0]:
                        return path
            except OSError:
                return path
        return ""

    def _refuse_secrets(self, written: str | None, values: Mapping[str, Any]) -> None:
        """A value output that holds a secret would bring it into the journal, also one taken from a file."""
        content = [written, plain_json(dict(values))]
        if self.mask and masked(content, self.mask) != content:
            raise WrongOutput("its values hold a secret, which may be in no record", "E222")

    def _succeeded(self, step: Step, evaluated: Evaluated, outcome: Outcome, values: Mapping[str, Any]) -> None:
        self.store.learn(outcome.marks)
        outputs = {
            name: Produced(o["type"], self.run, digest=o["digest"], size=o["size"]).to_json()
            for name, o in outcome.outputs.items()
        }
        outputs |= {
            name: Produced(step.outputs[name].type.name, self.run, value=value).to_json()
            for name, value in values.items()
        }
        notes = ("it left processes behind, which were ended",) if outcome.leftover else ()
        self.end(
            self._success(
                step, evaluated, status="succeeded", attempt=outcome.attempt, seconds=round(outcome.seconds, 6), exit_code=outcome.exit_code,
                outputs={name: outputs[name] for name in step.outputs if name in outputs},
                metrics={name: value for name, value in values.items() if step.outputs[name].metric}, notes=notes, **self._outside(step),
            )
        )  # fmt: skip

    def _hints(self, step: Step, evaluated: Evaluated, outcome: Outcome) -> tuple[str, ...]:
        """Where a step missed a file that the project has, say which line to add."""
        if step.workdir == "project" or not outcome.tail:
            return ()
        from .hints import Attempt, hints  # only for a step that fails

        named = (os.path.normpath(os.path.join(step.base, text)) for text in evaluated.artifacts)
        scratch = os.path.realpath(self.ledger.scratch(step.name, outcome.attempt))
        store = os.path.realpath(self.workshop.store or self.store.places()[0])
        sealed = seal_of(step) in ("landlock", "bwrap")
        return hints(
            outcome.tail,
            Attempt(self.workshop.root, step.base, store, scratch, frozenset({*step.code, *named}), sealed),
        )

    # the run as a whole

    def _run_started(self) -> RunStarted:
        plan = self.plan
        return RunStarted(
            run=self.run, pipeline=plan.pipeline.name, path=plan.pipeline.path, definition=plan.pipeline.digest, request=request_json(plan.request),
            request_digest=plan.request_digest, plan_digest=plan.digest, params={k: plain_json(v) for k, v in plan.params.items()}, sources=plan.sources,
            reference=plan.reference.record.id if plan.reference else "", trial=plan.request.trial, title=plan.request.name,
            labels={**plan.pipeline.labels, **plan.request.labels}, decisions={n: d.name for n, d in plan.decisions.items()},
            accepted=tuple({"step": a.step, "cause": a.cause, "reason": a.reason} for a in plan.request.accept), workers=self.schedule.capacity.workers,
            estimate=round(self.workshop.estimate, 3), finals=tuple(plan.pipeline.finals), files=files_of(plan), number=self.ledger.number,
        )  # fmt: skip

    def _status(self) -> tuple[str, str]:
        """Return how the run ends, as far as it is known, and why."""
        if self.stops:
            return "stopped", f"stopped by {self.workshop.stop.by}"
        if self.failed or self.reason:
            return "failed", self.reason or "; ".join(f"{e.step}: {e.reason}" for e in self.failed)
        return "succeeded", ""

    def _run_ended(self, seconds: float) -> RunEnded:
        stop = self.workshop.stop
        status, reason = self._status()
        expected, difference = self._expected(status)
        if self.stops:
            code = 128 + stop.number if stop.number else 1
        elif self.plan.request.expect is not None:
            code = 0 if expected else self.broken or 1
            reason = "; ".join(filter(None, [reason, difference]))
        else:
            code = 0 if status == "succeeded" else self.broken or 1
        return RunEnded(
            status=status,
            reason=reason,
            outputs=results(self.pipeline, self.plan.params, self.before, self.plan.world, self.names),
            metrics=self.metrics,
            seconds=round(seconds, 3),
            exit_code=code,
        )

    def _expected(self, status: str) -> tuple[bool, str]:
        expect = self.plan.request.expect
        if expect is None:
            return True, ""
        wanted = expect.status or ("failed" if "failed" in expect.steps.values() else "succeeded")
        ends = {**dict.fromkeys(self.plan.decisions, "not_selected"), **(self.ends or self.schedule.ends)}
        wrong = [
            f"{name} ended {ends.get(name, 'not_run')}, expected {end}"
            for name, end in expect.steps.items()
            if ends.get(name, "not_run") != end
        ]
        if status != wanted:
            wrong.insert(0, f"the run ended {status}, expected {wanted}")
        return not wrong, "; ".join(wrong)


def _is_secret(value: Any) -> bool:
    return isinstance(value, Marked) and isinstance(value.mark, dict) and "secret" in value.mark


def _held(produced: Produced | None, digest: str) -> Produced | None:
    """Return the artifact with a digest out of an output that is it or a list with it."""
    if produced is None or produced.digest == digest:
        return produced
    return next((found for item in produced.items or () if (found := _held(item, digest))), None)


def files_of(plan: Plan) -> dict[str, str]:
    """Return the digests of all files that a run which may wait was planned with: it goes on only with the same."""
    if not any(step.kind in WAITS for step in plan.pipeline.every_step()):
        return {}
    code = {place: digest + " x" * executable for place, (digest, executable) in plan.world.code.items()}
    runtimes = {f"runtime {runtime.name}": digest for runtime, digest in plan.world.runtimes.items()}
    return {**plan.world.files, **code, **runtimes, "interpreter": plan.world.runtime}


GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.A)


def search_path() -> str:
    """Return the PATH of steps: the folder of this interpreter comes first."""
    return os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", os.defpath)


def container_engine(runtime: Runtime) -> str:
    """Return the program that runs a container, or "" where this machine has none."""
    import shutil

    wanted = (runtime.engine,) if runtime.engine else ("docker", "podman")
    return next((name for name in wanted if shutil.which(name)), "")


def memory_of(step: Step, plan: Plan) -> int:
    """Return the bytes of memory that a step asks for; raises EvaluationError or ValueError where that is no size."""
    if step.memory is None:
        return 0
    memory = settle(step.memory, step, plan.pipeline, plan.params, {}, plan.world, {})
    return to_bytes(memory) if isinstance(memory, str) else memory or 0


def _upper(name: str) -> str:
    return name.upper().replace("-", "_")


def verify_kept(plan: Plan, store: Store, whole: bool) -> None:
    """Check all stored bytes that the plan stands on; raises StoreDamaged naming what to run again."""
    kept = {n: d for n, d in plan.decisions.items() if isinstance(d, Reuse | Cached)}
    damage = store.damaged([found for d in kept.values() for found in artifacts(d.past.outputs.values())], whole)
    if not damage:
        return
    bad = {d.inside or d.digest: d.what for d in damage}
    lines: list[str] = []
    steps: list[str] = []
    for name, decision in kept.items():
        for output, o in decision.past.outputs.items():
            for digest, _ in artifacts([o]):
                if digest in bad:
                    lines.append(f"output {output} of {name} ({decision.past.produced_by}) {bad[digest]}")
                    steps.append(name)
    lines = lines or [f"{d.digest} {d.what}" for d in damage]
    raise DamagedResults(
        "; ".join(lines),
        help=f"run {', '.join(dict.fromkeys(steps)) or 'its producer'} again: add it to `select`",
        digests=tuple(d.digest for d in damage),
        artifacts=tuple(bad),
    )


def verify_results(record: RunRecord, store: Store, whole: bool) -> None:
    """Check all stored bytes that a waiting run has so far; raises StoreDamaged."""
    outputs = [o for ended in record.steps.values() if ended.usable for o in ended.outputs.values()]
    if damage := store.damaged(list(artifacts(outputs)), whole):
        raise StoreDamaged(
            "; ".join(f"{d.digest} {d.what}" for d in damage), help="run its producer again in a new run"
        )


class DamagedResults(StoreDamaged):
    """Results that a plan stands on are damaged."""

    def __init__(self, text: str, *, help: str, digests: Sequence[str], artifacts: Sequence[str]) -> None:
        super().__init__(text, help=help)
        self.digests = tuple(digests)  # of the bytes
        self.artifacts = tuple(artifacts)  # of what is kept of them, or has them in it
