"""Plain text: plans, events as lines, listings. Times are local, with their offset."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..decide import Cut, Decision, Reuse, word
from ..errors import printable
from ..estimate import Estimate
from ..plan import Plan
from ..record import (
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
from ..reference import Candidate
from ..review import Effect, Finding, GateReport, Remedy, are, trigger_text
from ..select import written_as
from ..settings import Changed
from ..store import RunSummary
from ..values import short
from ..verdict import Verdict
from .folding import rows

SETTINGS = 30  # keys of a runner.toml that are shown
FOLD = 40  # steps of one decision that are listed one by one


def plan_text(plan: Plan, estimate: Estimate | None = None, candidates: Sequence[Candidate] = ()) -> str:
    """Return a plan: the verdict first, the digest last."""
    out = [headline(plan, estimate)]
    if plan.reference:
        record = plan.reference.record
        out.append(f"reference  {record.id}, {record.status}   ({plan.reference.why})")
        out += [f"           {id} is newer, but {why}" for id, why in plan.reference.rejected[:5]]
        if not plan.selection.frontier:
            out.append("           nothing is reused from it")
    out.append("")
    out += _decision_lines(plan, estimate)
    if plan.pipeline.finals:
        out.append(f"  finally {', '.join(plan.pipeline.finals)}")
    notes = [f"note: {note}" for note in plan.notes]
    for lines in (param_lines(plan), gate_lines(plan), accepted_lines(plan), change_lines(plan), notes):
        out += ["", *lines] if lines else []
    for finding in plan.findings:
        out += ["", *finding_lines(finding, estimate)]
    if candidates:
        out += ["", *candidate_lines(candidates)]
    out += ["", f"plan {plan.digest}"]
    return "\n".join(map(_safe, out))


def folder_text(
    results: Sequence[tuple[str, tuple[Plan, Estimate] | str]],
    nothing: str,
    settings: Sequence[tuple[str, Changed]] = (),
) -> str:
    """Return the plans of several requests, each under the name of its file, after the settings that changed."""
    parts = ["\n".join([f"== {printable(path)}", *setting_lines(change)]) for path, change in settings]
    parts += [
        f"== {printable(path)}\n{found if isinstance(found, str) else plan_text(*found)}" for path, found in results
    ]
    return "\n\n".join(parts if results else [*parts, nothing])


def setting_lines(change: Changed) -> list[str]:
    """Return what differs in a runner.toml, a key a line."""
    if change.error:
        return [_safe(line) for line in change.error.split("\n")]
    rows = [[f"  {key[:100]}", f"{setting(base)} -> {setting(now)}"] for key, base, now in change.keys[:SETTINGS]]
    more = len(change.keys) - len(rows)
    head = f"settings: the file was {change.file}" + ("" if rows else ", and holds none")
    return [head, *table(rows), *([f"  and {more} more"] if more else [])]


def setting(value: str | None) -> str:
    """Return the value of a setting, cut where it is long."""
    return "not set" if value is None else value if len(value) <= 100 else f"{value[:100]}..."


def candidate_lines(candidates: Sequence[Candidate]) -> list[str]:
    """Return the runs that could be the reference run, the best first."""
    rows = [["REFERENCE", "STATUS", "STARTED", "STALE", "TO REDO", ""]]
    for one in candidates:
        stale = "" if one.why_not else str(one.unsound)
        redo = about(one.redo) if one.unsound and not one.why_not else ""
        rows.append([one.run, one.status, local_time(one.at), stale, redo, one.why_not])
    return table(rows)


def headline(plan: Plan, estimate: Estimate | None = None) -> str:
    """Return the verdict on a plan, with how many steps there are of each decision, and how long it takes."""
    counts: dict[str, int] = {}
    alone = {row.name for row in rows(plan) if row.one}
    for name, decision in plan.decisions.items():
        # What only joins computes nothing, and counts where it stands for all that it joins.
        if not plan.pipeline.steps[name].joins or (name in alone and isinstance(decision, Reuse)):
            counts[decision.name] = counts.get(decision.name, 0) + 1
    marks: dict[str, int] = {}
    for decision in plan.decisions.values():
        if isinstance(decision, Reuse) and not decision.verdict.sound:
            marks[decision.verdict.word] = marks.get(decision.verdict.word, 0) + 1
    doubts = ", ".join(f"{n} {word}" for word, n in marks.items())
    shown = [f"{n} {name}" + (f" ({doubts})" if name == "reuse" and doubts else "") for name, n in counts.items()]
    verdict = "NEEDS A DECISION" if plan.findings else "READY"
    line = f"{verdict}  {plan.pipeline.name}: {', '.join(shown)}" + ("   (a trial)" if plan.request.trial else "")
    if estimate and estimate.full_seconds >= 1 and plan.runs:
        more = f", {len(estimate.unknown)} never ran" if estimate.unknown else ""
        whole = f" instead of {about(estimate.full_seconds)}" if estimate.full_seconds - estimate.seconds >= 1 else ""
        line += f"   {about(estimate.seconds)}{whole}{more}"
    return line


def about(value: float) -> str:
    """Return a duration for people, in one unit or two."""
    if value < 10:
        return f"~{value:.1f}s" if value >= 0.05 else "~0s"
    if value < 90:
        return f"~{value:.0f}s"
    minutes = round(value / 60)
    return f"~{minutes}m" if minutes < 90 else f"~{minutes // 60}h {minutes % 60:02d}m"


def _safe(line: str) -> str:
    return "\n".join(printable(part) for part in line.split("\n"))


def _decision_lines(plan: Plan, estimate: Estimate | None) -> list[str]:
    shown = list(rows(plan))
    width = min(max(len(row.name) for row in shown), 32)
    lines: list[str] = []
    quiet: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for row in shown:
        decision = row.one
        counts[row.decision] = counts.get(row.decision, 0) + 1
        plain_cut = row.decision == "unneeded" or (isinstance(decision, Cut) and decision.reasons == ("not selected",))
        doubtful = isinstance(decision, Reuse) and not decision.verdict.sound
        if plain_cut or (counts[row.decision] > FOLD and not doubtful):
            quiet.setdefault(row.decision, []).append(row.name)
            continue
        said = why(decision) if decision else row.text
        lines.append(f"  {row.decision:<7} {row.name:<{width}}  {said}{_time(row.name, estimate)}")
    for decided, names in quiet.items():
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        lines.append(f"  {decided:<7} {listed}")
    return lines


def _time(name: str, estimate: Estimate | None) -> str:
    times = estimate.steps.get(name) if estimate else None
    if times is None or times.median < 1:
        return ""
    spread = f" ({about(times.low)[1:]} to {about(times.high)[1:]}, n={times.count})" if times.count > 1 else ""
    return f"   {about(times.median)}{spread}"


def why(decision: Decision) -> str:
    """Return all reasons of a decision, its verdict, and what it may end as instead."""
    text = "; ".join(decision.reasons)
    if isinstance(decision, Reuse) and decision.verdict.word != "same":
        text = f"{decision.reasons[0]}   {verdict_text(decision.verdict)}"
    may = f"   may end {' or '.join(decision.may)}" if decision.may else ""
    return text + may


def finding_lines(finding: Finding, estimate: Estimate | None = None) -> list[str]:
    """Return a finding and its remedies, ready to paste."""
    lines = [f"{finding.code} {finding.text}"]
    for index, remedy in enumerate(finding.remedies):
        first, *rest = remedy.paste.split("\n")
        lines.append(f"     {'or ' if index else ''}{first}{added_time(remedy, estimate)}")
        lines += [f"     {'   ' if index else ''}{line}" for line in rest]
    return lines


def added_time(remedy: Remedy, estimate: Estimate | None) -> str:
    """Return what a remedy costs, where that is known and worth telling."""
    more = estimate.remedies.get(remedy.steps, 0.0) if estimate else 0.0
    return f"   (+{about(more)[1:]})" if more >= 1 else ""


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict other than `same`: in capitals where it needs a decision."""
    causes = f"  {'; '.join(map(str, verdict.causes))}" if verdict.causes else ""
    evidence = f" ({verdict.evidence})" if verdict.evidence else ""
    text = f"{verdict.word if verdict.sound else verdict.word.upper()}{evidence}"
    return f"{text}{', accepted' if verdict.accepted else ''}{causes}"


