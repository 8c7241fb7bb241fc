"""Plan -> Schedule: which step may start next, and what becomes of those that may not. No clock, no threads.

The engine reports how steps end; the schedule answers with what to begin and what to close.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from .decide import Cached, Reuse, Run, Skip
from .frozen import frozen
from .gate import Closed, Start, Wait, gate
from .pipeline import Retry, Step
from .plan import Plan

Turn = tuple[float, float]  # of two steps that may begin the lower one does: rank, negative; place in the file


@frozen
class Need:
    """What a step takes from the run's totals while it runs."""

    cpu: float = 1.0
    memory: int = 0


@frozen
class Capacity:
    """The run's totals."""

    workers: int
    cpu: float
    memory: int | None = None  # None means no limit


@dataclass
class Schedule:
    """The state of one run's steps; `begin` and `closed` are drained by the engine."""

    plan: Plan
    needs: dict[str, Need]  # of the steps that start a process
    capacity: Capacity
    failure_policy: str
    ranks: Mapping[str, float] = field(default_factory=dict)  # of steps that may begin, the one with the highest does
    ends: dict[str, str] = field(default_factory=dict)
    taken: dict[str, bool | None] = field(default_factory=dict)
    running: dict[str, Need] = field(default_factory=dict)
    held: str = ""  # why nothing more starts
    held_by: str = ""  # the step that failed, if it is that
    when_is_false: Callable[[Step], bool] = lambda step: False  # as far as what has ended tells

    def __post_init__(self) -> None:
        chosen = self.plan.selection.steps
        self.steps: dict[str, Step] = dict(self.plan.pipeline.steps)  # grows when a fan-out is spread
        self._after: dict[str, list[str]] = dict(self.plan.graph.after)
        self._left = {name: len(self.plan.graph.before[name]) for name in chosen}
        self._ready: list[tuple[Turn, str]] = []
        self._waiting: list[tuple[float, Turn, str]] = []  # retries: time, turn
        self._closed: deque[tuple[str, Closed]] = deque()
        self._turn: dict[str, Turn] = {n: (-self.ranks.get(n, 0.0), p) for n, p in self.plan.graph.place.items()}
        self._active: dict[str, dict[str, int]] = {}  # fan-out with `max_parallel` -> its begun items, steps under way
        # fan-out -> item that waits for another one to end -> its steps
        self._parked: dict[str, dict[str, list[tuple[Turn, str]]]] = {}
        self._broken: dict[str, str] = {}  # fan-out of which no further item starts -> the item that failed
        self._failing: set[str] = set()  # fan-outs of which an item has failed
        self.tolerated = frozenset(n for n, s in self.plan.pipeline.steps.items() if s.on_failure == "continue")
        self._cpu = 0.0
        self._memory = 0
        self._open = {n for n in chosen if isinstance(self.plan.decisions[n], Run)}
        for name in chosen:
            if not self._left[name] and name in self._open:
                self._look(name)

    def settled(self) -> Iterator[Reuse | Cached | Skip]:
        """Yield the decisions that need nothing done, and count them as ended."""
        for decision in self.plan.decisions.values():
            match decision:
                case Reuse():
                    self.end(
                        decision.step, "skipped" if decision.past.status == "skipped" else "reused", decision.past.taken
                    )
                    yield decision
                case Cached():
                    self.end(decision.step, "cached", decision.past.taken)
                    yield decision
                case Skip():
                    self.end(decision.step, "skipped")
                    yield decision

    def end(self, name: str, status: str, taken: bool | None = None) -> None:
        """Note how a step ended, and look at what stands behind it."""
        need = self.running.pop(name, None)
        if need:
            self._cpu -= need.cpu
            self._memory -= need.memory
        self._open.discard(name)
        self.ends[name] = status
        self.taken[name] = taken
        self._note_item(name, status)
        for reader in self._after[name]:
            if reader in self._open:
                self._left[reader] -= 1
                if not self._left[reader]:
                    self._look(reader)

    def _note_item(self, name: str, status: str) -> None:
        """Heed what the end of a step means for its fan-outs and for the run."""
        step = self.steps[name]
        failed = status == "failed" and name not in self.tolerated
        lenient = False
        for fan, item in step.within:
            foreach = self.steps[fan].foreach
            assert foreach is not None
            if failed:
                self._failing.add(fan)
            if failed and foreach.fail_fast:
                self._broken.setdefault(fan, name)
            lenient = lenient or not foreach.fail_fast
            if foreach.max_parallel is not None and name == item:
                self._active.get(fan, {}).pop(item, None)
                if waiting := self._parked.get(fan):
                    for parked in waiting.pop(next(iter(waiting))):
                        heapq.heappush(self._ready, parked)
        # Where the other items go on after a failure, the failure counts once all of them have ended.
        counts = failed and not lenient
        counts = counts or (name in self._failing and status == "upstream_failed" and name not in self.tolerated)
        if counts and self.failure_policy == "fail_fast":
            self.hold(f"{name} failed", name)

    def spread(self, name: str, made: Mapping[str, Step], needs: Mapping[str, Need]) -> None:
        """Put the items of a fan-out in its place, now that its axes are known; `made` has its join, too."""
        self.steps |= made
        self.needs |= needs
        self.tolerated |= {n for n, s in made.items() if s.on_failure == "continue"}
        (rank, start), inside = self._turn[name], set(made)
        for index, new in enumerate(made):
            self._turn[new] = (rank, start + (index + 1) / (len(made) + 2) if new != name else start)
            self._left[new] = 0
            self._open.add(new)
        self._after |= {new: [] for new in made if new != name}
        for new, step in made.items():
            for before in step.before & inside:
                self._after[before].append(new)
                self._left[new] += 1
        for new in made:
            if not self._left[new]:
                self._look(new)

    def _look(self, name: str) -> None:
        match self._gate(name):
            case Start():
                heapq.heappush(self._ready, (self._turn[name], name))
            case Closed() as closed:
                self._closed.append((name, closed))
            case Wait():
                raise AssertionError(f"{name} was looked at before its predecessors ended")

    def _gate(self, name: str) -> Start | Wait | Closed:
        """Return what the ends before a step mean for it. That its `when` skips it comes before failures, too."""
        step = self.steps[name]
        found = gate(step, self.ends, self.taken, self.tolerated)
        if (
            isinstance(found, Closed)
            and found.status != "skipped"
            and step.when is not True
            and self.when_is_false(step)
        ):
            return Closed("skipped", "`when` is false", "")
        return found

    def closed(self) -> Iterator[tuple[str, Closed]]:
        """Yield the steps that will not start; the engine ends each before it asks for the next."""
        while self._closed:
            yield self._closed.popleft()

    def begin(self, now: float) -> Iterator[str]:
        """Yield the steps to begin now, the highest rank first, then as in the file, as far as there is room."""
        while self._waiting and self._waiting[0][0] <= now:
            _, turn, name = heapq.heappop(self._waiting)
            heapq.heappush(self._ready, (turn, name))
        passed: list[tuple[Turn, str]] = []
        while self._ready and not self.held and len(passed) < 64:
            turn, name = self._pop()
            if self.steps[name].within and not self._may_begin(turn, name):
                continue
            need = self.needs.get(name)
            if need is None:
                yield name
            elif self._fits(need):
                self.running[name] = need
                self._cpu += need.cpu
                self._memory += need.memory
                yield name
            else:
                passed.append((turn, name))
                if len(self.running) >= self.capacity.workers:
                    break
        for item in passed:
            heapq.heappush(self._ready, item)

    def _pop(self) -> tuple[Turn, str]:
        """Take the next of those that are ready: where there is room for all, as in the file."""
        if len(self._ready) > max(1, self.capacity.workers - len(self.running)):
            return heapq.heappop(self._ready)
        found = min(self._ready, key=lambda item: item[0][1])
        self._ready.remove(found)
        heapq.heapify(self._ready)
        return found

    def _may_begin(self, turn: Turn, name: str) -> bool:
        """Whether the fan-outs around a step let it begin; else it is closed, or parked until an item has ended."""
        within = self.steps[name].within
        for fan, _ in within:
            if fan in self._broken:
                self._closed.append((name, Closed("not_run", f"{self._broken[fan]} failed", self._broken[fan])))
                return False
        for fan, item in within:
            foreach = self.steps[fan].foreach
            if foreach is None or foreach.max_parallel is None:
                continue
            active = self._active.setdefault(fan, {})
            if item not in active and len(active) >= foreach.max_parallel:
                self._parked.setdefault(fan, {}).setdefault(item, []).append((turn, name))
                return False
        for fan, item in within:
            foreach = self.steps[fan].foreach
            if foreach is not None and foreach.max_parallel is not None:
                self._active[fan][item] = 1
        return True

    @property
    def closing(self) -> bool:
        """Whether there are steps to close."""
        return bool(self._closed)

    def _fits(self, need: Need) -> bool:
        if len(self.running) >= self.capacity.workers:
            return False
        if not self.running:
            return True  # what alone is too much for the totals runs alone
        return self._cpu + need.cpu <= self.capacity.cpu + 1e-9 and (
            self.capacity.memory is None or self._memory + need.memory <= self.capacity.memory
        )

    def again(self, name: str, when: float) -> None:
        """Put a step back to be begun again at `when`."""
        need = self.running.pop(name, None)
        if need:
            self._cpu -= need.cpu
            self._memory -= need.memory
        heapq.heappush(self._waiting, (when, self._turn[name], name))

    def next_time(self) -> float | None:
        """Return when the next retry is due."""
        return self._waiting[0][0] if self._waiting and not self.held else None

    def restore(self, ended: Mapping[str, tuple[str, bool | None]], waiting: Collection[str]) -> None:
        """Be where a run was: these steps have ended so, and those have begun to wait."""
        self._ready.clear()
        self._closed.clear()
        for name, (status, taken) in ended.items():
            self._open.discard(name)
            self.ends[name], self.taken[name] = status, taken
        for name, (status, _) in ended.items():
            if name in self.steps:
                self._note_item(name, status)
            for reader in self._after.get(name, ()):
                if reader in self._left:
                    self._left[reader] -= 1
        worked = {name for name, (status, _) in ended.items() if status in ("succeeded", "failed")}
        for name in (worked | {*waiting}) & self.steps.keys():
            for fan, item in self.steps[name].within:
                foreach = self.steps[fan].foreach
                if foreach is not None and foreach.max_parallel is not None and item not in ended:
                    self._active.setdefault(fan, {})[item] = 1  # it has begun, and has its place among the items
        for name in [n for n in self._open if not self._left[n] and n not in waiting]:
            self._look(name)

    def hold(self, why: str, by: str = "") -> None:
        """Start nothing more; `by` is the step that failed, if it is for that."""
        if not self.held:
            self.held, self.held_by = why, by

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing can begin before something that only waits has ended."""
        return not (self.running or self._ready or self._waiting or self._closed)

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing more will start."""
        return not self.running and not self._closed and (bool(self.held) or not self._open)

    def remaining(self) -> Iterator[tuple[str, Closed]]:
        """Yield what never started, once all is over, with the reason."""
        for name in sorted(self._open, key=lambda n: (self._turn[n][1], n)):
            closed = self._gate(name)
            if not isinstance(closed, Closed) or closed.status == "not_run":
                closed = Closed("not_run", self.held, self.held_by)
            self.ends[name] = closed.status
            yield name, closed


def next_wait(
    retry: Retry, cause: str, exit_code: int | None, attempt: int, elapsed: float, spin: float
) -> float | None:
    """Return the seconds until the next attempt, or None. `spin` in [-1, 1] places it within the jitter."""
    if (
        attempt >= retry.max_attempts
        or not retry.errors & {cause, "any"}
        or cause in ("output", "expression", "environment")
    ):
        return None
    if cause == "exit" and retry.exit_codes and exit_code not in retry.exit_codes:
        return None
    try:
        wait = min(retry.max_interval, retry.interval * retry.backoff ** (attempt - 1))
    except OverflowError:
        wait = retry.max_interval
    wait *= 1 + retry.jitter * spin
    if retry.expire_after is not None and elapsed + wait > retry.expire_after:
        return None
    return wait
