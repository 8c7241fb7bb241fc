"""A report as Markdown: a row for each work, a column for each tool, ours and its goal last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def markdown(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the tables of a report."""
    machine, rows = report["machine"], report["rows"]
    limits = machine["limits"]
    yield (
        f"Python {machine['python']}, {machine['processors']} processors, {machine['machine']}, load {machine['load']:.1f}. "
        f"In the same minutes: one `true` by posix_spawn {limits['spawn'] * 1000:.2f} ms in {limits['by']}, "
        f"{limits['spawn_python'] * 1000:.2f} ms in Python; an append with fdatasync {limits['fsync'] * 1000:.1f} ms; "
        f"sha256 {limits['sha256'] / 1e9:.2f} GB/s; an interpreter {limits['interpreter'] * 1000:.0f} ms."
    )
    yield ""
    names = [n for n in report["tools"] if n != "ours" and any(n in row["tools"] for row in rows)]
    yield "| work | limit | " + " | ".join([*names, "**ours**", "goal", "x ninja", "CPU of ours", "memory"]) + " |"
    yield "|---|--:|" + "--:|" * (len(names) + 5)
    for row in rows:
        yield "| " + " | ".join(_cells(row, names)) + " |"
    notes = [f"{row['title']}: {name}: {why}" for row in rows for name, why in row["notes"].items()]
    yield from ["", *(f"- {note}" for note in notes)] if notes else []
    yield ""
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in report["tools"].items()) + "."


def _cells(row: Mapping[str, Any], names: list[str]) -> Iterator[str]:
    tools = row["tools"]
    ours = tools.get("ours")
    yield row["title"]
    yield seconds(row["limit"]) if row["limit"] else ""
    for name in names:
        yield seconds(tools[name]["seconds"]) if name in tools else ""
    yield f"**{seconds(ours['seconds'])}**" if ours else ""
    yield seconds(row["goal"]) if row["goal"] else ""
    yield f"{ours['against']['ninja']:.2f}" if ours and "ninja" in ours["against"] else ""
    yield seconds(ours["cpu"]) if ours else ""
    yield f"{ours['memory']:.0f} MB" if ours else ""


def seconds(value: float) -> str:
    """Return seconds with three figures, at most three places."""
    return f"{value:.3f}" if value < 0.9995 else f"{value:.2f}" if value < 99.5 else f"{value:.0f}"