def accepted_lines(plan: Plan) -> list[str]:
    """Return what the request accepts, and why."""
    return [f"accepted {a.step} {a.cause}: {printable(a.reason)}" for a in plan.request.accept]


def param_lines(plan: Plan) -> list[str]:
    """Each parameter that differs from the reference run, with its effect; and each value that is not the default."""
    effects = {e.param: e for e in plan.effects}
    rows = []
    for name, value in plan.params.items():
        source = plan.sources[name]
        if name in effects:
            effect = effects[name]
            loud = effect.word.upper() if effect.word in ("split", "shadowed") else effect.word
            rows.append((f"{name} {effect.then} -> {effect.now}", loud, effect_text(plan, effect)))
            continue
        if source == "default":
            continue
        param = plan.pipeline.params[name]
        if source == "reference":
            if value == param.default or (param.type.name in ("file", "dir") and value.endswith(str(param.default))):
                continue
            rows.append(
                (f"{name} = {_short(value)}", "", f"from the reference run; the default is {_short(param.default)}")
            )
        else:
            rows.append((f"{name} = {_short(value)}", "", "set by the request"))
    return _aligned("params", rows)


def inherited_lines(plan: Plan) -> list[str]:
    """Return each value that the reference run hands on and that is not the pipeline's default."""
    return [
        line.removeprefix("params") for line in param_lines(plan) if "from the reference run; the default is" in line
    ]


