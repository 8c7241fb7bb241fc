"""Plain text: plans, events as lines, listings. Times are local, with their offset."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..decide import Cached, Cut, Decision, Reuse, Run, Unneeded
from ..errors import printable
from ..plan import Plan
from ..record import AttemptFailed, Event, RunEnded, RunRecord, RunStarted, RunStopping, StepEnded, StepStarted
from ..review import Finding
from ..store import RunSummary
from ..values import short
from ..verdict import Verdict

FOLD = 40  # steps of one decision that are listed one by one


def plan_text(plan: Plan) -> str:
    """Return a plan: the verdict first, the digest last."""
    counts: dict[str, int] = {}
    for decision in plan.decisions.values():
        counts[decision.name] = counts.get(decision.name, 0) + 1
    stale = sum(1 for d in plan.decisions.values() if isinstance(d, Reuse) and not d.verdict.sound)
    shown = [f"{n} {name}" + (f" ({stale} stale)" if name == "reuse" and stale else "") for name, n in counts.items()]
    verdict = "NEEDS A DECISION" if plan.findings else "READY"
    out = [f"{verdict}  {plan.pipeline.name}: {', '.join(shown)}" + ("   (a trial)" if plan.request.trial else "")]
    if plan.reference:
        record = plan.reference.record
        out.append(f"reference  {record.id}, {record.status}   ({plan.reference.why})")
        out += [f"           {id} is newer, but {why}" for id, why in plan.reference.rejected[:5]]
        if not plan.selection.frontier:
            out.append("           nothing is reused from it")
    out.append("")
    out += _decision_lines(plan)
    changed = _param_lines(plan)
    if changed:
        out += ["", *changed]
    if plan.notes:
        out += ["", *(f"note: {note}" for note in plan.notes)]
    for finding in plan.findings:
        out += ["", *finding_lines(finding)]
    out += ["", f"plan {plan.digest}"]
    return "\n".join(map(_safe, out))


def _safe(line: str) -> str:
    return "\n".join(printable(part) for part in line.split("\n"))


def _decision_lines(plan: Plan) -> list[str]:
    width = max(len(name) for name in plan.decisions)
    width = min(width, 32)
    lines: list[str] = []
    quiet: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for name, decision in plan.decisions.items():
        counts[decision.name] = counts.get(decision.name, 0) + 1
        plain_cut = isinstance(decision, Unneeded) or (
            isinstance(decision, Cut) and decision.reasons == ("not selected",)
        )
        if plain_cut or counts[decision.name] > FOLD:
            quiet.setdefault(decision.name, []).append(name)
            continue
        lines.append(f"  {decision.name:<7} {name:<{width}}  {_why(decision)}")
    for word, names in quiet.items():
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        lines.append(f"  {word:<7} {listed}")
    return lines


def _why(decision: Decision) -> str:
    why = "; ".join(decision.reasons)
    if isinstance(decision, Reuse) and decision.verdict.word != "same":
        why = f"{decision.reasons[0]}   {verdict_text(decision.verdict)}"
    may = f"   may end {' or '.join(decision.may)}" if decision.may else ""
    return why + may


def finding_lines(finding: Finding) -> list[str]:
    """Return a finding and its remedies, ready to paste."""
    remedies = [f"     {'or ' if i else ''}{remedy.paste}" for i, remedy in enumerate(finding.remedies)]
    return [f"{finding.code} {finding.text}", *remedies]


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict other than `same`: in capitals where it needs a decision."""
    causes = f"  {'; '.join(map(str, verdict.causes))}" if verdict.causes else ""
    evidence = f" ({verdict.evidence})" if verdict.evidence else ""
    text = f"{verdict.word if verdict.sound else verdict.word.upper()}{evidence}"
    return f"{text}{', accepted' if verdict.accepted else ''}{causes}"


def _param_lines(plan: Plan) -> list[str]:
    """Each parameter that is not the pipeline's default, and where it comes from."""
    lines = []
    for name, value in plan.params.items():
        source = plan.sources[name]
        if source == "default":
            continue
        before = plan.reference.record.started.params.get(name) if plan.reference else None
        param = plan.pipeline.params[name]
        if source == "reference":
            if value == param.default or (param.type.name in ("file", "dir") and value.endswith(str(param.default))):
                continue
            lines.append(f"{name} = {_short(value)}   from the reference run; the default is {_short(param.default)}")
        elif plan.reference and before != value:
            lines.append(f"{name} = {_short(value)}   was {_short(before)}")
        else:
            lines.append(f"{name} = {_short(value)}   set by the request")
    return [f"{'params' if i == 0 else '':<8} {line}" for i, line in enumerate(lines)]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- events -----------------------------------------------------------------------------------------------------

MARKS = {"succeeded": "ok", "reused": "reused", "cached": "cached", "skipped": "skipped", "failed": "FAILED", "upstream_failed": "not run", "not_run": "not run", "stopped": "stopped"}  # fmt: skip


