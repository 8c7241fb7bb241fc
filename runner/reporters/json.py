"""JSON: events one a line, plans and records as one value."""

from __future__ import annotations

import json
from typing import Any

from ..plan import Plan
from ..plan import to_json as plan_value
from ..record import Event, RunRecord
from ..record import to_json as event_value


def event_line(event: Event) -> str:
    return json.dumps(event_value(event), ensure_ascii=True)


def plan_json(plan: Plan) -> str:
    return json.dumps(plan_value(plan), indent=2, ensure_ascii=True)


def record_value(record: RunRecord) -> dict[str, Any]:
    """Return a run as one value: what was started, how each step ended, how all ended."""
    out: dict[str, Any] = {"run": record.id, "status": record.status, "started": event_value(record.started)}
    out["steps"] = {name: {"status": status, **(_end(record, name))} for name, status in record.statuses.items()}
    if record.ended:
        out["ended"] = event_value(record.ended)
    return out


def _end(record: RunRecord, name: str) -> dict[str, Any]:
    if name not in record.steps:
        return {}
    found = event_value(record.steps[name])
    return {key: value for key, value in found.items() if key not in ("event", "step", "recipe")}


def dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True)
