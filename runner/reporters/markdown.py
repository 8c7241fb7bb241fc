"""A plan as Markdown, for a comment in a review. Values are escaped; findings come first."""

from __future__ import annotations

from ..plan import Plan
from .text import plan_text, why

MARKER = "<!-- runner plan -->"


def plan_markdown(plan: Plan) -> str:
    """Return the plan as Markdown."""
    out = [MARKER, f"### {_escape(plan_text(plan).splitlines()[0])}", ""]
    for finding in plan.findings:
        out += [
            f"- **{finding.code}** {_escape(finding.text)}",
            *(f"  - `{_code(remedy.paste)}`" for remedy in finding.remedies),
        ]
    if plan.findings:
        out.append("")
    out += ["| decision | step | why |", "|---|---|---|"]
    out += [f"| {d.name} | {_escape(name)} | {_escape(why(d))} |" for name, d in plan.decisions.items()]
    out += ["", f"`{plan.digest}` · planning ran no code of this repository"]
    return "\n".join(out)


def _escape(text: str) -> str:
    for old, new in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "\\|"),
        ("`", "\\`"),
        ("@", "&#64;"),
        ("\n", " "),
    ):
        text = text.replace(old, new)
    return text


def _code(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")