def event_lines(event: Event) -> list[str]:
    """Return an event as lines of text; some say nothing."""
    match event:
        case RunStarted():
            of = f", reference {event.reference}" if event.reference else ""
            return [f"run {event.run} of {event.pipeline}{of}"]
        case StepStarted(attempt=attempt):
            return [f"  {event.step}: started" + (f" (attempt {attempt})" if attempt > 1 else "")]
        case AttemptFailed():
            return [
                _safe(
                    f"  {event.step}: attempt {event.attempt} failed: {event.message}; the next one in {event.wait:g} s"
                )
            ]
        case StepEnded():
            return [
                _safe(f"  {event.step}: {step_end(event)}"),
                *(f"    | {line}" for line in tail_lines(event)),
                *(f"    note: {_safe(n)}" for n in event.notes),
            ]
        case RunStopping():
            return [f"stopping ({event.reason}): running steps may end; again to kill them"]
        case RunEnded():
            return run_end_lines(event)
    return []


def step_end(event: StepEnded) -> str:
    """Return how a step ended, in one line."""
    match event.status:
        case "succeeded" if event.taken is not None:
            return f"ok, {'true' if event.taken else 'false'}"
        case "succeeded":
            metrics = "".join(f", {name} {_number(value)}" for name, value in event.metrics.items())
            return f"ok in {seconds(event.seconds)}{metrics}"
        case "failed":
            return f"FAILED: {event.reason}"
        case "reused" | "cached":
            return f"{event.status}, {event.reason}"
        case status:
            return f"{MARKS[status]}: {event.reason}"


def tail_lines(event: StepEnded) -> list[str]:
    """Return the last lines that a failed step printed."""
    return [printable(line)[:200] for line in event.tail.splitlines()[-8:]]


def run_end_lines(event: RunEnded) -> list[str]:
    expected = ", as expected," if event.status != "succeeded" and not event.exit_code else ""
    lines = [
        f"run {event.status}{expected} in {seconds(event.seconds)}"
        + (f": {_safe(event.reason)}" if event.reason else "")
    ]
    lines += [
        f"  {name} = {_short(value if not isinstance(value, dict) else value.get('name', value))}"
        for name, value in event.outputs.items()
    ]
    return lines


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s"


# --- listings ---------------------------------------------------------------------------------------------------


def local_time(value: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value))


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] if rows else []
    return [
        "  ".join([*(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows
    ]


def runs_text(runs: Sequence[RunSummary]) -> str:
    rows = [["RUN", "PIPELINE", "STATUS", "STARTED", "TIME", "REQUEST"]]
    for run in runs:
        took = seconds(run.seconds) if run.seconds is not None else ""
        name = run.title or run.request or run.path
        rows.append(
            [run.run, run.pipeline, run.status + (" (trial)" if run.trial else ""), local_time(run.started), took, name]
        )
    return "\n".join(table(rows))


def show_text(record: RunRecord) -> str:
    """Return all that is known of a run."""
    started, ended = record.started, record.ended
    out = [
        f"run        {record.id}   {record.status}"
        + (f", exit code {ended.exit_code}" if ended else "")
        + ("   (a trial)" if started.trial else "")
    ]
    out.append(f"pipeline   {started.pipeline}   ({started.path}, {short(started.definition)})")
    if path := started.request.get("path"):
        out.append(f"request    {path}" + (f"   ({started.title})" if started.title else ""))
    if started.reference:
        out.append(f"reference  {started.reference}")
    took = f", {seconds(ended.seconds)}" if ended else ""
    out.append(f"started    {local_time(started.at)}{took}")
    if ended and ended.reason:
        out.append(f"reason     {ended.reason}")
    for accepted in started.accepted:
        out.append(f"accepted   {accepted['step']} {accepted['cause']}: {accepted['reason']}")
    out.append("")
    rows = []
    statuses = record.statuses
    for name in started.decisions:
        if name in record.steps:
            end = record.steps[name]
            rows.append([f"  {statuses[name]}", name, _origin(end)])
        else:
            rows.append(
                [f"  {statuses[name]}", name, started.decisions[name] if statuses[name] == "not_selected" else ""]
            )
    out += table(rows)
    params = [[f"  {name}", f"= {value}", started.sources.get(name, "")] for name, value in started.params.items()]
    if params:
        out += ["", "params", *table(params)]
    if ended and ended.outputs:
        out += ["", "outputs", *table([[f"  {n}", f"= {_short(v)}"] for n, v in ended.outputs.items()])]
    return "\n".join(_safe(line) for line in out)


def _origin(end: StepEnded) -> str:
    parts = []
    if end.status in ("reused", "cached") and end.produced_by:
        via = f" via {end.reused_from}" if end.reused_from and end.reused_from != end.produced_by else ""
        parts.append(f"produced by {end.produced_by}{via}")
    elif end.status == "succeeded" and end.taken is None:
        parts.append(seconds(end.seconds))
    elif end.reason:
        parts.append(end.reason)
    if end.taken is not None:
        parts.append("true" if end.taken else "false")
    for name, output in end.outputs.items():
        parts.append(
            f"{name} {short(output['digest'])}" if output.get("digest") else f"{name} = {_short(output.get('value'))}"
        )
    return ", ".join(parts)


def ran(plan: Plan) -> bool:
    """Whether the plan would run anything."""
    return any(isinstance(d, Run) for d in plan.decisions.values())


def kept(plan: Plan) -> int:
    return sum(isinstance(d, Reuse | Cached) for d in plan.decisions.values())
