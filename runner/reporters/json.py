"""JSON: events one a line, plans and records as one value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..estimate import Estimate
from ..estimate import to_json as estimate_value
from ..plan import Plan
from ..plan import to_json as plan_value
from ..record import Event, RunRecord
from ..record import to_json as event_value
from ..reference import Candidate
from ..settings import Changed


def event_line(event: Event) -> str:
    return json.dumps(event_value(event), ensure_ascii=True)


def plan_json(plan: Plan, estimate: Estimate | None = None, candidates: Sequence[Candidate] = ()) -> str:
    """Return a plan as JSON (schemas/plan.schema.json)."""
    return dump(_plan(plan, estimate, candidates))


def _plan(plan: Plan, estimate: Estimate | None, candidates: Sequence[Candidate] = ()) -> dict[str, Any]:
    value = plan_value(plan)
    if estimate:
        value["estimate"] = estimate_value(estimate)
    if candidates:
        value["references"] = [vars(candidate) for candidate in candidates]
    return value


def folder_json(
    results: Sequence[tuple[str, tuple[Plan, Estimate] | str]],
    nothing: str,
    settings: Sequence[tuple[str, Changed]] = (),
) -> str:
    """Return the plans of several requests as a list; what cannot be planned has its error, a runner.toml its changes."""
    return dump(
        [
            *({"path": path, **_settings(change)} for path, change in settings),
        ]
        + [
            {"path": path, "error": found} if isinstance(found, str) else {"path": path, "plan": _plan(*found)}
            for path, found in results
        ]
    )


def _settings(change: Changed) -> dict[str, Any]:
    if change.error:
        return {"file": change.file, "error": change.error}
    values = [{"key": key, "base": _value(base), "now": _value(now)} for key, base, now in change.keys]
    return {"file": change.file, "settings": values}


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text, parse_constant=str)  # JSON knows no NaN


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
