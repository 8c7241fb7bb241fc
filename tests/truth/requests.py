"""Random requests for a part of a pipeline: what is selected, with which params, against which run, in which mode."""

from __future__ import annotations

import random
from typing import Any

from .pipelines import chance
from .project import ROOT, Doc, Project, Shape, params_in

VALUES: dict[str, list[Any]] = {
    "k": [1, 2, 3], "j": [1, 2, 3], "go": [True, False], "flag": [True, False], "xs": [[1], [2, 1], [1, 2, 3], []],
    "src": ["in0.txt", "in1.txt"], "cores": [1, 2], "limit": ["1m", "2m"],
}  # fmt: skip


def values(project: Project, rng: random.Random, most: int = 2) -> dict[str, Any]:
    """Return values for some params; the ones that gate are likelier."""
    known = sorted(project["docs"][ROOT]["params"])
    weighted = [p for p in known for _ in range({"k": 4, "go": 4, "j": 2, "flag": 2}.get(p, 1))]
    count = rng.choice([0, 0, 1, 1, 1, most])
    return {p: rng.choice(VALUES[p]) for p in (rng.choice(weighted) for _ in range(count))} if weighted else {}


def target(project: Project, rng: random.Random) -> str:
    """Return a step to look at: the more comes before it, the likelier."""
    shape = Shape(project)
    return rng.choice(
        [n for n in shape.steps if n not in shape.final for _ in range(1 + 3 * min(3, len(shape.above(n))))]
    )


def request(project: Project, rng: random.Random, aim: str) -> Doc:
    """Return a request: mostly a part of the pipeline, and often just the step `aim`."""
    doc: Doc = {}
    shape = Shape(project)
    names = [n for n in shape.steps if n not in shape.final]
    if chance(rng, 90):
        doc["select"] = [aim] if aim in names and chance(rng, 45) else selection(shape, names, rng)
    if params := values(project, rng):
        doc["params"] = params
    if chance(rng, 20) and (behind := gated_inside(shape, names)):
        name, param = rng.choice(behind)
        other = [v for v in VALUES[param] if v != project["docs"][ROOT]["params"][param]["default"]]
        doc |= {"select": [name], "params": {**doc.get("params", {}), param: rng.choice(other)}}
    if chance(rng, 70):
        doc["islands"] = "allow"
    if chance(rng, 10):
        doc["mode"] = rng.choice(["incremental", "full"])
    if chance(rng, 12):
        doc["inherit"] = "defaults"
    if chance(rng, 10):
        kept = [p for p in project["docs"][ROOT]["params"] if p not in doc.get("params", {})]
        doc["reset"] = rng.sample(kept, min(len(kept), 1))
    if chance(rng, 8):
        doc["force"] = [rng.choice(names)]
    if chance(rng, 10):
        doc["failure_policy"] = "finish_independent"
    if chance(rng, 18):
        doc["reference"] = rng.choice(["latest", "RUN-1", "RUN-1", "RUN-2", {"latest": {"status": "succeeded"}}])
    conditions = [n for n in names if shape.steps[n]["kind"] == "condition" and "/" not in n]
    if conditions and chance(rng, 14):
        gate = rng.choice([n for n in conditions if n not in doc.get("select", [])] or conditions)
        doc["assume"] = {gate: rng.choice([True, False])}
    if chance(rng, 6):
        doc["exclude"] = [rng.choice([n for n in names if n not in doc.get("select", [])] or names)]
        doc["select"] = sorted({*doc.get("select", []), "+" + aim}) if aim in names else doc.get("select", ["all"])
    return doc


def gated_inside(shape: Shape, names: list[str]) -> list[tuple[str, str]]:
    """Return steps in an inner pipeline, each with a param that the `when` of the outer step reads."""
    return [
        (name, param)
        for name in names
        if "/" in name
        for param in sorted(params_in(shape.steps[name.partition("/")[0]].get("when", "")))
        if param in VALUES
    ]


def selection(shape: Shape, names: list[str], rng: random.Random) -> list[str]:
    """Return selectors; most of them without a hole."""
    name = rng.choice([n for n in names for _ in range(1 + 2 * min(3, len(shape.above(n))))])
    form = rng.randrange(100)
    if form < 40:
        return [name]
    if form < 52:
        return [f"{name}+"]
    if form < 60:
        return [f"+{name}"]
    if form < 76:
        chosen = shape.hull(set(rng.sample(names, min(len(names), 2))))
        return sorted(n for n in chosen if n not in shape.final)
    if form < 82:
        return [f"changed:{rng.choice(['any', 'any', 'code', 'params', 'inputs'])}"]
    if form < 88:
        return [rng.choice(["status:failed+", "status:not_run", "status:skipped", "status:succeeded"])]
    if form < 92:
        return [f"param:{rng.choice(['k', 'go', 'j', 'cores', 'limit'])}"]
    if form < 96:
        return [rng.choice(["roots", "leaves", "all"])]
    return [name, *(n for n in names if chance(rng, 30))]
