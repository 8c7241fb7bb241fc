"""Workflow commands of GitHub Actions: a failed step as an annotation of the pipeline's file."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import Diagnostic
from ..plan import Plan
from ..record import Event, RunEnded, StepEnded


def lines(event: Event, plan: Plan) -> list[str]:
    """Return the workflow commands that tell an event, if it is a failure."""
    match event:
        case StepEnded(status="failed"):
            return [
                _command("error", plan.pipeline.path, f"{plan.pipeline.name}: {event.step}", event.reason or "failed")
            ]
        case RunEnded(exit_code=code) if code:
            return [
                _command(
                    "error",
                    plan.request.path or plan.pipeline.path,
                    plan.pipeline.name,
                    f"the run {event.status}: {event.reason}",
                )
            ]
    return []


def finding_lines(plan: Plan) -> list[str]:
    """Return the findings of a plan as workflow commands."""
    file = plan.request.path or plan.pipeline.path
    return [_command("warning", file, f"{f.code} {f.subject}", f.text) for f in plan.findings]


def diagnostic_lines(diagnostics: Iterable[Diagnostic]) -> list[str]:
    """Return mistakes and warnings in files as workflow commands, each at its place."""
    return [
        _command(
            d.severity,
            d.path,
            d.code,
            f"{d.text}\n{d.help}".strip(),
            f",line={d.line},col={d.column}" if d.line else "",
        )
        for d in diagnostics
    ]


def _command(kind: str, file: str, title: str, text: str, place: str = "") -> str:
    return f"::{kind} file={_property(file)}{place},title={_property(title)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
