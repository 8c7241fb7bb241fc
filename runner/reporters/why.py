"""`runner why`: the plan's answer for one step, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..causes import brief
from ..errors import printable
from ..plan import Plan, decision_json, finding_json
from ..why import Why
from .text import finding_lines, table, why


def why_text(found: Why, plan: Plan) -> str:
    """Return what is counted for a step with then and now, its gates, and what follows."""
    decision = found.decision
    out = [f"{found.step}: {f'{decision.name}   {why(decision)}' if decision else 'finally, runs after all others'}"]
    out.append(_compared(found))
    out += _section(
        "counted",
        ("", "", "THEN", "NOW", ""),
        (
            (c.kind, c.name, brief(c.then), brief(c.now), "changed" if c.changed else "")
            for c in found.counted
            if c.changed or c.kind != "definition"
        ),
    )
    out += _section(
        "reads",
        ("STEP", "OUTPUT", "THEN", "NOW", ""),
        (
            (
                r.step,
                r.output,
                brief(r.then) or "-",
                brief(r.now) or "known once it has ended" if r.decision == "run" else brief(r.now) or "-",
                r.decision,
            )
            for r in found.reads
        ),
    )
    out += _section(
        "gates",
        ("", "", "THEN", "NOW"),
        ((g.kind, g.name, g.then or "-", g.now or "not known yet") for g in found.gates),
    )
    for finding in found.findings:
        out += ["", *finding_lines(finding)]
    if found.readers:
        out += ["", "read by " + ", ".join(f"{name} ({word})" for name, word in found.readers[:20])]
        if len(found.readers) > 20:
            out[-1] += f" and {len(found.readers) - 20} more"
    out += ["", f"plan {plan.digest}"]
    return "\n".join(printable(line) for line in out)


def _compared(found: Why) -> str:
    if found.compared is None:
        return "compared with nothing: it has never run"
    ended = found.compared.ended
    run = found.compared.record.id if found.compared.record else ended.produced_by
    return f"compared with {found.compared_why}: {ended.status} in {run}"


def _section(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    listed = [list(row) for row in rows]
    return ["", title, *(f"  {line}" for line in table([list(head), *listed]))] if listed else []


def why_value(found: Why, plan: Plan) -> dict[str, Any]:
    """Return the same as a value for JSON."""
    compared = found.compared
    return {
        "format_version": 1,
        "plan": plan.digest,
        "step": found.step,
        "decision": decision_json(found.decision) if found.decision else {"decision": "finally"},
        "compared_with": compared and {
            "run": compared.record.id if compared.record else compared.ended.produced_by,
            "status": compared.ended.status, "why": found.compared_why, "fingerprint": compared.ended.fingerprint,
        },
        "counted": [vars(one) for one in found.counted],
        "reads": [vars(one) for one in found.reads],
        "gates": [vars(one) for one in found.gates],
        "findings": [finding_json(finding) for finding in found.findings],
        "read_by": [{"step": name, "decision": word} for name, word in found.readers],
    }  # fmt: skip