def effect_text(plan: Plan, effect: Effect) -> str:
    """Return who reads a parameter and what becomes of them."""
    chosen, above = set(plan.selection.steps), set(plan.selection.closure)
    skipped = {n for n in effect.read_by if n in chosen and plan.decisions[n].name == "skip"}
    run = [
        n + (" (skipped)" if n in skipped else "") for n in _written(plan, [n for n in effect.read_by if n in chosen])
    ]
    reused = _written(plan, [n for n in effect.read_by if n in above])
    match effect.word:
        case "effective":
            return f"read by {_names(run)}"
        case "split":
            return f"read by {_names(run)}, and by {_names(reused)}, which {are(reused)} reused"
        case "shadowed":
            return f"read only by {_names(reused)}, which {are(reused)} reused"
        case "deferred":
            return f"read only by {_names(_written(plan, effect.read_by))}, not part of this run"
    return "read by no step"


def _written(plan: Plan, names: Sequence[str]) -> list[str]:
    return written_as(names, plan.pipeline, plan.graph)


def gate_lines(plan: Plan) -> list[str]:
    """Each gate: what it was, what it would be, and both futures of one that the run decides."""
    return _aligned(
        "gates",
        [(f"`when` of {g.step}" if g.field == "when" else g.step, "", gate_state(plan, g)) for g in plan.gates],
    )


def gate_state(plan: Plan, gate: GateReport) -> str:
    """Return what is known of a gate, in a few words."""
    was = f" (it was {word(gate.was)} in {plan.reference.record.id})" if gate.was is not None and plan.reference else ""
    then, other = ", ".join(gate.then) or "nothing", ", ".join(gate.otherwise) or "nothing"
    match gate.decision:
        case "run" if gate.now is None:
            return f"decided by this run: if true {then}, if false {other}{was}"
        case "run":
            return f"{word(gate.now)}: {then if gate.now else other} may run{was}"
        case "assumed":
            return f"assumed {word(gate.now)}{was}"
    if gate.field == "approval":
        return f"it was {gate.values[0][1]}, today it would be asked again"
    if gate.field == "gate":
        return trigger_text(bool(gate.was), gate.now, gate.values[0][2])
    values = ", ".join(f"{n} {then} -> {now}" if then != now else f"{n} {now}" for n, then, now in gate.values)
    today = "not known" if gate.now is None else word(gate.now)
    return f"it was {'assumed ' if gate.assumed else ''}{word(gate.was)}, today it would be {today}" + (
        f" ({values})" if values else ""
    )


def change_lines(plan: Plan) -> list[str]:
    """The changed lines of the code of reused steps."""
    out = []
    for change in plan.code_changes:
        out += [
            f"code     {change.path} {short(change.then)} -> {short(change.now)}",
            *(f"         {line}" for line in change.lines),
        ]
    return out


