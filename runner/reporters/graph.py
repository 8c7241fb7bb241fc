"""A pipeline's graph as text, Mermaid, DOT and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..graph import Graph
from ..pipeline import Pipeline

_SHAPES = {"condition": ("{", "}"), "fail": ("([", "])")}


def edges(pipeline: Pipeline, graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Yield (from, to, why); why is data, order, or the outcome of a condition."""
    for name in graph.order:
        step = pipeline.steps[name]
        for prior in graph.before[name]:
            if step.branch and step.branch.condition == prior:
                yield prior, name, "true" if step.branch.outcome else "false"
            else:
                yield prior, name, "data" if prior in step.reads else "order"


def graph_text(pipeline: Pipeline, graph: Graph) -> str:
    width = max(map(len, graph.order))
    lines = []
    for name in graph.order:
        step = pipeline.steps[name]
        parts = []
        data = [p for p in graph.before[name] if p in step.reads]
        order = [
            p for p in graph.before[name] if p not in step.reads and not (step.branch and p == step.branch.condition)
        ]
        if data:
            parts.append(f"reads {', '.join(data)}")
        if order:
            parts.append(f"after {', '.join(order)}")
        if step.branch:
            parts.append(f"if {step.branch.condition} is {'true' if step.branch.outcome else 'false'}")
        lines.append(f"{name:<{width}}  {step.kind:<9}  {'; '.join(parts)}".rstrip())
    return "\n".join(lines)


def graph_mermaid(pipeline: Pipeline, graph: Graph) -> str:
    ids = {name: f"s{i}" for i, name in enumerate(graph.order)}
    lines = ["flowchart TD"]
    for name in graph.order:
        left, right = _SHAPES.get(pipeline.steps[name].kind, ("[", "]"))
        lines.append(f'  {ids[name]}{left}"{name}"{right}')
    for prior, name, why in edges(pipeline, graph):
        arrow = {"data": "-->", "order": "-.->"}.get(why, f"-->|{why}|")
        lines.append(f"  {ids[prior]} {arrow} {ids[name]}")
    return "\n".join(lines)


def graph_dot(pipeline: Pipeline, graph: Graph) -> str:
    lines = [f"digraph {json.dumps(pipeline.name)} {{"]
    lines += [f"  {json.dumps(name)};" for name in graph.order]
    for prior, name, why in edges(pipeline, graph):
        style = {"data": "", "order": " [style=dashed]"}.get(why, f' [label="{why}"]')
        lines.append(f"  {json.dumps(prior)} -> {json.dumps(name)}{style};")
    return "\n".join([*lines, "}"])


def graph_value(pipeline: Pipeline, graph: Graph) -> dict[str, Any]:
    steps = {n: {"kind": pipeline.steps[n].kind, "tags": sorted(pipeline.steps[n].tags)} for n in graph.order}
    return {
        "pipeline": pipeline.name,
        "steps": steps,
        "edges": [{"from": a, "to": b, "why": why} for a, b, why in edges(pipeline, graph)],
    }
