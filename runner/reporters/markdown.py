"""A plan as Markdown, for one comment in a review: findings first, the rest folded, nothing in it a reader could forge.

What a person wrote (values, paths, reasons) stands in code spans, where no mention, link, table or HTML begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ..decide import Reuse
from ..errors import printable
from ..estimate import Estimate
from ..plan import Plan
from ..reference import Candidate
from ..review import Finding
from ..settings import Changed
from . import folding
from .text import (
    SETTINGS,
    accepted_lines,
    added_time,
    change_lines,
    effect_text,
    gate_state,
    headline,
    inherited_lines,
    setting,
    why,
)

MARKER = "<!-- runner plan -->"  # finds the comment again
LIMIT = 60_000  # characters; what hosts of reviews take is a little more
MOST_SETTINGS = 3
NODES = 120  # steps in a drawing; more is not read
_PLAIN = re.compile(r"(?!.*(?:://|www\.|GH-\d))[A-Za-z0-9 .,;:()=%/+>-]*\Z")
_FOOT = "planning ran no code of this repository"


def plan_markdown(plan: Plan, estimate: Estimate | None = None, candidates: Sequence[Candidate] = ()) -> str:
    """Return the plan as Markdown of at most LIMIT characters."""
    return "\n".join([MARKER, *_section(plan, estimate, LIMIT - len(MARKER) - 1, "")])


def folder_markdown(
    results: Sequence[tuple[str, tuple[Plan, Estimate] | str]],
    nothing: str,
    settings: Sequence[tuple[str, Changed]] = (),
) -> str:
    """Return the plans of several requests as one comment, after the settings that changed."""
    out = [MARKER]
    for path, change in settings[:MOST_SETTINGS]:
        out += [*_settings(path, change), ""]
    if len(settings) > MOST_SETTINGS:
        out += [f"and {len(settings) - MOST_SETTINGS} more changed files runner.toml", ""]
    if not results:
        return "\n".join([*out, _text(nothing), "", _FOOT])
    size, left = sum(len(line) + 1 for line in out), 0
    share = (LIMIT - size - 100) // len(results)
    for path, found in results:
        if isinstance(found, str):
            part = [f"### {span(path)} cannot be planned", "", *_fence(found, share - 200), ""]
        else:
            part = [*_section(*found, max(share, 400), path), ""]
        size += sum(len(line) + 1 for line in part)
        if size > LIMIT - 200:
            left += 1
            continue
        out += part
    return "\n".join([*out, f"and {left} more requests: `runner plan` lists them"] if left else out)


def _settings(path: str, change: Changed) -> list[str]:
    """Return what differs in a runner.toml as a table."""
    head = f"### {span(path)}: the settings were {change.file}"
    if change.error:
        return [head, "", *_fence(change.error, 2000)]
    rows = [
        f"| {_cell(key[:100])} | {_cell(setting(base))} | {_cell(setting(now))} |"
        for key, base, now in change.keys[:SETTINGS]
    ]
    more = len(change.keys) - len(rows)
    tail = [f"and {more} more"] if more else []
    return [
        head,
        "",
        *(["| setting | before | now |", "|---|---|---|", *rows] if rows else ["It holds no settings."]),
        *tail,
    ]


def _section(plan: Plan, estimate: Estimate | None, limit: int, path: str) -> list[str]:
    """Return a plan in at most `limit` characters: all that is needed to decide, then what there is room for."""
    head = headline(plan, estimate)
    out = [f"### {f'{span(path)}: ' if path else ''}{_text(head)}", ""]
    if plan.reference:
        record = plan.reference.record
        out += [f"Reference run `{record.id}`, {record.status}: {_text(plan.reference.why)}", ""]
    foot = [f"`{plan.digest}` · {_FOOT}"]
    room = limit - sum(len(line) + 1 for line in [*out, *foot])
    findings = list(_findings(plan.findings, estimate, room - 100))
    out += findings
    room -= sum(len(line) + 1 for line in findings)
    for part in (
        _table(plan),
        _params(plan),
        _gates(plan),
        _drawing(plan),
        _changes(plan),
        _notes(plan),
        _rejected(plan),
    ):
        fitted = list(_fit(part, room))
        out += fitted
        room -= sum(len(line) + 1 for line in fitted)
    return [*out, *foot]


def _fit(part: Sequence[str], room: int) -> Iterator[str]:
    """Yield a part, without the end of its rows where there is no room for all; nothing where there is hardly any."""
    if sum(len(line) + 1 for line in part) <= room:
        yield from part
        return
    rows = [i for i, line in enumerate(part) if line.startswith("| ") and not line.startswith("| decision")]
    while rows and sum(len(line) + 1 for line in part) + 60 > room:
        cut = max(1, len(rows) // 4)
        part = [line for i, line in enumerate(part) if i not in set(rows[-cut:])]
        kept = len(rows) - cut
        rows = [i for i, line in enumerate(part) if line.startswith("| ") and not line.startswith("| decision")][:kept]
    if rows:
        last = rows[-1]
        yield from [*part[: last + 1], "| … | | more than fit here: `runner plan` lists them |", *part[last + 1 :]]


def _findings(findings: Sequence[Finding], estimate: Estimate | None, room: int) -> Iterator[str]:
    """Yield whole findings; a remedy that is printed already is not repeated. What does not fit is counted."""
    told: set[str] = set()
    for index, finding in enumerate(findings):
        lines = [f"- **{finding.code}** {_text(finding.text)}"]
        for remedy in finding.remedies:
            if remedy.paste not in told:
                paste = ", ".join(remedy.paste.split("\n"))
                lines.append(f"  - {span(paste)}{_text(added_time(remedy, estimate))}")
        size = sum(len(line) + 1 for line in lines)
        if size > room:
            yield f"- **and {len(findings) - index} more findings**, too long for a comment: `runner plan` prints them all"
            break
        told |= {r.paste for r in finding.remedies}
        room -= size
        yield from lines
    if findings:
        yield ""


def _folded(title: str, lines: Iterable[str]) -> list[str]:
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>", ""]


def _table(plan: Plan) -> list[str]:
    lines = {False: [], True: []}  # type: dict[bool, list[str]]
    for row in folding.rows(plan):
        said = why(row.one) if row.one else " ".join(row.text.split())
        lines[row.decision in ("cut", "unneeded")].append(f"| {row.decision} | {_cell(row.name)} | {_cell(said)} |")
    rows, rest = lines[False], lines[True]
    head = ["| decision | step | why |", "|---|---|---|"]
    return [
        *head,
        *rows,
        "",
        *(_folded(f"{len(rest)} steps that are left as they are", [*head, *rest]) if rest else []),
    ]


def _params(plan: Plan) -> list[str]:
    inherited = [f"- {span(' '.join(line.split()))}" for line in inherited_lines(plan)]
    if not plan.effects:
        return [*inherited, ""] if inherited else []
    rows = [
        f"| {e.word.upper() if e.word in ('split', 'shadowed') else e.word} | {span(e.param, True)} | {span(f'{e.then} -> {e.now}', True)} | {_cell(effect_text(plan, e))} |"
        for e in plan.effects
    ]
    return ["| effect | param | change | |", "|---|---|---|---|", *rows, "", *inherited, ""]


def _gates(plan: Plan) -> list[str]:
    return (
        [*(f"- gate {_text(gate.step)}: {_text(gate_state(plan, gate))}" for gate in plan.gates), ""]
        if plan.gates
        else []
    )


def _drawing(plan: Plan) -> list[str]:
    whole = [n for n in plan.decisions if not plan.pipeline.steps[n].within]  # a fan-out is one box
    near = [n for n in whole if plan.decisions[n].name not in ("cut", "unneeded")]
    shown = whole if len(whole) <= NODES else near
    if len(shown) > NODES:
        return []
    place = {name: f"s{index}" for index, name in enumerate(shown)}
    lines = [f'  {place[n]}["{n}"]:::{_class(plan, n)}' for n in shown]
    lines += list(dict.fromkeys(
        f"  {place[box]} --> {place[n]}"
        for n in shown for part in (n, *_parts(plan, n)) for b in plan.graph.before[part] if (box := _box(plan, b)) in place and box != n
    ))  # fmt: skip
    classes = [
        "  classDef run fill:#cce5ff,stroke:#0b5cad,color:#000", "  classDef reuse fill:#d9f2d9,stroke:#2a7a2a,color:#000",
        "  classDef doubt fill:#ffd9d9,stroke:#b00020,color:#000", "  classDef rest fill:#eeeeee,stroke:#999999,color:#555",
    ]  # fmt: skip
    return _folded(
        "graph: blue runs, green is reused, red needs a decision, grey is left",
        ["```mermaid", "flowchart LR", *lines, *classes, "```"],
    )


def _box(plan: Plan, name: str) -> str:
    within = plan.pipeline.steps[name].within
    return within[0][0] if within else name


def _parts(plan: Plan, name: str) -> Iterator[str]:
    """Yield the steps that a fan-out's box stands for."""
    if plan.pipeline.steps[name].kind == "foreach":
        yield from (n for n in plan.decisions if n != name and _box(plan, n) == name)