def _aligned(title: str, rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return rows under a title: what, a word on it, and the rest."""
    if not rows:
        return []
    widths = [min(max(len(row[i]) for row in rows), 80) for i in range(2)]
    lines = []
    for index, (first, second, third) in enumerate(rows):
        middle = f"   {second:<{widths[1]}}" if widths[1] else ""
        lines.append(f"{title if index == 0 else '':<8} {first:<{widths[0]}}{middle}   {third}".rstrip())
    return lines


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- events -----------------------------------------------------------------------------------------------------

MARKS = {"succeeded": "ok", "reused": "reused", "cached": "cached", "skipped": "skipped", "failed": "FAILED", "upstream_failed": "not run", "not_run": "not run", "stopped": "stopped"}  # fmt: skip


def event_lines(event: Event, estimate: float = 0.0) -> list[str]:
    """Return an event as lines of text; some say nothing. `estimate` is what was expected of the run, in seconds."""
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
        case StepWaiting():
            return [_safe(f"  {event.step}: waits for {_awaited(event)}")]
        case ResultAwaited():
            by = f"step {event.by}" if event.by else f"run {event.run}" if event.run else "another run"
            return [_safe(f"  {event.step}: waits for its result, which {by} is making")]
        case MessageRefused():
            goes_on = f"{event.step}: goes on waiting; refused" if event.step else "inbox: refused"
            return [_safe(f"  {goes_on} {event.reason}")]
        case RunWaiting():
            return [f"run waits for {', '.join(event.steps)}; its runner ends here", *_answers(event.run, event.steps)]
        case RunStopping():
            return [f"stopping ({event.reason}): running steps may end; again to kill them"]
        case RunEnded():
            return run_end_lines(event, estimate)
    return []


def _awaited(waiting: StepWaiting) -> str:
    until = f" until {local_time(waiting.until)}" if waiting.until else ""
    what = "approval" if waiting.kind == "approval" else f"the values {', '.join(waiting.outputs)}"
    return f"{what}{until}" + (f": {waiting.message}" if waiting.message else "")


def _answers(run: str, steps: Mapping[str, str]) -> list[str]:
    """Return the commands by which a run that waits goes on; `steps` has the kind of each step that waits."""
    import shlex  # only for a run that waits

    words = {"approval": "approve", "callback": "callback"}
    answers = [
        f"  runner {words[kind]} {run} {shlex.quote(step)}" + (" NAME=VALUE" if kind == "callback" else "")
        for step, kind in list(steps.items())[:5]
    ]
    return [*answers, f"  runner resume {run}"]


def step_end(event: StepEnded) -> str:
    """Return how a step ended, in one line."""
    match event.status:
        case "succeeded" if event.recipe.get("kind") == "foreach":
            count = len(event.recipe["items"])
            return f"ok, {count} {'item' if count == 1 else 'items'}"
        case "succeeded" if event.recipe.get("kind") == "pipeline":
            return "ok"
        case "succeeded" if event.reason:
            return f"ok, {event.reason}"
        case "succeeded" if event.taken is not None:
            return f"ok, {'true' if event.taken else 'false'}"
        case "succeeded":
            metrics = "".join(f", {name} {number(value)}" for name, value in event.metrics.items())
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


def run_end_lines(event: RunEnded, estimate: float = 0.0) -> list[str]:
    expected = ", as expected," if event.status != "succeeded" and not event.exit_code else ""
    estimated = f" ({about(estimate)} was estimated)" if estimate >= 1 else ""
    lines = [
        f"run {event.status}{expected} in {seconds(event.seconds)}{estimated}"
        + (f": {_safe(event.reason)}" if event.reason else "")
    ]
    lines += [
        f"  {name} = {_short(value if not isinstance(value, dict) else value.get('name', value))}"
        for name, value in event.outputs.items()
    ]
    return lines


def number(value: Any) -> str:
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
    took += f", {about(started.estimate)} was estimated" if ended and started.estimate >= 1 else ""
    out.append(f"started    {local_time(started.at)}{took}")
    if ended and ended.reason:
        out.append(f"reason     {ended.reason}")
    for accepted in started.accepted:
        out.append(f"accepted   {accepted['step']} {accepted['cause']}: {accepted['reason']}")
    out.append("")
    rows = []
    statuses = record.statuses
    for name in statuses:
        if name in record.steps:
            end = record.steps[name]
            rows.append([f"  {statuses[name]}", name, _origin(end)])
        elif name in record.waiting:
            rows.append(["  waiting", name, f"for {_awaited(record.waiting[name])}"])
        else:
            rows.append(
                [
                    f"  {statuses[name]}",
                    name,
                    started.decisions.get(name, "") if statuses[name] == "not_selected" else "",
                ]
            )
    out += table(rows)
    for name, end in record.steps.items():
        if lines := tail_lines(end):
            out += ["", f"the end of what {name} printed", *(f"  | {line}" for line in lines)]
    if record.status == "waiting" and not record.alive:
        out += ["", "to go on", *_answers(record.id, {n: w.kind for n, w in record.waiting.items()})]
    params = [[f"  {name}", f"= {value}", started.sources.get(name, "")] for name, value in started.params.items()]
    if params:
        out += ["", "params", *table(params)]
    if ended and ended.outputs:
        out += ["", "outputs", *table([[f"  {n}", f"= {_short(v)}"] for n, v in ended.outputs.items()])]
    return "\n".join(_safe(line) for line in out)


def output_text(output: Mapping[str, Any]) -> str:
    """Return what an output is, in a few words."""
    if output.get("digest"):
        return short(output["digest"])
    if "items" in output:
        there = [item for item in output["items"] if item]
        return (
            f"{len(there)} of {len(output['items'])} there"
            if len(there) < len(output["items"])
            else f"{len(there)} items"
        )
    return f"= {_short(output.get('value'))}"


def _origin(end: StepEnded) -> str:
    parts = []
    if end.status in ("reused", "cached") and end.produced_by:
        via = f" via {end.reused_from}" if end.reused_from and end.reused_from != end.produced_by else ""
        parts.append(f"produced by {end.produced_by}{via}")
    elif end.status == "succeeded" and end.recipe.get("kind") in ("foreach", "pipeline"):
        pass
    elif end.status == "succeeded" and end.taken is None and not end.reason:
        parts.append(seconds(end.seconds))
    elif end.reason:
        parts.append(end.reason)
    if end.taken is not None:
        parts.append("true" if end.taken else "false")
    for name, output in end.outputs.items():
        if name.startswith("."):
            continue
        parts.append(f"{name} {output_text(output)}")
    return ", ".join(parts)
