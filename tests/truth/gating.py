"""P7: whether a step started is what the language says of the states of those before it.

Judged for the steps of the outer pipeline that are neither fan-outs nor inner pipelines: there the record has the states of
all that comes before. Where a `when` has a say, only a start that must not be is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .project import ROOT, Doc, Shape, refs, unguarded
from .worlds import Run

FINE = ("succeeded", "cached", "reused")
FAILED = ("failed", "upstream_failed")


def check(run: Run, shape: Shape, wrong: Callable[[str, str, str], None]) -> None:
    """Judge every step that a run decided about."""
    for name, step in run.project["docs"][ROOT]["steps"].items():
        ended = run.steps.get(name, {}).get("status")
        if (
            step["kind"] not in ("shell", "condition")
            or "foreach" in step
            or run.decisions.get(name) not in ("run", "skip")
        ):
            continue
        if ended not in (*FINE, *FAILED, "skipped"):
            continue
        blocks = blocked(name, step, run, shape)
        if blocks is None:
            continue
        if blocks and ended in (*FINE, "failed"):
            wrong("P7", f"it ended {ended} although {blocks}", name)
        if not blocks and "when" not in step and ended in ("skipped", "upstream_failed"):
            wrong("P7", f"it ended {ended} although nothing holds it up ({run.steps[name].get('reason')})", name)


def blocked(name: str, step: Doc, run: Run, shape: Shape) -> str | None:
    """Return what keeps a step from starting, "" where nothing does, None where that is not known."""
    bare = {k: v for k, v in step.items() if k not in ("script", "then", "else")}
    hard = unguarded(bare) | set(step.get("needs", []))
    near = hard | refs(bare)
    gate = shape.branch.get(name)
    states: dict[str, Any] = {n: run.steps.get(n, {}).get("status") for n in (*near, *([gate[0]] if gate else []))}
    if any(s not in (*FINE, *FAILED, "skipped") for s in states.values()):
        return None
    if gate and states[gate[0]] == "skipped" and step.get("trigger"):
        return None
    if gate and states[gate[0]] != "skipped" and states[gate[0]] in FINE and run.steps[gate[0]].get("taken") != gate[1]:
        return f"{gate[0]} is {not gate[1]}".lower()
    if gate:
        hard = hard | {gate[0]}
        near = near | {gate[0]}
    for other in sorted(near):
        if states[other] in FAILED and not (tolerated(other, run) and other not in hard):
            return f"{other} ended {states[other]}"
        if states[other] == "skipped" and other in hard and not step.get("trigger"):
            return f"{other} was skipped"
    return ""


def tolerated(name: str, run: Run) -> bool:
    """Whether the failure of a step, or of what comes before it, holds back no reader that can do without."""
    step: Doc = run.project["docs"][ROOT]["steps"].get(name, {})
    return bool(step.get("on_failure") == "continue")
