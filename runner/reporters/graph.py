"""A pipeline's graph as text, Mermaid, DOT and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..graph import Graph
from ..pipeline import Pipeline, Step

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
    width = max(map(len, (*graph.order, *pipeline.finals)))
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
        if step.foreach:
            parts.append(_each(step))
        lines.append(f"{name:<{width}}  {step.kind:<9}  {'; '.join(parts)}".rstrip())
    lines += [f"{name:<{width}}  {step.kind:<9}  finally" for name, step in pipeline.finals.items()]
    return "\n".join(lines)


def _each(step: Step) -> str:
    """Return what a fan-out is repeated for."""
    assert step.foreach
    return f"for each {', '.join(step.foreach.over)}" if step.foreach.over else "for each of its list"


def _label(step: Step) -> str:
    return f"{step.name} {_each(step)}" if step.foreach else step.name


def graph_mermaid(pipeline: Pipeline, graph: Graph) -> str:
    ids = {name: f"s{i}" for i, name in enumerate(graph.order)}
    lines = ["flowchart TD"]
    for name in graph.order:
        step = pipeline.steps[name]
        left, right = ("[[", "]]") if step.foreach else _SHAPES.get(step.kind, ("[", "]"))
        lines.append(f'  {ids[name]}{left}"{_label(step)}"{right}')
    for prior, name, why in edges(pipeline, graph):
        arrow = {"data": "-->", "order": "-.->"}.get(why, f"-->|{why}|")
        lines.append(f"  {ids[prior]} {arrow} {ids[name]}")
    if pipeline.finals:
        lines += ["  subgraph finally", *(f'    f{i}["{name}"]' for i, name in enumerate(pipeline.finals)), "  end"]
    return "\n".join(lines)


def graph_dot(pipeline: Pipeline, graph: Graph) -> str:
    lines = [f"digraph {json.dumps(pipeline.name)} {{"]
    lines += [f"  {_dot_node(pipeline.steps[name])};" for name in graph.order]
    lines += [f"  {json.dumps(name)} [style=rounded, shape=box];" for name in pipeline.finals]
    for prior, name, why in edges(pipeline, graph):
        style = {"data": "", "order": " [style=dashed]"}.get(why, f' [label="{why}"]')
        lines.append(f"  {json.dumps(prior)} -> {json.dumps(name)}{style};")
    return "\n".join([*lines, "}"])


def _dot_node(step: Step) -> str:
    label = f" [label={json.dumps(_label(step))}, peripheries=2]" if step.foreach else ""
    return json.dumps(step.name) + label


def graph_value(pipeline: Pipeline, graph: Graph) -> dict[str, Any]:
    return {
        "pipeline": pipeline.name,
        "steps": {n: _step_value(pipeline.steps[n]) for n in graph.order},
        "finally": {n: _step_value(step) for n, step in pipeline.finals.items()},
        "edges": [{"from": a, "to": b, "why": why} for a, b, why in edges(pipeline, graph)],
    }


def _step_value(step: Step) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": step.kind, "tags": sorted(step.tags)}
    return {**out, "foreach": list(step.foreach.over)} if step.foreach else out
