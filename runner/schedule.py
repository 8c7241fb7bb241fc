"""Plan -> Schedule: which step may start next, and what becomes of those that may not. No clock, no threads.

The engine reports how steps end; the schedule answers with what to begin and what to close.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .decide import Cached, Reuse, Run, Skip
from .gate import Closed, Start, Wait, gate
from .pipeline import Retry
from .plan import Plan


@dataclass(frozen=True)
class Need:
    """What a step takes from the run's totals while it runs."""

    cpu: float = 1.0
    memory: int = 0


@dataclass(frozen=True)
class Capacity:
    """The run's totals."""

    workers: int
    cpu: float
    memory: int | None = None  # None means no limit


@dataclass
class Schedule:
    """The state of one run's steps; `begin` and `closed` are drained by the engine."""

    plan: Plan
    needs: Mapping[str, Need]  # of the steps that start a process
    capacity: Capacity
    failure_policy: str
    ends: dict[str, str] = field(default_factory=dict)
    taken: dict[str, bool | None] = field(default_factory=dict)
    running: dict[str, Need] = field(default_factory=dict)
    held: str = ""  # why nothing more starts

    def __post_init__(self) -> None:
        chosen = self.plan.selection.steps
        place = self.plan.graph.place
        self._left = {name: sum(1 for _ in self.plan.pipeline.steps[name].before) for name in chosen}
        self._ready: list[tuple[int, str]] = []
        self._waiting: list[tuple[float, int, str]] = []  # retries: time, place
        self._closed: list[tuple[str, Closed]] = []
        self._place = place
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
        if status == "failed" and self.failure_policy == "fail_fast" and name not in self.tolerated:
            self.held = self.held or f"{name} failed"
        for reader in self.plan.graph.after[name]:
            if reader in self._open:
                self._left[reader] -= 1
                if not self._left[reader]:
                    self._look(reader)

    def _look(self, name: str) -> None:
        match gate(self.plan.pipeline.steps[name], self.ends, self.taken, self.tolerated):
            case Start():
                heapq.heappush(self._ready, (self._place[name], name))
            case Closed() as closed:
                self._closed.append((name, closed))
            case Wait():
                raise AssertionError(f"{name} was looked at before its predecessors ended")

    def closed(self) -> Iterator[tuple[str, Closed]]:
        """Yield the steps that will not start; the engine ends each before it asks for the next."""
        while self._closed:
            yield self._closed.pop(0)

    def begin(self, now: float) -> Iterator[str]:
        """Yield the steps to begin now, in topological order, as far as there is room."""
        while self._waiting and self._waiting[0][0] <= now:
            _, place, name = heapq.heappop(self._waiting)
            heapq.heappush(self._ready, (place, name))
        passed: list[tuple[int, str]] = []
        while self._ready and not self.held and len(passed) < 64:
            place, name = heapq.heappop(self._ready)
            need = self.needs.get(name)
            if need is None:
                yield name
            elif self._fits(need):
                self.running[name] = need
                self._cpu += need.cpu
                self._memory += need.memory
                yield name
            else:
                passed.append((place, name))
                if len(self.running) >= self.capacity.workers:
                    break
        for item in passed:
            heapq.heappush(self._ready, item)

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
        heapq.heappush(self._waiting, (when, self._place[name], name))

    def next_time(self) -> float | None:
        """Return when the next retry is due."""
        return self._waiting[0][0] if self._waiting and not self.held else None

    def hold(self, why: str) -> None:
        """Start nothing more."""
        self.held = self.held or why

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing more will start."""
        return not self.running and not self._closed and (bool(self.held) or not self._open)

    def remaining(self) -> Iterator[tuple[str, Closed]]:
        """Yield what never started, once all is over, with the reason."""
        for name in self.plan.graph.sorted(self._open):
            bad = [
                b
                for b in sorted(self.plan.pipeline.steps[name].before)
                if self.ends.get(b) in ("failed", "upstream_failed")
            ]
            if bad and self.plan.pipeline.steps[name].trigger != "all_done":
                closed = Closed(
                    "upstream_failed",
                    f"{bad[0]} {'failed' if self.ends[bad[0]] == 'failed' else 'ended upstream_failed'}",
                    bad[0],
                )
            else:
                closed = Closed("not_run", self.held, self.held.split(" ")[0] if self.held.endswith(" failed") else "")
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
