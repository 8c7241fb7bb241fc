"""Step x how its predecessors ended -> start, wait, skip or upstream_failed. The rules are in docs/language.md."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .frozen import frozen
from .pipeline import Step

GOOD = frozenset({"succeeded", "cached", "reused"})


@frozen
class Wait:
    """A predecessor has not ended."""


@frozen
class Start:
    """Nothing stands in the way but the step's own `when`."""


@frozen
class Closed:
    """The step will not start: it is `skipped` or `upstream_failed`, by the step that caused it."""

    status: str
    reason: str
    by: str


def gate(
    step: Step, ends: Mapping[str, str], taken: Mapping[str, bool | None], tolerated: Collection[str] = ()
) -> Wait | Start | Closed:
    """Return whether `step` may start. `ends` lacks the steps that have not ended; `tolerated` may fail.

    It waits for all its predecessors, so that what it becomes does not depend on which ends first.
    """
    before = sorted(step.before)
    if any(name not in ends for name in before):
        return Wait()
    if skipped := skips(step, ends, taken):
        return skipped
    if step.joins and (closed := _lacks_parts(step, ends, tolerated)):
        return closed
    stopped = ""
    for name in before:
        end = ends[name]
        if step.kind == "foreach" and name in step.reads:
            continue  # of the items only failures count, and those were looked at
        is_gate = step.branch is not None and name == step.branch.condition
        if end in GOOD or end == "skipped" or (step.trigger == "all_done" and not is_gate):
            continue
        if end in ("failed", "upstream_failed") and name in tolerated and _does_without(step, name, end):
            continue
        if end in ("failed", "upstream_failed"):
            return Closed("upstream_failed", f"{name} {'failed' if end == 'failed' else 'ended upstream_failed'}", name)
        stopped = stopped or name
    return Closed("not_run", f"{stopped} was stopped", stopped) if stopped else Start()


def skips(step: Step, ends: Mapping[str, str], taken: Mapping[str, bool | None]) -> Closed | None:
    """Return what keeps `step` from starting however all else ends; `ends` may lack predecessors.

    It comes before failures: what is skipped is skipped, whether a predecessor fails or is not looked at any more.
    """
    branch = step.branch
    end = ends.get(branch.condition) if branch else None
    if branch is not None and end == "skipped":
        return Closed("skipped", f"{branch.condition} was skipped", branch.condition)
    if branch is not None and end in GOOD and (outcome := taken.get(branch.condition)) is not branch.outcome:
        return Closed("skipped", f"{branch.condition} is {'true' if outcome else 'false'}", branch.condition)
    for name in sorted([name for name in step.before if ends.get(name) == "skipped"]):
        if step.kind == "foreach" and name in step.reads:
            continue  # an item that its own `when` skips leaves null
        if not _does_without(step, name, "skipped"):
            return Closed("skipped", f"{name} was skipped", name)
    return None


def _lacks_parts(step: Step, ends: Mapping[str, str], tolerated: Collection[str]) -> Closed | None:
    """Return why the items of a fan-out, or the steps of an inner pipeline, cannot be joined."""
    bad = [name for name in (step.items or sorted(step.reads)) if ends[name] in ("failed", "upstream_failed")]
    if step.on_failure == "continue" and step.kind == "foreach":
        bad = []  # they leave null
    elif step.on_failure != "continue":
        bad = [name for name in bad if name not in tolerated]
    if bad:
        what = f"{len(bad)} of {len(step.items)} items failed: " if step.items else ""
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        failed = "" if step.items else " failed"
        return Closed("upstream_failed", f"{what}{', '.join(bad[:3])}{more}{failed}", bad[0])
    stopped = [
        name
        for name in (step.items or sorted(step.reads))
        if ends[name] not in (*GOOD, "skipped", "failed", "upstream_failed")
    ]
    if stopped:
        return Closed(
            "not_run", f"{stopped[0]} {'was stopped' if ends[stopped[0]] == 'stopped' else 'did not run'}", stopped[0]
        )
    return None


def _does_without(step: Step, name: str, end: str) -> bool:
    """Whether `step` may start although `name` left nothing."""
    if step.trigger == "all_done" or (step.trigger == "none_failed" and end == "skipped"):
        return True
    return name in step.reads and name not in step.unguarded and name not in step.needs
