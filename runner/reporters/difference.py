"""What differs between two runs, as text, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compare import Change, Difference, MetricChange, statement
from ..errors import printable
from ..values import short
from .markdown import span
from .text import seconds, table

Section = tuple[str, list[list[str]]]


def _brief(text: str) -> str:
    return short(text) if text.startswith("sha256:") else text


def _rows(changes: Iterable[Change]) -> list[list[str]]:
    return [[c.what, _brief(c.then), "->", _brief(c.now)] for c in changes]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _metric(metric: MetricChange) -> list[str]:
    change = "" if metric.change is None else f"{metric.change:+.4g}"
    if metric.change is not None and metric.then:
        change += f" ({metric.change / abs(metric.then) * 100:+.1f} %)"
    return [f"{metric.step}/{metric.name}", _number(metric.then), "->", _number(metric.now), change]


def _sections(found: Difference) -> list[Section]:
    return [
        ("status", _rows(found.statuses)), ("params", _rows(found.params)), ("metrics", [_metric(m) for m in found.metrics]),
        ("code", _rows(found.code)), ("inputs", _rows(found.inputs)), ("outputs", _rows(found.outputs)),
        ("durations", [[n, seconds(a), "->", seconds(b)] for n, a, b in found.durations]),
    ]  # fmt: skip


def difference_text(found: Difference) -> str:
    out = [f"{found.then.id} ({found.then.status})  ->  {found.now.id} ({found.now.status})"]
    sections = [(title, rows) for title, rows in _sections(found) if rows]
    for title, rows in sections:
        out += ["", title, *(f"  {line}" for line in table(rows))]
    if not any(title != "durations" for title, _ in sections):
        out += ["", "nothing differs but how long it took"]
    statements = [printable(statement(m)) for m in found.metrics]
    return "\n".join([*out, *(["", *statements] if statements else [])])


def difference_markdown(found: Difference) -> str:
    out = [f"### `{found.then.id}` → `{found.now.id}`", ""]
    for title, rows in _sections(found):
        if rows:
            out += [f"**{title}**", "", "| | then | now | |", "|---|---|---|---|", *(_row(row) for row in rows), ""]
    return "\n".join([*out, *(f"- {span(statement(m))}" for m in found.metrics)]).rstrip()


def _row(row: Sequence[str]) -> str:
    cells = [cell for cell in row if cell != "->"]
    return "| " + " | ".join(span(cell, True) if cell else "" for cell in [*cells, ""][:4]) + " |"


def difference_json(found: Difference) -> dict[str, Any]:
    """Return the difference as JSON."""
    sections = {name: getattr(found, name) for name in ("params", "code", "inputs", "outputs", "statuses")}
    return {
        "then": found.then.id,
        "now": found.now.id,
        **{name: [vars(change) for change in changes] for name, changes in sections.items()},
        "metrics": [
            {
                "step": m.step, "name": m.name, "then": m.then, "now": m.now, "change": m.change,
                "factors": [c.to_json() for c in m.factors], "path": list(m.path), "statement": statement(m),
            }
            for m in found.metrics
        ],
        "durations": [{"step": n, "then": a, "now": b} for n, a, b in found.durations],
    }  # fmt: skip
