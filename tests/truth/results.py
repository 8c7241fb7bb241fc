"""P1 and P3: what a run left is what a full run leaves, and no step ends as its plan excludes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .project import ROOT, Shape, refs, template
from .worlds import Run

Json = dict[str, Any]
Wrong = Callable[[str, str, str], None]  # property, what is wrong, where

GOOD = ("succeeded", "cached", "reused")
UNKNOWN = ("not_run", "stopped", "interrupted", "pending", "waiting", "running")


def doubtful(plan: Json, shape: Shape) -> set[str]:
    """Return the steps, as in the documents, that the plan has a finding on, open or accepted."""
    named = {template(f["subject"]) for f in plan["findings"]} | {template(a["step"]) for a in plan["accepted"]}
    named |= {template(subject) for subject in plan.get("settled", ())}
    readers = {step for step, read in shape.params.items() if read & named}
    return (named & set(shape.steps)) | readers


def excused(name: str, doubt: set[str], shape: Shape) -> bool:
    """Whether a step is in doubt, or comes after one that is."""
    own = template(name)
    return bool(({own} | shape.above(own)) & doubt)


def check_plan(plan: Json, reference: Run | None, full: Run, shape: Shape, wrong: Wrong) -> None:
    """P1 before anything runs: what is taken from elsewhere is what a full run makes."""
    doubt = doubtful(plan, shape)
    for name, step in plan["steps"].items():
        if step["decision"] in ("reuse", "cached") and not plan["request"]["trial"] and not excused(name, doubt, shape):
            status = _taken_over(name, reference) if step["decision"] == "reuse" else "cached"
            same_step(name, {**step, "status": status}, full, wrong)


def _taken_over(name: str, reference: Run | None) -> str:
    """Return the status of a step that is reused: what was skipped is reused as skipped."""
    skipped = reference and reference.steps.get(name, {}).get("status") == "skipped"
    return "skipped" if skipped else "reused"


def check_run(run: Run, full: Run, shape: Shape, wrong: Wrong) -> None:
    """P1 of all steps of a run, and of the pipeline's outputs."""
    if run.plan["request"]["trial"]:
        return
    doubt = doubtful(run.plan, shape)
    for name, step in run.steps.items():
        short = step["status"] == "upstream_failed" and _cut_short(name, run, shape)
        if name not in run.finals and not excused(name, doubt, shape) and not short:
            same_step(name, step, full, wrong)
    for name, value in run.outputs.items():
        near = refs(run.project["docs"][ROOT].get("outputs", {}).get(name, ""))
        known = name in full.outputs or full.status == "succeeded"
        if any(side.steps.get(n, {}).get("status") in UNKNOWN for n in near for side in (run, full)):
            continue  # a run failed first
        if known and not any(excused(n, doubt, shape) for n in near) and value != full.outputs.get(name):
            wrong("P1", f"it is {value}, in a full run {full.outputs.get(name)}", f"outputs.{name}")
    if _whole(run) and _definite(run) and _definite(full) and run.status == full.status and not doubt:
        for name in run.finals:
            if name in full.steps:
                same_step(name, run.steps.get(name, {"status": "absent"}), full, wrong)


def _cut_short(name: str, run: Run, shape: Shape) -> bool:
    """Whether a step was not reached since the run had failed elsewhere."""
    near = {template(name)} | shape.above(template(name))
    return any(template(n) in near and s["status"] in UNKNOWN for n, s in run.steps.items())


def _whole(run: Run) -> bool:
    return all(s["decision"] not in ("cut", "unneeded") for s in run.plan["steps"].values())


def _definite(run: Run) -> bool:
    return all(s["status"] not in UNKNOWN for s in run.steps.values())


def same_step(name: str, step: Json, full: Run, wrong: Wrong) -> None:
    """Compare how a step ended, and what it left, with the full run."""
    there = _in_full(name, full)
    mine, theirs = left(step), left(there)
    if {mine[0], theirs[0]} & {*UNKNOWN, "not_selected"} or mine == theirs:
        return
    if mine[0] == "skipped" and theirs[0] == "upstream_failed":
        return  # it ran nothing: the full run failed before its `when` could be asked
    if mine[0] != theirs[0]:
        wrong("P1", f"it is {step['status']}, in a full run {there['status']} ({there.get('reason', '')})", name)
    elif mine[1] != theirs[1]:
        wrong("P1", f"it decided {mine[1]}, in a full run {theirs[1]}", name)
    else:
        wrong("P1", f"it left {mine[2]}, in a full run {theirs[2]}", name)


def _in_full(name: str, full: Run) -> Json:
    """Return a step of the full run. An item that is not there ended as what it is an item of, where that did not start."""
    outer = name
    while outer and outer not in full.steps:
        outer = outer.rpartition("/" if outer.rfind("/") > outer.rfind("[") else "[")[0]
    there: Json = full.steps.get(outer, {"status": "absent"})
    started = outer != name and there["status"] in (*GOOD, "failed")
    return {"status": "absent"} if started else there


def left(step: Json) -> tuple[str, Any, Any]:
    """Return how a step ended, what it decided and the bytes that it left; only what succeeded has the latter two."""
    if step["status"] not in GOOD:
        return step["status"], None, None
    return "good", step.get("taken"), _bytes(step.get("outputs", {}))


def _bytes(outputs: Any) -> Any:
    """Return outputs without what tells where they were made, and without what follows from the names of items (`.count`)."""
    if isinstance(outputs, dict):
        return {k: _bytes(v) for k, v in outputs.items() if k not in ("run", "size") and not k.startswith(".")}
    return [_bytes(v) for v in outputs] if isinstance(outputs, list) else outputs


def within(run: Run, reference: Run | None, wrong: Wrong) -> None:
    """P3."""
    for name, step in run.plan["steps"].items():
        ended = run.steps.get(name, {"status": "not_selected"})["status"]
        if ended not in {*_ends(step, run), *([_taken_over(name, reference)] if step["decision"] == "reuse" else [])}:
            wrong("P3", f"decision {step['decision']}, may {step['may']}, ended {ended}", name)


def _ends(step: Json, run: Run) -> Iterator[str]:
    """Yield how a step may end by its plan."""
    decision = step["decision"]
    if decision in ("cut", "unneeded"):
        yield "not_selected"
        return
    if run.status == "failed":
        yield from ("not_run", "stopped", "interrupted", "pending")
    if any(s["status"] in ("failed", "upstream_failed") for s in run.steps.values()):
        yield "upstream_failed"
    reused = ("reused", *(["skipped"] if step.get("skipped_there") else []))
    ends = {"run": ("succeeded", "failed", *step["may"]), "reuse": reused, "cached": ("cached",), "skip": ("skipped",)}
    yield from ends[decision]


def check_retry(plan: Json, run: Run, wrong: Wrong) -> None:
    """P4: a retry takes up all that the run had to do and did not, wherever that is there still."""
    for name, step in plan["steps"].items():
        was = run.decisions.get(name) in ("run", "cached") and run.steps.get(name, {}).get("status", "not_run")
        if was in ("failed", "upstream_failed", "not_run", "stopped") and step["decision"] in (
            "cut",
            "unneeded",
            "reuse",
        ):
            wrong("P4", f"it ended {was} in the run, and the retry leaves it out: {step['decision']}", f"retry {name}")
