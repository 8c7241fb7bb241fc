"""Plan x past durations -> Estimate: how long it will take, and so which of the steps that may begin does so first.

Shown beside a plan, never bound by its digest.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

from .frozen import frozen
from .graph import Graph
from .plan import Plan


@frozen
class StepTime:
    """What a step took before, in seconds."""

    median: float
    low: float
    high: float
    count: int


@frozen
class Estimate:
    """Seconds that a plan takes, from the medians of earlier attempts and the workers there are."""

    steps: Mapping[str, StepTime]  # of those that would run and have run before
    seconds: float  # of this plan
    full_seconds: float  # of all steps
    remedies: Mapping[tuple[str, ...], float]  # steps that a remedy adds -> seconds more
    unknown: tuple[str, ...]  # steps that would run and never ran
    workers: int


def estimate(plan: Plan, past: Mapping[str, Sequence[float]], workers: int) -> Estimate:
    """Return the Estimate; `past` has the durations of each step's successes."""
    steps = plan.pipeline.steps
    medians = {n: _median(past[n]) if past.get(n) else 0.0 for n in steps}
    runs = [n for n in plan.runs if steps[n].has_process]
    seconds = makespan(runs, medians, plan.graph, workers)
    remedies = {
        r.steps: makespan([*runs, *r.steps], medians, plan.graph, workers) - seconds
        for f in plan.findings for r in f.remedies if r.steps
    }  # fmt: skip
    times = {n: StepTime(medians[n], min(past[n]), max(past[n]), len(past[n])) for n in runs if past.get(n)}
    return Estimate(
        times, seconds, makespan(list(steps), medians, plan.graph, workers), remedies,
        tuple(n for n in runs if not past.get(n)), workers,
    )  # fmt: skip


def turns(plan: Plan, found: Estimate) -> dict[str, float]:
    """Return `ranks` of the steps of a plan; a step that never ran is taken to last as long as the others do.

    Where nothing is known there are none, nor for one worker, whom no order makes faster: as in the file, what stands
    together ends together.
    """
    known = [time.median for time in found.steps.values()]
    if not known or found.workers == 1:
        return {}
    usual = _median(known)
    steps = plan.pipeline.steps
    runs = [name for name in plan.runs if steps[name].has_process or steps[name].deferred]
    return ranks({n: found.steps[n].median if n in found.steps else usual for n in runs}, plan.graph)


def ranks(durations: Mapping[str, float], graph: Graph) -> dict[str, float]:
    """Return for each step how long it takes from its begin to the last end that it holds up, in tenths of the longest.

    Of steps that may begin, the one with most behind it does, so that at the end none is left alone with a long way to
    go. In tenths, and nothing where all of it takes less than half a second, because two runs never take the same: what
    differs less keeps the order of the file.
    """
    behind: dict[str, float] = {}
    for name in reversed(graph.order):
        behind[name] = durations.get(name, 0.0) + max([behind[after] for after in graph.after[name]], default=0.0)
    longest = max(behind.values(), default=0.0)
    return {name: round(10 * seconds / longest) for name, seconds in behind.items()} if longest >= 0.5 else {}


def makespan(names: Collection[str], durations: Mapping[str, float], graph: Graph, workers: int) -> float:
    """Return the seconds that steps take on `workers`, each started as soon as it may, as a run does."""
    chosen = set(names)
    if not any(durations[name] for name in chosen):
        return 0.0
    behind = ranks({name: durations[name] for name in chosen}, graph)
    turn = {name: (-behind.get(name, 0.0), graph.place[name]) for name in chosen}
    waits = {n: sum(b in chosen for b in graph.before[n]) for n in chosen}
    ready = [turn[n] for n in chosen if not waits[n]]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            name = graph.order[heapq.heappop(ready)[1]]
            heapq.heappush(running, (now + durations[name], name))
        now, done = heapq.heappop(running)
        for name in graph.after[done]:
            if name in chosen:
                waits[name] -= 1
                if not waits[name]:
                    heapq.heappush(ready, turn[name])
    return now


def to_json(found: Estimate) -> dict[str, object]:
    """Return the estimate as JSON."""
    return {
        "seconds": round(found.seconds, 3),
        "full_seconds": round(found.full_seconds, 3),
        "workers": found.workers,
        "unknown": list(found.unknown),
        "steps": {
            n: {"median": round(t.median, 3), "low": round(t.low, 3), "high": round(t.high, 3), "count": t.count}
            for n, t in found.steps.items()
        },
    }


def _median(values: Sequence[float]) -> float:
    """Return the middle of some numbers; `statistics` would take 3 ms to load."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