def _class(plan: Plan, name: str) -> str:
    decision = plan.decisions[name]
    if isinstance(decision, Reuse) and not decision.verdict.sound:
        return "doubt"
    return {"run": "run", "reuse": "reuse", "cached": "reuse"}.get(decision.name, "rest")


def _changes(plan: Plan) -> list[str]:
    return (
        _folded("changed lines of reused code", _fence("\n".join(change_lines(plan)), LIMIT))
        if plan.code_changes
        else []
    )


def _notes(plan: Plan) -> list[str]:
    lines = [f"- {_text(line)}" for line in accepted_lines(plan)] + [f"- note: {_text(note)}" for note in plan.notes]
    return [*lines, ""] if lines else []


def _rejected(plan: Plan) -> list[str]:
    if not plan.reference or not plan.reference.rejected:
        return []
    return _folded(
        "newer runs that cannot be the reference run",
        [f"- `{run}`: {_text(reason)}" for run, reason in plan.reference.rejected],
    )


def _fence(text: str, room: int) -> list[str]:
    """Return text as a block of code that nothing in it can end."""
    lines = [printable(line) for line in text.split("\n")]
    while sum(len(line) + 1 for line in lines) > max(room, 200) and len(lines) > 1:
        lines = [*lines[: len(lines) // 2], "..."] if len(lines) > 2 else lines[:1]
    longest = max((len(run) for run in re.findall(r"`+", "\n".join(lines))), default=0)
    return ["`" * max(3, longest + 1), *lines, "`" * max(3, longest + 1)]


def _text(text: str) -> str:
    """Return plain words as they are, and anything else as a code span."""
    return text if _PLAIN.match(text) else span(text)


def _cell(text: str) -> str:
    return text if _PLAIN.match(text) else span(text, True)


def span(text: str, in_table: bool = False) -> str:
    """Return text as a code span that nothing in it can end; in a table `|` is escaped, as tables want it."""
    text = printable(text.replace("\n", " "))
    if in_table:
        text = text.replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text[:1] in ("`", " ", "") or text[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
